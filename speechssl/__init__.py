"""speechssl: learn speech from unlabeled audio, transcribe it after a few labelled minutes.

>>> import speechssl
>>> model = speechssl.load("runs/finetune")          # doctest: +SKIP
>>> speechssl.transcribe(model, "a.wav").text        # doctest: +SKIP
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from speechssl.checkpoint import Checkpoint
    from speechssl.inference.extract import Features
    from speechssl.inference.transcribe import Transcript

__version__ = "0.1.0"
__all__ = ["__version__", "extract", "load", "transcribe"]


def load(path: str | Path) -> "Checkpoint":
    """A model folder, or the best model of a run folder.

    Raises FileNotFoundError or ValueError with a sentence that names what is missing or damaged.
    """
    from speechssl.checkpoint import load_model

    return load_model(path)


def transcribe(model: "Checkpoint", source: "str | Path | np.ndarray") -> "Transcript":
    """What is said in a file, or in a wave (S,) float32 at the model's sample rate.

    Raises ValueError where the model was only pretrained or the file cannot be read, and
    FileNotFoundError where there is none.
    """
    import numpy as np

    from speechssl.inference.transcribe import transcribe_files, transcribe_waves

    if isinstance(source, np.ndarray):
        return transcribe_waves(model, [source])[0]
    (result,) = transcribe_files(model, [source])
    if isinstance(result, Exception):
        raise result
    return result


def extract(model: "Checkpoint", source: "str | Path | np.ndarray", layer: int = -1) -> "Features":
    """Frames (T, D) of a layer, with their times; 0 is the first layer's input, -1 the last layer."""
    from speechssl.inference.extract import extract as extract_frames

    return extract_frames(model, source, layer)
