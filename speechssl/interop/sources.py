"""Where a MODEL comes from: the seed of the package, a folder of ours or of transformers, a hub id,
a fairseq file, or a bundle of torchaudio."""

import errno
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from speechssl import seed
from speechssl.checkpoint import Checkpoint, check_only_a_model, load_model, save_model
from speechssl.interop import torchaudio
from speechssl.interop.fairseq import read_fairseq
from speechssl.interop.folders import (
    has_weights,
    is_transformers_folder,
    no_adapter,
    read_folder,
    write_folder,
)
from speechssl.interop.proof import Proof, against_module, against_transformers

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_ADAPTER = re.compile(r"adapter\.(.+)\.(?:safetensors|bin)")


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
class SourceOptions:
    """What a source does not contain itself."""

    hub: Hub = field(default_factory=Hub)
    language: str | None = None
    """Of an MMS model, whose vocabulary and adapter are read."""
    trust_pickle: bool = False
    """Of a fairseq file, as in :func:`read_fairseq`."""
    dictionary: Path | None = None
    """Of a fairseq file with a CTC head."""


def open_model(source: str | Path, options: SourceOptions | None = None) -> Checkpoint:
    """The model that a person means by MODEL.

    Args:
        source: ``seed`` or ``seed:SIZE``, which comes with the package (a folder of that name is
            ``./seed`` or a Path), a model folder or run folder of ours, a folder of transformers, a
            hub id (``facebook/wav2vec2-base``) where there is no such folder, a fairseq ``.pt`` or
            the folder of one, or ``torchaudio:WAV2VEC2_BASE``.
        options: what the source does not contain itself.

    Raises FileNotFoundError or ValueError naming what is missing, damaged or not known here.
    """
    checkpoint, _ = _open(source, options or SourceOptions())
    return checkpoint


def import_model(
    source: str, out: Path, *, options: SourceOptions | None = None, verify: bool = True
) -> Proof | None:
    """Write a foreign model as a model folder of ours, after the proof that it computes the same.

    Raises as :func:`open_model`, ImportError where the proof's peer is not installed, and
    UnequalOutputsError, with nothing written; ValueError too where `out` holds anything but an
    earlier model of ours.
    """
    check_only_a_model(out)
    checkpoint, prove = _open(source, options or SourceOptions())
    if prove is None:
        raise ValueError(f"{source} is a model folder of speechssl already.")
    proof = None
    if verify:
        proof = prove()
        proof.check()
    proved: dict[str, Any] = {"verified": proof.as_data() if proof else "no: --no-verify"}
    save_model(out, replace(checkpoint, meta={**checkpoint.meta, "source": source, **proved}))
    return proof


def _open(
    source: str | Path, options: SourceOptions
) -> tuple[Checkpoint, Callable[[], Proof] | None]:
    """The model, and how to prove that it computes the same as its source; None for ours."""
    if (size := seed.size_of(source)) is not None:
        seed.say_which(str(source))
        return load_model(seed.folder_of(size)), None
    source = str(source)
    if source.startswith(torchaudio.PREFIX):
        checkpoint, peer = torchaudio.read_bundle(source)
        return checkpoint, lambda: against_module(checkpoint, peer, source)
    if (file := _fairseq_file(Path(source))) is not None:
        checkpoint = read_fairseq(
            file, trust_pickle=options.trust_pickle, dictionary=options.dictionary
        )
        return checkpoint, lambda: through_transformers(checkpoint)
    folder = find_folder(source, options.hub, options.language)
    if is_transformers_folder(folder):
        checkpoint = read_folder(folder, language=options.language)
        return checkpoint, lambda: against_transformers(checkpoint, folder, options.language)
    return load_model(folder), None


def _fairseq_file(place: Path) -> Path | None:
    """The file of fairseq that is meant; of a folder that is no other model, the only one in it."""
    if not place.is_dir():
        return place if place.suffix in (".pt", ".pth") else None
    found = [path for path in place.iterdir() if path.suffix in (".pt", ".pth")]
    return found[0] if len(found) == 1 and not (place / "config.json").exists() else None


