"""The public functions, and that importing them is quick."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import speechssl
from speechssl import audio


def test_the_import_loads_no_torch():
    code = "import sys, speechssl; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_version_is_a_literal():
    source = Path(speechssl.__file__).read_text(encoding="utf-8")
    assert f'\n__version__ = "{speechssl.__version__}"\n' in source
    assert re.fullmatch(r"\d+\.\d+\.\d+", speechssl.__version__)


def test_load_transcribe_extract(tiny_models, record):
    path = record("a.wav", 1.0)
    model = speechssl.load(tiny_models["ctc"])
    found = speechssl.transcribe(model, path)
    assert found.text
    assert found.audio == str(path)
    wave = audio.read(path)
    assert speechssl.transcribe(model, wave).text == found.text
    features = speechssl.extract(model, wave, layer=1)
    assert features.frames.shape == (50, 16)
    assert np.array_equal(features.frames, speechssl.extract(model, path, 1).frames)


def test_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        speechssl.load(tmp_path)


def test_a_recipe_of_before_is_told_what_to_import():
    with pytest.raises(ImportError, match=r"speechssl\.pretext now"):
        importlib.import_module("speechssl.objectives.contrastive")
