"""Where a MODEL comes from: a folder of ours or of transformers, a hub id, a fairseq file, or a
bundle of torchaudio."""

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from speechssl.checkpoint import Checkpoint, load_model, save_model
from speechssl.interop import torchaudio
from speechssl.interop.fairseq import read_fairseq
from speechssl.interop.folders import is_transformers_folder, read_folder, write_folder
from speechssl.interop.proof import Proof, against_module, against_transformers

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = ("*.json", "*.safetensors", "*.txt")


@dataclass(frozen=True)
class Hub:
    """How the hub is asked, as in huggingface_hub."""

    revision: str | None = None
    cache_dir: Path | None = None
    offline: bool = False
    """Only what lies in the cache; so does HF_HUB_OFFLINE=1."""
    token: str | None = None
    """Default: HF_TOKEN, or the one that ``hf auth login`` stored."""


@dataclass(frozen=True)
class Reading:
    """What a source cannot say itself."""

    hub: Hub = field(default_factory=Hub)
    language: str | None = None
    """Of an MMS model, whose vocabulary and adapter are read."""
    trust_pickle: bool = False
    """Of a fairseq file, as in :func:`read_fairseq`."""
    dictionary: Path | None = None
    """Of a fairseq file with a CTC head."""


def open_model(source: str | Path, reading: Reading | None = None) -> Checkpoint:
    """The model that a person means by MODEL.

    Args:
        source: a model folder or run folder of ours, a folder of transformers, a hub id
            (``facebook/wav2vec2-base``) where there is no such folder, a fairseq ``.pt``, or
            ``torchaudio:WAV2VEC2_BASE``.
        reading: what the source cannot say itself.

    Raises FileNotFoundError or ValueError naming what is missing, damaged or not known here.
    """
    checkpoint, _ = _open(str(source), reading or Reading())
    return checkpoint


def import_model(
    source: str, out: Path, *, reading: Reading | None = None, verify: bool = True
) -> Proof | None:
    """Write a foreign model as a model folder of ours, after the proof that it computes the same.

    Raises as :func:`open_model`, ImportError where the proof's peer is not installed, and
    UnequalOutputsError, with nothing written.
    """
    checkpoint, prove = _open(source, reading or Reading())
    if prove is None:
        raise ValueError(f"{source} is a model folder of speechssl already.")
    proof = None
    if verify:
        proof = prove()
        proof.check()
    said: dict[str, Any] = {"verified": proof.as_data() if proof else "no: --no-verify"}
    save_model(out, replace(checkpoint, meta={**checkpoint.meta, "source": source, **said}))
    return proof


def _open(source: str, reading: Reading) -> tuple[Checkpoint, Callable[[], Proof] | None]:
    """The model, and how to prove that it computes the same as its source; None for ours."""
    if source.startswith(torchaudio.PREFIX):
        checkpoint, peer = torchaudio.read_bundle(source)
        return checkpoint, lambda: against_module(checkpoint, peer, source)
    place = Path(source)
    if place.suffix in (".pt", ".pth") and not place.is_dir():
        checkpoint = read_fairseq(
            place, trust_pickle=reading.trust_pickle, dictionary=reading.dictionary
        )
        return checkpoint, lambda: through_transformers(checkpoint)
    folder = find_folder(source, reading.hub)
    if is_transformers_folder(folder):
        checkpoint = read_folder(folder, language=reading.language)
        return checkpoint, lambda: against_transformers(checkpoint, folder, reading.language)
    return load_model(folder), None


def through_transformers(checkpoint: Checkpoint) -> Proof:
    """A model against transformers running the same tensors: for sources whose own code cannot be
    installed."""
    with tempfile.TemporaryDirectory() as place:
        write_folder(checkpoint, Path(place))
        return against_transformers(checkpoint, Path(place))


def find_folder(source: str | Path, hub: Hub) -> Path:
    """The folder meant by MODEL; a hub id's is fetched into the hub's cache."""
    folder = Path(source)
    if folder.exists() or not _HUB_ID.fullmatch(str(source)) or folder.parent.exists():
        return folder
    return _fetch(str(source), hub)


def _fetch(name: str, hub: Hub) -> Path:
    """The hub's files of a model, in the hub's cache."""
    try:
        import huggingface_hub
        from huggingface_hub import constants, errors
    except ImportError as error:
        raise ImportError(
            f"There is no folder {name}, and to fetch it from the hub: pip install 'speechssl[hf]'."
        ) from error
    names: list[str] = []
    if reached := not (hub.offline or constants.HF_HUB_OFFLINE):
        try:
            api = huggingface_hub.HfApi(token=hub.token)
            offer = api.model_info(name, revision=hub.revision, timeout=20)
            names = [file.rfilename for file in offer.siblings or ()]
        except errors.RevisionNotFoundError as error:
            raise ValueError(f"{name} has no revision {hub.revision!r} on the hub.") from error
        except errors.RepositoryNotFoundError as error:
            raise FileNotFoundError(
                f"There is no folder {name}, and no such model on the hub (or it needs a token: "
                "--token, or `hf auth login`)."
            ) from error
        except Exception:  # no network; the client's class for it changes with its version
            reached = False
    patterns = [*_HUB_FILES, *([] if _has(names, ".safetensors") else ["*.bin"])]
    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                name,
                allow_patterns=patterns,
                revision=hub.revision,
                cache_dir=hub.cache_dir,
                token=hub.token,
                local_files_only=not reached,
            )
        )
        present = [place.name for place in folder.iterdir()]
        if "config.json" in present and (_has(present, ".safetensors") or _has(present, ".bin")):
            return folder
        cause: Exception | None = None
    except Exception as error:  # a file that is not in the cache, a line that broke
        cause = error
    raise FileNotFoundError(
        f"There is no folder {name}, the hub "
        f"{'did not give all of it' if reached else 'cannot be reached'}, and the hub's cache does "
        f"not hold all of it either: fetch it with a network (`hf download {name}` goes on where "
        "it stopped), or give the folder of a copy."
    ) from cause


def _has(names: Sequence[str], suffix: str) -> bool:
    return any(name.endswith(suffix) for name in names)
