"""Model folders and training states: whatever a disk did to them, they open, or a file is named, or
the state before is taken. Nothing in them is run."""

import json
import math
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechssl.checkpoint import Checkpoint, load_model
from speechssl.interop.fairseq_dictionary import read_dictionary
from speechssl.interop.folders import read_folder, write_folder
from speechssl.model.config import ContextConfig, ConvEncoderConfig, ModelConfig
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.runlog import read_metrics
from speechssl.text import CharTokenizer
from speechssl.training.resume import Progress, StateWriter, newest_state
from tests.fuzz.damage import damaged, odd_json

FILES = ["config.json", "model.safetensors", "tokenizer.json", "meta.json"]


def opens_or_names_a_file(folder) -> None:
    said = ""
    try:
        model = load_model(folder).model
    except (ValueError, FileNotFoundError) as error:
        model, said = None, str(error)
    assert model is not None or str(folder) in said


@given(data=st.data())
def test_a_damaged_model_folder_opens_or_names_a_file(data, tiny_models, tmp_path):
    folder = tmp_path / "model"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(tiny_models["ctc"], folder)
    for name in data.draw(st.lists(st.sampled_from(FILES), min_size=1, max_size=2, unique=True)):
        path = folder / name
        accident = data.draw(st.sampled_from(["gone", "odd", "damaged"]))
        if accident == "gone":
            path.unlink()
        elif accident == "odd" and path.suffix == ".json":
            path.write_text(json.dumps(data.draw(odd_json(json.loads(path.read_text("utf-8"))))))
        else:
            path.write_bytes(data.draw(damaged(path.read_bytes())))
    opens_or_names_a_file(folder)


THEIRS = ["config.json", "vocab.json", "tokenizer_config.json", "preprocessor_config.json"]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A folder of transformers, written by our own export."""
    torch.manual_seed(1)
    config = ModelConfig(
        encoder=ConvEncoderConfig((8,), (10,), (10,)),
        context=ContextConfig(8, 1, num_heads=2, ffn_dim=8, pos_kernel=4, pos_groups=2),
    )
    tokenizer = CharTokenizer.train(["abc déf"])
    model = CTCModel(SpeechModel(config), CTCHead(8, tokenizer.vocab_size)).eval()
    folder = tmp_path_factory.mktemp("theirs")
    write_folder(Checkpoint(model, tokenizer), folder)
    return folder


@given(data=st.data())
def test_a_damaged_folder_of_transformers_opens_or_names_a_file(data, theirs, tmp_path):
    folder = tmp_path / "model"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(theirs, folder)
    for name in data.draw(st.lists(st.sampled_from(THEIRS), min_size=1, max_size=2, unique=True)):
        path = folder / name
        if data.draw(st.booleans()):
            path.write_text(json.dumps(data.draw(odd_json(json.loads(path.read_text("utf-8"))))))
        else:
            path.write_bytes(data.draw(damaged(path.read_bytes())))
    said = ""
    try:
        model, tokenizer = read_folder(folder).require_ctc()
        tokenizer.decode(list(range(2, tokenizer.vocab_size)))
    except (ValueError, FileNotFoundError) as error:
        model, said = None, str(error)
    assert model is not None or str(folder) in said


@given(data=st.data())
def test_any_dictionary_is_read_or_refused_with_its_name(data, tmp_path):
    lines = [
        "| 9",
        "▁the 4",
        "a 3",
        "a 3 #fairseq:overwrite",
        "\u2028 1",
        " 2",
        "b\t1",
        "",
        "<pad> 1",
    ]
    chosen = data.draw(st.lists(st.sampled_from(lines) | st.text(max_size=4), max_size=6))
    place = tmp_path / "dict.ltr.txt"
    content = "\n".join(chosen).encode("utf-8", "surrogatepass")
    place.write_bytes(data.draw(st.just(content) | damaged(content)))
    num_rows = data.draw(st.integers(4, 11))
    said = ""
    try:
        tokenizer, rows = read_dictionary(place, num_rows)
    except ValueError as error:
        said = str(error)
    if said:
        assert str(place) in said
        return
    assert sorted(row for row in rows if row is not None) == list(range(num_rows))
    assert len(rows) == tokenizer.vocab_size
    tokenizer.decode(tokenizer.encode(tokenizer.decode(list(range(2, num_rows)))))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with two states."""
    run = tmp_path_factory.mktemp("run")
    modules = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(modules.parameters())
    modules(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    with StateWriter(run, keep=2) as writer:
        for step in (10, 20):
            writer.save(modules, optimizer, Progress(step=step, max_steps=100))
    return run


@given(data=st.data())
def test_a_damaged_state_is_passed_over(data, run, tmp_path):
    shutil.rmtree(tmp_path / "checkpoints", ignore_errors=True)
    shutil.copytree(run / "checkpoints", tmp_path / "checkpoints")
    newest = tmp_path / "checkpoints" / "step-00000020"
    path = newest / data.draw(st.sampled_from(sorted(p.name for p in newest.iterdir())))
    before = path.read_bytes()
    after = data.draw(damaged(before) | st.just(None))
    if after is None:
        path.unlink()
    else:
        path.write_bytes(after)
    state = newest_state(tmp_path)
    assert state is not None
    same_json = path.name == "checksums.json" and state.progress.step == 20  # white space
    assert state.progress.step == (20 if after == before or same_json else 10)
    assert all(math.isfinite(v) for w in state.tensors().values() for v in w.flatten().tolist())


METRICS = b"".join(b'{"step": %d, "loss/total": 1.5, "time_s": 2.0}\n' % n for n in range(4))


@given(data=damaged(METRICS))
def test_damaged_metrics_are_records(data, tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(data)
    assert all(isinstance(record, dict) for record in read_metrics(tmp_path))
