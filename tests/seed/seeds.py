"""A tiny seed of random weights where the package would have it."""

import json
from pathlib import Path

import pytest
import torch

from speechssl import seed
from speechssl.checkpoint import Checkpoint
from speechssl.model.config import ModelConfig
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.seed.card import SeedCard, read_card
from speechssl.seed.pack import pack
from speechssl.text import CharTokenizer

CARD = {
    "license": "CC-BY-SA-4.0",
    "writes": "letters of a romanisation (uroman)",
    "sources": [
        {
            "name": "Corpus A",
            "url": "https://example.org/a",
            "license": "CC-BY-4.0",
            "hours": 10,
            "languages": ["wo", "ln"],
            "transcripts": True,
            "attribution": "Corpus A by its authors.",
        },
        {
            "name": "Corpus B",
            "url": "https://example.org/b",
            "license": "CC0-1.0",
            "hours": 2.5,
            "languages": ["ln", "yo"],
        },
    ],
    "scores": [{"what": "Held-out language, 10 minutes, CER", "value": "0.5 [0.4, 0.6]"}],
    "limits": ["Read speech."],
}


def card_file(folder: Path) -> Path:
    place = folder / "card.json"
    place.write_text(json.dumps(CARD))
    return place


def a_card(folder: Path) -> SeedCard:
    return read_card(card_file(folder))


def trained(model: ModelConfig, text: str = "abc déf") -> Checkpoint:
    """As a run with the task ctc leaves it: a model with a head for the letters of `text`."""
    torch.manual_seed(3)
    tokenizer = CharTokenizer.train([text])
    speech = SpeechModel(model)
    head = CTCHead(model.context.dim, tokenizer.vocab_size)
    meta = {"task": "pretrain", "steps": 7, "seed": 5, "objectives": ["a", "b"], "valid": {"x": 1}}
    return Checkpoint(CTCModel(speech, head), tokenizer, meta)


def put_seed(
    monkeypatch: pytest.MonkeyPatch, folder: Path, model: ModelConfig, size: str = "tiny"
) -> Path:
    """A seed of this form in `folder`, which takes the place of the package's."""
    folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(seed, "FOLDER", folder)
    pack(trained(model), a_card(folder.parent), folder / size, best_layer=1)
    return folder / size
