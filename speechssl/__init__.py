"""speechssl: learn speech from unlabeled audio, transcribe it after a few labelled minutes.

>>> import speechssl
>>> model = speechssl.load("runs/finetune")                    # doctest: +SKIP
>>> speechssl.transcribe(model, "a.wav").text                  # doctest: +SKIP
>>> speechssl.extract(model, "a.wav", layer=4).frames          # doctest: +SKIP

The import is quick: torch is loaded by the first function that needs it.
"""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from speechssl.checkpoint import Checkpoint
    from speechssl.inference.extract import Features, Weights
    from speechssl.inference.frontend import FrontEnd
    from speechssl.inference.transcript import Transcript

__version__ = "0.1.0"
__all__ = ["FrontEnd", "__version__", "extract", "load", "transcribe"]


def __getattr__(name: str) -> object:
    """FrontEnd, whose module loads torch, when it is first asked for."""
    if name == "FrontEnd":
        from speechssl.inference.frontend import FrontEnd

        return FrontEnd
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load(path: str | Path) -> "Checkpoint":
    """A model folder, the best model of a run folder, or somebody else's model.

    That is a folder of transformers, a hub id, a fairseq ``.pt`` or ``torchaudio:NAME``. Raises
    FileNotFoundError or ValueError with a sentence that names what is missing or damaged.
    """
    from speechssl.interop.sources import open_model
    from speechssl.model.fast.accelerate import accelerate

    checkpoint = open_model(path)
    accelerate(checkpoint.model)
    return checkpoint


def transcribe(
    model: "Checkpoint",
    source: "str | Path | np.ndarray",
    *,
    beam: int | None = None,
    lm: "str | Path | None" = None,
    word_lm: "str | Path | None" = None,
    hotwords: "str | Path | Mapping[str, float] | Iterable[str] | None" = None,
    num_best: int | None = None,
) -> "Transcript":
    """What is said in a file, or in a wave (S,) float32 at the model's sample rate; of any length.

    Greedily, or by beam search with so many prefixes, with language models (ARPA files; the second
    one is of words), with hotwords (a file, or words and phrases, perhaps with weights), and with
    the `num_best` best texts of each stretch of speech as the transcript's `alternatives`.

    Raises ValueError where the model was only pretrained or the file cannot be read, and
    FileNotFoundError where there is none.
    """
    from speechssl.inference.decoders import choose_decoder
    from speechssl.inference.transcribe import transcribe as transcribe_one

    decode = choose_decoder(
        model, beam=beam, lm=lm, word_lm=word_lm, hotwords=hotwords, num_best=num_best
    )
    for note in getattr(decode, "notes", ()):
        warnings.warn(note, stacklevel=2)
    return transcribe_one(model, source, decode=decode)


def extract(
    model: "Checkpoint",
    source: "str | Path | np.ndarray",
    layer: int = -1,
    *,
    weights: "Weights | None" = None,
) -> "Features":
    """Frames (T, D) of a layer, with their times; 0 is the first layer's input, -1 the last layer.

    `weights` instead gives the sum of all layers from 0 on with these weights, or their ``"mean"``.
    Raises as :func:`transcribe`, and ValueError for a layer that is not there.
    """
    from speechssl.inference.extract import extract as extract_frames

    return extract_frames(model, source, layer, weights=weights)
