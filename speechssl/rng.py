"""The only source of randomness: a value is a function of (seed, what it is for, where it is used).

Nothing keeps a hidden state, so a crop, a distortion or a mask can be made again at any time, in
any process and in any order. That is what makes resume exact and the number of workers irrelevant.
"""

import hashlib

import numpy as np

Key = str | int


def rng(seed: int, *key: Key) -> np.random.Generator:
    """A fresh numpy generator for ``(seed, *key)``, e.g. ``rng(seed, "mask", step, rank, item)``.

    Equal arguments give equal streams on every platform; the stream is Philox keyed by a hash, so
    generators of neighbouring keys are independent (Salmon et al. 2011,
    doi:10.1145/2063384.2063405).
    """
    return np.random.Generator(np.random.Philox(key=_digest(seed, key)))


def torch_seed(seed: int, *key: Key) -> int:
    """A seed in ``[0, 2**63)`` for ``torch.manual_seed``, from the same family as :func:`rng`."""
    return _digest(seed, key) >> 65


def _digest(seed: int, key: tuple[Key, ...]) -> int:
    """128 bits that depend on the seed and on every part of the key and its type."""
    text = repr((int(seed), *(k if isinstance(k, str) else int(k) for k in key)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")
