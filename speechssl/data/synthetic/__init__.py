"""The embedded corpus of ``speechssl demo``: English read by espeak-ng, made in seconds.

``make_corpus`` writes int16 WAV files at 16 kHz and four manifests: many minutes without text, a
few with, and dev and test sets whose voices and sentences occur nowhere else. The sentences come
from a small grammar (about 400 words), the voices from espeak-ng's accents and voice variants.

Every choice is a function of (seed, split, number of the utterance), so a larger corpus begins with
the smaller one. espeak-ng itself repeats its samples only in a fresh process that is given the same
sentences in the same order; therefore each shard of ``SHARD_UTTERANCES`` is spoken by a process of
its own, this module run with ``python -m``. S is a number of samples.
"""

from speechssl.data.synthetic.corpus import CorpusPaths, Spoken, make_corpus
from speechssl.data.synthetic.espeak import SAMPLE_RATE
from speechssl.data.synthetic.voices import SPLITS, Script, Speaker, scripts, speakers

__all__ = [
    "SAMPLE_RATE",
    "SPLITS",
    "CorpusPaths",
    "Script",
    "Speaker",
    "Spoken",
    "make_corpus",
    "scripts",
    "speakers",
]