def through_transformers(checkpoint: Checkpoint) -> Proof:
    """A model against transformers running the same tensors: for sources whose own code cannot be
    installed."""
    with tempfile.TemporaryDirectory() as place:
        write_folder(checkpoint, Path(place))
        return against_transformers(checkpoint, Path(place))


def find_folder(source: str | Path, hub: Hub, language: str | None = None) -> Path:
    """The folder meant by MODEL; a hub id's is fetched into the hub's cache, of an MMS model the
    adapter of one language only."""
    folder = Path(source)
    if folder.exists() or not _HUB_ID.fullmatch(str(source)) or folder.parent.exists():
        return folder
    return _fetch(str(source), hub, language)


def _fetch(name: str, hub: Hub, language: str | None) -> Path:
    """The hub's files of a model, in the hub's cache."""
    try:
        import huggingface_hub
        from huggingface_hub import constants, errors
    except ImportError as error:
        raise ImportError(
            f"There is no folder {name}, and to fetch it from the hub: pip install 'speechssl[hf]'."
        ) from error
    wanted: list[str] = []
    reason = "it was not asked"
    if reached := not (hub.offline or constants.HF_HUB_OFFLINE):
        try:
            api = huggingface_hub.HfApi(token=hub.token)
            offer = api.model_info(name, revision=hub.revision, timeout=20)
            names = [file.rfilename for file in offer.siblings or ()]
        except errors.RevisionNotFoundError as error:
            raise ValueError(f"{name} has no revision {hub.revision!r} on the hub.") from error
        except errors.GatedRepoError as error:
            raise FileNotFoundError(
                f"{name} is for those who accept its conditions: do so on its page on the hub, "
                "then give --token, or `hf auth login`."
            ) from error
        except errors.RepositoryNotFoundError as error:
            raise FileNotFoundError(
                f"There is no folder {name}, and no such model on the hub (or it needs a token: "
                "--token, or `hf auth login`)."
            ) from error
        except Exception as error:  # no network; its class changes with the client's version
            reached, reason = False, _reason(error)
        else:
            wanted = _files_of(name, names, language)
    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                name,
                allow_patterns=["*.json", *wanted],
                ignore_patterns=["*/*"],  # states and other models in sub-folders
                revision=hub.revision,
                cache_dir=hub.cache_dir,
                token=hub.token,
                local_files_only=not reached,
            )
        )
        if (folder / "config.json").exists() and has_weights(folder):
            return folder
        cause: Exception | None = None
    except Exception as error:  # a file that is not in the cache, a line that broke
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        cause, reason = error, _reason(error) if reached else reason
    raise FileNotFoundError(
        f"There is no folder {name}, the hub "
        f"{'did not give all of it' if reached else 'cannot be reached'} ({reason}), and the hub's "
        f"cache does not hold all of it either: fetch it with a network (`hf download {name}` goes "
        "on where it stopped), or give the folder of a copy."
    ) from cause


def _files_of(name: str, names: Sequence[str], language: str | None) -> list[str]:
    """Of a hub model's files the weights that are read, as safetensors where it has them; and the
    adapter of `language`."""
    own = [n for n in names if "/" not in n]
    found: list[str] = []
    for stem, suffix in (("model", "safetensors"), ("pytorch_model", "bin")):
        shard = re.compile(rf"{stem}(-\d+-of-\d+)?\.{suffix}")
        if found := [n for n in own if shard.fullmatch(n)]:
            break
    if not found:
        raise FileNotFoundError(
            f"{name} on the hub has no weights that are read here: neither model.safetensors nor "
            "pytorch_model.bin."
        )
    if language is None:
        return found
    adapters = {n: match[1] for n in own if (match := _ADAPTER.fullmatch(n))}
    chosen = sorted((n for n, of in adapters.items() if of == language), reverse=True)
    if not chosen:
        raise no_adapter(name, language, set(adapters.values()))
    return [*found, chosen[0]]


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
