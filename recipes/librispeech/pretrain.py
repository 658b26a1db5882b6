"""Pretraining on LibriSpeech."""

from speechssl.training.pretrain import PretrainConfig, preset


def tiny() -> PretrainConfig:
    """A first look on a CPU, on train-clean-100."""
    return preset("tiny")


def base() -> PretrainConfig:
    """wav2vec 2.0 BASE on 960 h (arXiv:2006.11477, section 4.2): 64 processes of 87.5 s of audio."""
    return preset("base")
