"""What the tasks of a run write with: tokenizers of transcripts and phones, and the model whose
symbols are kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from speechssl.checkpoint import Checkpoint
from speechssl.data.manifest import Utterance
from speechssl.model.fast.accelerate import accelerate
from speechssl.pretext.tasks import TaskConfigs
from speechssl.pretext.teacher import Recogniser
from speechssl.spelling import is_blank
from speechssl.text import CharTokenizer, PhoneTokenizer, Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from speechssl.training.pretrain import PretrainConfig

_PHONES, _TEACHER = Path("alphabets", "phones"), Path("alphabets", "teacher")
"""Folders in that of a run."""


@dataclass(frozen=True)
class Alphabets:
    """Each is None where no task of the run asks for it."""

    text: Tokenizer | None = None
    """Of the transcripts."""
    phones: Tokenizer | None = None
    """Of the transcripts as phones."""
    recogniser: Recogniser | None = None
    """The frozen model of --init."""

    @classmethod
    def choose(
        cls, config: "PretrainConfig", train_set: Sequence[Utterance], init: Checkpoint | None
    ) -> "Alphabets":
        """Those of a run.

        Raises ValueError where the training set has no transcript, or `init` no CTC head, and a
        task needs them.
        """
        tasks = config.tasks
        text = _trained_on_text(tasks, train_set) if tasks.uses_text else None
        phones = _trained_on_phones(tasks, train_set) if tasks.uses_phones else None
        recogniser = None
        if tasks.uses_recogniser and init is not None:
            names = ", ".join(task.name for task in tasks if task.uses_recogniser)
            try:
                model, tokenizer = init.require_ctc()
            except ValueError as error:
                raise ValueError(
                    f"{names} keeps what the model of --init transcribes, and it has no CTC head: "
                    f"name one that was taught to transcribe, or leave {names} out of --tasks."
                ) from error
            frozen = Recogniser.frozen(model, tokenizer).model
            recogniser = Recogniser(tokenizer, None if frozen is None else accelerate(frozen))
        return cls(text, phones, recogniser)

    def save(self, run: Path) -> None:
        """Write the tokenizers into a run's folder."""
        teacher = None if self.recogniser is None else self.recogniser.tokenizer
        for folder, tokenizer in (("", self.text), (_PHONES, self.phones), (_TEACHER, teacher)):
            if tokenizer is not None:
                (run / folder).mkdir(parents=True, exist_ok=True)
                tokenizer.save(run / folder)

    @classmethod
    def load(cls, run: Path, tasks: TaskConfigs) -> "Alphabets":
        """Those of a run's folder, without the weights of the model of --init; errors as in
        :func:`load_tokenizer`."""
        return cls(
            load_tokenizer(run) if tasks.uses_text else None,
            load_tokenizer(run / _PHONES) if tasks.uses_phones else None,
            Recogniser(load_tokenizer(run / _TEACHER)) if tasks.uses_recogniser else None,
        )


NO_ALPHABETS = Alphabets()
"""Of a run whose tasks look at no transcript."""


def _trained_on_text(tasks: TaskConfigs, train_set: Sequence[Utterance]) -> Tokenizer:
    """The characters of the training transcripts."""
    texts = [u.text for u in train_set if u.text and u.is_labeled]
    if not texts:
        names = ", ".join(task.name for task in tasks if task.uses_text)
        raise ValueError(
            f"{names} learns from transcripts, and --train has none: give a manifest with text, or "
            "leave it out of --tasks."
        )
    return CharTokenizer.train(texts)


def _trained_on_phones(tasks: TaskConfigs, train_set: Sequence[Utterance]) -> Tokenizer:
    """The phones of the training transcripts."""
    phones = [u.ipa for u in train_set if u.ipa and not is_blank(u.ipa)]
    if not phones:
        names = ", ".join(task.name for task in tasks if task.uses_phones)
        raise ValueError(
            f"{names} learns from transcripts as phones, and --train has none: give a manifest "
            'whose lines have "ipa", or leave it out of --tasks.'
        )
    return PhoneTokenizer.train(phones)
