"""Parts of a micro-batch: what processes that share one must do so that it stays what it is in one.

Everything random of a part is drawn for the whole micro-batch, and the part's rows of it are used.

Shapes: B utterances of a part, V views of each, one after the other.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from torch import Tensor

from speechssl.data.dataset import Batch
from speechssl.model.dropout import part_of_batch
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext.task import MaskConfig
from speechssl.pretext.tasks import Tasks

if TYPE_CHECKING:
    from speechssl.training.pretrain import PretrainConfig


def drawn_as_whole(batch: Batch, model: SpeechModel) -> AbstractContextManager[None]:
    """In here dropout drops of a part what it would drop in the whole micro-batch."""
    if batch.cut is None:
        return nullcontext()
    frames = model.frame_lengths(batch.cut.lengths)
    return part_of_batch(batch.cut.rows, len(frames), int(frames.max()))


def whole_lengths(batch: Batch, views: int = 1) -> Tensor:
    """(V * W,) samples of all utterances of the micro-batch that this is a part of."""
    return (batch.lengths if batch.cut is None else batch.cut.lengths).repeat(views)


def rows_of_part(batch: Batch, views: int = 1) -> list[int]:
    """The (V * B,) rows of this part in what is drawn for :func:`whole_lengths`."""
    rows = range(len(batch.ids)) if batch.cut is None else batch.cut.rows
    num = len(whole_lengths(batch))
    return [view * num + row for view in range(views) for row in rows]


def why_whole(config: "PretrainConfig", tasks: Tasks) -> str:
    """Why processes cannot share a micro-batch of a pretraining; '' where they can."""
    if names := [task.name for task in tasks if not task.by_utterance]:
        return f"the task {names[0]} needs whole ones"
    if config.balance != "none":
        return f"balance {config.balance} measures whole ones"
    masks = [config.mask, *(view.mask for view in tasks.needs.views)]
    if any(isinstance(mask, MaskConfig) and mask.speech_only for mask in masks):
        return "masks of speech only are drawn for whole ones"
    if config.length_grid == "on":
        return "length_grid pads whole ones"
    context = config.model.context
    drops = context.dropout or context.attention_dropout or context.activation_dropout
    if names := [task.name for task in tasks if drops and not task.needs.views]:
        return f"dropout in the segments of the task {names[0]} is drawn for whole ones"
    return ""


def summed(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The sums, by name, over all processes; one without an utterance has no names."""
    totals: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            totals[name] = totals.get(name, 0.0) + value
    return totals
