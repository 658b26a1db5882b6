"""What a run is started on, as digests: it goes on with the same, wherever that lies, and with
nothing else.

Only what a run depends on counts: of an utterance its id, start, duration and transcript, and their
order; not the folder in which the recordings lie, nor who speaks.
"""

import json
from collections.abc import Sequence
from hashlib import blake2b

from speechssl.checkpoint import Checkpoint, hash_tensors
from speechssl.data.index import digests
from speechssl.data.manifest import Utterance
from speechssl.text import Tokenizer


def pretraining_inputs(
    train_set: Sequence[Utterance],
    valid_set: Sequence[Utterance],
    init: Checkpoint | None,
    tokenizer: Tokenizer | None = None,
    phones: Tokenizer | None = None,
) -> dict[str, str]:
    """Digests of a pretraining run's inputs, by name; of the transcripts, and of those as phones,
    only where there is a tokenizer of them."""
    found = {
        "training recordings": _of_recordings(train_set),
        "validation recordings": _of_recordings(valid_set),
        "initial model": digest_of_model(init),
    }
    if phones is not None:
        found |= {
            "training phones": _of_texts([u.ipa or "" for u in train_set]),
            "validation phones": _of_texts([u.ipa or "" for u in valid_set]),
            "alphabet of phones": _of_texts(phones.symbols),
        }
    if tokenizer is None:
        return found
    return found | {
        "training transcripts": _of_texts([u.text or "" for u in train_set]),
        "validation transcripts": _of_texts([u.text or "" for u in valid_set]),
        "tokenizer": _of_texts(tokenizer.symbols),
    }


def finetuning_inputs(
    train_set: Sequence[Utterance],
    valid_set: Sequence[Utterance],
    init: Checkpoint | None,
    tokenizer: Tokenizer,
) -> dict[str, str]:
    """Digests of a fine-tuning run's inputs, by name."""
    found = pretraining_inputs(train_set, valid_set, init, tokenizer)
    return found | {"training weights": _of_texts([f"{u.weight!r}" for u in train_set])}


def changed(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """The names of the inputs that are others; what `before` does not know of is taken as it is."""
    return [name for name, digest in now.items() if before.get(name, digest) != digest]


def _of_recordings(utterances: Sequence[Utterance]) -> str:
    return blake2b(digests(utterances).tobytes(), digest_size=16).hexdigest()


def _of_texts(texts: Sequence[str]) -> str:
    return blake2b(json.dumps(list(texts)).encode(), digest_size=16).hexdigest()


def digest_of_model(init: Checkpoint | None) -> str:
    """Of the weights and of their names; of no model an empty string."""
    if init is None:
        return ""
    digest = blake2b(digest_size=16)
    heads = {f"heads.{name}": value for name, value in init.heads.items()}
    hash_tensors(digest, init.model.state_dict() | init.pretraining | heads)
    return digest.hexdigest()
