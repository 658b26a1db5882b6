"""The tasks ``ctc`` and ``phones``: transcripts beside self-supervision, where some utterances have
them.

One step trains the same encoder on what is said in the utterances that have a transcript, and with
the run's other tasks on all of them (UniSpeech, arXiv:2101.07597, section 3; JUST,
arXiv:2111.08137). Labeled and unlabeled utterances lie in the same batches: several manifests are
mixed by ``mix_temperature``, and an utterance without text adds nothing here.

    loss = sum over labeled utterances of -log p(text | speech), per symbol

Adapted: UniSpeech writes phonemes of many languages with one head; here the symbols are the
characters of the transcripts, with one head over all corpora or one for each (``alphabets``), whose
characters may mean different sounds. ``phones`` is the same loss on a manifest's `ipa`, with a
head and an alphabet of its own, so that both can be learned at once, each at the layers that it
names. The codes that UniSpeech puts in the place of some frames below its CTC layer are left out:
they tie that layer to a learned codebook, which only the task contrastive has. Nothing is
normalised within a micro-batch: the sum over utterances is divided by the symbols of the whole
update, as in fine-tuning, so that k micro-batches are one large batch.

An utterance whose transcript does not fit into its frames, or holds a character that is not in the
alphabet, has no finite loss or one that cannot be reached; it is left out, and the share of those
is logged (``ctc/left_out``). In validation nothing is masked, and the character error rate of
greedy decoding counts all transcripts, those that are left out of the loss too.

Shapes: B batch, T rows of output, V symbols with the blank, which is symbol 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from speechssl.config.bounds import Count, Weight, check_fields
from speechssl.device import send
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import SpeechModel
from speechssl.pretext import ctc
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.signal import Signal
from speechssl.pretext.task import (
    LossTerm,
    Needs,
    PretextTask,
    Resources,
    TaskConfig,
    TaskLoss,
    View,
)
from speechssl.text import UNKNOWN_ID, Tokenizer


@dataclass(frozen=True)
class CTCConfig(TaskConfig):
    """Which alphabets there are, and what the head is given."""

    name: ClassVar[str] = "ctc"
    uses_text: ClassVar[bool] = True
    weight: Weight = 1.0
    """Weight of the task in the loss."""
    alphabets: Literal["one", "per_corpus"] = "one"
    """``one``: a head for all corpora. ``per_corpus``: a head for each manifest of --train, where
    one character stands for different sounds; that of the first manifest is kept in the model
    folder, and validates the manifest of --valid."""
    mask: bool = True
    """Whether the utterance is masked as for the run's other tasks, whose forward pass then serves
    this one too. Validation is not masked."""
    upsample: Count = 1
    """Rows of output per frame: 2 where people speak faster than the frames allow."""

    def __post_init__(self) -> None:
        check_fields(self, self.name)

    @property
    def signals(self) -> tuple[Signal, ...]:
        name, what = self.name, "phones" if self.uses_phones else "characters"
        return (
            Signal(
                name,
                "CTC loss of phones" if self.uses_phones else "CTC loss",
                "Nats per symbol of the transcripts. Dotted: chance, the entropy of the symbols.",
                training=f"loss/{name}",
                chance=f"{name}/chance",
                chance_of="a model that knows when a symbol occurs and how frequent each is, but "
                "not which one it is",
            ),
            Signal(
                f"{name}/cer",
                "phone error rate of the task phones"
                if self.uses_phones
                else "CER of the task ctc",
                "Greedy decoding of the unmasked validation utterances that have text.",
                "share",
            ),
            Signal(
                f"{name}/left_out",
                "phone transcripts left out" if self.uses_phones else "transcripts left out",
                f"Transcripts that do not fit into their frames or hold unknown {what}.",
                "share",
                alarm_from=0.05,
                finding="transcripts left out of the loss",
                evidence=f"{{{name}/too_long:%}} of the validation transcripts are longer than "
                f"their frames allow, and {{{name}/unknown:%}} hold {what} that the training "
                "transcripts do not have.",
                advice=f"For what is too long raise --{name}.upsample (now {{{name}.upsample}}), "
                "or check that transcripts and recordings belong together; for unknown "
                f"{what} write all transcripts in one spelling.",
                in_overview=False,
            ),
        )

    def build(self, model: SpeechModel, resources: Resources) -> "CTCTask":
        tokenizer = resources.phone_tokenizer if self.uses_phones else resources.tokenizer
        assert tokenizer is not None  # it uses text, or phones
        num_heads = resources.num_corpora if self.alphabets == "per_corpus" else 1
        return CTCTask(self, model.config.context.dim, tokenizer, num_heads)


class CTCTask(PretextTask):
    """The CTC loss of the utterances that have a transcript."""

    title = "transcripts of a part of the utterances (CTC)"

    def __init__(
        self, config: CTCConfig, width: int, tokenizer: Tokenizer, num_heads: int = 1
    ) -> None:
        """`width` of the context; `num_heads`: 1, or the number of corpora."""
        super().__init__()
        self.config, self.tokenizer, self.name = config, tokenizer, config.name
        if config.uses_phones:
            self.title = "phones of a part of the utterances (CTC)"
        self.view = View(mask="run" if config.mask else None)
        self.needs = Needs(views=(self.view,))
        self.heads: Sequence[CTCHead] = nn.ModuleList(  # type: ignore[assignment]
            CTCHead(width, tokenizer.vocab_size, config.upsample) for _ in range(num_heads)
        )

    @property
    def alphabet(self) -> Tokenizer:
        return self.tokenizer

    @property
    def recogniser(self) -> CTCHead | None:
        """The head of all corpora, or of the first; phones are no transcript."""
        return None if self.config.uses_phones else self.heads[0]

    @property
    def heads_for_use(self) -> CTCHead | None:
        """The same of phones."""
        return self.heads[0] if self.config.uses_phones else None

    def saved_fields(self) -> dict[str, object]:
        return {"symbols": list(self.tokenizer.symbols)}

    def _texts(self, x: Inputs) -> tuple[str, ...]:
        return x.ipa if self.config.uses_phones else x.texts

    def _head_of(self, corpus: int) -> int:
        if len(self.heads) == 1:
            return 0
        if corpus >= len(self.heads):
            raise ValueError(
                f"{self.name}.alphabets per_corpus has a head for each of the {len(self.heads)} "
                f"manifests of --train, and an utterance is of manifest {corpus + 1}."
            )
        return corpus

    def labels(self, x: Inputs) -> ctc.Labels:
        """Which transcripts are learned from, on the host."""
        heads = [self._head_of(corpus) for corpus in x.corpora]
        lengths = (x.frames * self.config.upsample).tolist()
        return ctc.sort_labels(self._texts(x), lengths, heads, self.tokenizer)

    def counts(self, x: Inputs) -> dict[str, int]:
        return {f"{self.name}_symbols": self.labels(x).num_symbols}

    def forward(self, x: Inputs) -> TaskLoss:
        labels = self.labels(x)
        view = self.view if self.training else View(mask=None)
        context = x.encode(view).context  # (B, T, D)
        lengths = x.frames * self.config.upsample
        parts = []
        for number, head in enumerate(self.heads):
            chosen = labels.rows.get(number, [])
            rows = torch.tensor(chosen, dtype=torch.long)  # (N,), N may be 0
            weights = [x.weights[row] for row in chosen]
            log_probs = head(context.index_select(0, send(rows, x.device)))  # (N, T, V)
            parts.append(
                ctc.ctc_loss(
                    log_probs, lengths[rows], labels.ids[number], weights if x.batch.weights else ()
                )
                if len(rows)
                else log_probs.sum() * 0 + context.float().sum() * 0
            )
        total = torch.stack(parts).sum()
        metrics = {}
        if labels.num_texts:
            share = (labels.too_long + labels.unknown) / labels.num_texts
            metrics[f"{self.name}/left_out"] = total.new_tensor(share)
        gathered = {} if self.training else self._errors(x, context, labels)
        term = LossTerm(total, f"{self.name}_symbols", self.config.weight)
        return TaskLoss({self.name: term}, metrics, gathered=gathered)

    @torch.no_grad()
    def _errors(self, x: Inputs, context: Tensor, labels: ctc.Labels) -> dict[str, Tensor]:
        """For the metrics of a validation: of each transcript the characters and the errors of
        greedy decoding, which are left out, and all symbols that are learned from."""
        lengths = (x.frames * self.config.upsample).tolist()
        counted = []
        for row, (text, corpus) in enumerate(zip(self._texts(x), x.corpora, strict=True)):
            if not (ids := self.tokenizer.encode(text)):
                continue
            head = self.heads[self._head_of(corpus)]
            (output,) = ctc.best_path(head(context[row : row + 1]), lengths[row : row + 1])
            # An unknown character is not what the model outputs, even where it is the same symbol.
            reference = [-1 if i == UNKNOWN_ID else i for i in ids]
            counted.append((len(ids), ctc.edit_distance(reference, output)))
        symbols = [
            (head, symbol)
            for head, rows in sorted(labels.ids.items())
            for ids in rows
            for symbol in ids
        ]
        return {
            f"{self.name}/errors": torch.tensor(counted, dtype=torch.long).reshape(-1, 2),
            f"{self.name}/symbols": torch.tensor(symbols, dtype=torch.long).reshape(-1, 2),
            f"{self.name}/left_out": torch.tensor([[labels.too_long, labels.unknown]]),
        }

    def summarize(self, tallies: dict[str, Tensor]) -> dict[str, float]:
        """CER, chance line and the shares of transcripts that are left out, over a validation."""
        errors = tallies[f"{self.name}/errors"]  # (N, 2)
        if not len(errors):
            return {}
        length, wrong = errors.sum(0).tolist()
        too_long, unknown = tallies[f"{self.name}/left_out"].sum(0).tolist()
        symbols = tallies[f"{self.name}/symbols"]  # (M, 2): head, symbol
        of_heads = [
            symbols[symbols[:, 0] == number, 1].tolist() for number in range(len(self.heads))
        ]
        chance = sum(ctc.ctc_chance([ids]) * len(ids) for ids in of_heads) / max(len(symbols), 1)
        return {
            f"{self.name}/cer": wrong / length,
            f"{self.name}/chance": chance,
            f"{self.name}/left_out": (too_long + unknown) / len(errors),
            f"{self.name}/too_long": too_long / len(errors),
            f"{self.name}/unknown": unknown / len(errors),
        }
