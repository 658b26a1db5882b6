"""Folders of transformers: read, proved, written, and what is wrong with a bad one."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from speechssl.checkpoint import Checkpoint, load_model
from speechssl.interop import huggingface as hf
from speechssl.interop.export import export_model
from speechssl.interop.folders import read_folder, read_tensors, write_folder
from speechssl.interop.proof import (
    Compared,
    Proof,
    UnequalOutputsError,
    against_transformers,
    proof_sounds,
)
from speechssl.interop.sources import import_model, open_model
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.text import CharTokenizer
from tests.interop.test_families import CASES, VOCAB, config, theirs

transformers = pytest.importorskip("transformers")

IDS = {
    "<pad>": 0,
    "<s>": 1,
    "</s>": 2,
    "<unk>": 3,
    "|": 4,
    **{c: 5 + i for i, c in enumerate("ABCDEF")},
}
PLAIN = {
    "wav2vec2-group-post": ("wav2vec2", config("group", "post")),
    "wav2vec2-layer-pre": ("wav2vec2", config("layer", "pre")),
}
MODELS = {**PLAIN, **CASES}


def write_theirs(folder: Path, name: str, kind: str, *, ids=None, normalize=False) -> Path:
    """What `save_pretrained` of the model and its processor leaves."""
    family, ours = MODELS[name]
    theirs(family, ours, kind).save_pretrained(folder)
    preprocessor = {**hf.hf_preprocessor(ours), "do_normalize": normalize}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    if kind == "ForCTC":
        (folder / "vocab.json").write_text(json.dumps(ids or IDS))
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "Wav2Vec2CTCTokenizer", "do_lower_case": False})
        )
    return folder


def own(ours, symbols: str | None = "abc déf") -> Checkpoint:
    """A random model of ours."""
    torch.manual_seed(4)
    speech = SpeechModel(ours)
    if symbols is None:
        return Checkpoint(speech.eval(), meta={"task": "pretrain"})
    tokenizer = CharTokenizer.train([symbols])
    head = CTCHead(ours.context.dim, tokenizer.vocab_size)
    return Checkpoint(CTCModel(speech, head).eval(), tokenizer, {"task": "finetune"})


@pytest.mark.parametrize("kind", ["Model", "ForCTC"])
@pytest.mark.parametrize("name", [n for n in MODELS if not n.endswith("32")])
def test_a_folder_is_imported_with_its_proof(tmp_path, name, kind):
    source = write_theirs(tmp_path / "theirs", name, kind, normalize=name.endswith("pre"))
    proof = import_model(str(source), tmp_path / "ours")
    assert max(gap.largest for gap in proof.gaps) < 1e-4 * 20
    assert all(gap.largest <= gap.bound for gap in proof.gaps)
    checkpoint = load_model(tmp_path / "ours")
    assert checkpoint.meta["verified"]["peer"].startswith("transformers")
    if kind == "ForCTC":
        assert proof.transcripts[0] == proof.transcripts[1]
        assert checkpoint.tokenizer.symbols[:2] == ("<blank>", "⁇")


@pytest.mark.parametrize("symbols", [None, "abc déf"], ids=["body", "ctc"])
@pytest.mark.parametrize("name", [n for n in MODELS if not n.endswith("32")])
def test_what_is_exported_opens_there_and_comes_back_bit_for_bit(tmp_path, name, symbols):
    mine = own(MODELS[name][1], symbols)
    proof = export_model(mine, tmp_path / "hf", "hf")
    assert all(gap.largest <= gap.bound for gap in proof.gaps)
    back = open_model(tmp_path / "hf")
    state, again = mine.model.state_dict(), back.model.state_dict()
    assert state.keys() == again.keys()
    assert all(torch.equal(state[key], again[key]) for key in state)
    if symbols:
        assert back.tokenizer.decode([3, 2, 4]) == mine.tokenizer.decode([3, 2, 4])
        opened = transformers.AutoModelForCTC.from_pretrained(tmp_path / "hf")
        assert opened.config.vocab_size == mine.tokenizer.vocab_size
        processor = transformers.AutoProcessor.from_pretrained(tmp_path / "hf")
        assert processor.feature_extractor.sampling_rate == 16000


def test_an_imported_model_goes_back_with_its_own_vocabulary(tmp_path):
    source = write_theirs(tmp_path / "theirs", "wav2vec2-layer-pre", "ForCTC")
    import_model(str(source), tmp_path / "ours", verify=False)
    assert load_model(tmp_path / "ours").meta["verified"] == "no: --no-verify"
    export_model(load_model(tmp_path / "ours"), tmp_path / "back", "hf")
    one, other = (load_file(f / "model.safetensors") for f in (source, tmp_path / "back"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert json.loads((tmp_path / "back/vocab.json").read_text()) == IDS


def test_the_heads_of_a_family_that_has_none_there_stay_here(tmp_path):
    ours = next(model for family, model in MODELS.values() if family == "wavlm")
    bare = own(ours, None)
    mine = replace(bare, pretraining={"quantizer.codebook": torch.zeros(2, 3, 4)})
    export_model(mine, tmp_path / "hf", "hf")
    assert "WavLMModel" in (tmp_path / "hf" / "config.json").read_text()
    state = bare.model.state_dict()
    assert open_model(tmp_path / "hf").model.state_dict().keys() == state.keys()


def test_transformers_pipeline_writes_what_we_write(tmp_path):
    mine = own(PLAIN["wav2vec2-group-post"][1])
    export_model(mine, tmp_path / "hf", "hf")
    listen = transformers.pipeline("automatic-speech-recognition", str(tmp_path / "hf"))
    for wave in proof_sounds(16000):
        with torch.no_grad():
            rows, _ = mine.model(torch.from_numpy(wave)[None], torch.tensor([len(wave)]))
        best = rows[0].argmax(1).tolist()
        ids = [i for n, i in enumerate(best) if i and (n == 0 or best[n - 1] != i)]
        expected = mine.tokenizer.decode([i for i in ids if i != 1])
        heard = listen({"raw": wave.copy(), "sampling_rate": 16000})["text"]
        assert heard.replace("<unk>", "").split() == expected.split()


def test_uppercase_vocabulary_writes_lower_case(tmp_path):
    source = write_theirs(tmp_path / "theirs", "wav2vec2-group-post", "ForCTC")
    settings = {"tokenizer_class": "Wav2Vec2CTCTokenizer", "do_lower_case": True}
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = open_model(source).tokenizer
    assert tokenizer.decode(tokenizer.encode("fad bee")) == "fad bee"
    proof = against_transformers(open_model(source), source)
    assert proof.transcripts[0] == proof.transcripts[1] == proof.transcripts[0].lower() != ""


def test_old_torch_files_and_weight_norm_names_are_read(tmp_path):
    source = write_theirs(tmp_path / "theirs", "wav2vec2-group-post", "ForCTC")
    state = load_file(source / "model.safetensors")
    stem = "wav2vec2.encoder.pos_conv_embed.conv."
    for new, old in (("original0", "weight_g"), ("original1", "weight_v")):
        state[f"{stem}{old}"] = state.pop(f"{stem}parametrizations.weight.{new}")
    expected = read_folder(source).model.state_dict()
    (source / "model.safetensors").unlink()
    torch.save(state, source / "pytorch_model.bin")
    found = read_folder(source).model.state_dict()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_an_mms_model_is_read_by_language(tmp_path):
    name = next(n for n in CASES if n.startswith("wav2vec2"))
    source = write_theirs(tmp_path / "theirs", name, "ForCTC")
    wolof = {"<pad>": 0, "<unk>": 1, "|": 2, "a": 3, "ë": 4}
    (source / "vocab.json").write_text(json.dumps({"eng": IDS, "wol": wolof}))
    state = load_file(source / "model.safetensors")
    part = {k: v + 0.1 for k, v in state.items() if "adapter_layer" in k}
    head = {"lm_head.weight": torch.randn(5, state["lm_head.weight"].shape[1])}
    save_file({**part, **head, "lm_head.bias": torch.zeros(5)}, source / "adapter.wol.safetensors")
    checkpoint = read_folder(source, language="wol")
    assert checkpoint.tokenizer.symbols == ("<blank>", "⁇", " ", "a", "ë")
    proof = against_transformers(checkpoint, source, "wol")
    assert all(gap.largest <= gap.bound for gap in proof.gaps)
    with pytest.raises(ValueError, match=r"2 languages \(eng, wol.*--language"):
        read_folder(source)
    with pytest.raises(FileNotFoundError, match="no adapter for the language 'xyz'; it has wol"):
        read_folder(source, language="xyz")


# ---- bad input ----------------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path) -> Path:
    return write_theirs(tmp_path / "theirs", "wav2vec2-group-post", "ForCTC")


def test_a_truncated_file_of_weights_is_named(source):
    place = source / "model.safetensors"
    place.write_bytes(place.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        read_folder(source)


class Bomb:
    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return (open, (self.place, "w"))


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(source, tmp_path):
    (source / "model.safetensors").unlink()
    gone = tmp_path / "it-ran"
    torch.save({"a": torch.zeros(2), "b": Bomb(str(gone))}, source / "pytorch_model.bin")
    with pytest.raises(ValueError, match="would run code: it was not read"):
        read_folder(source)
    assert not gone.exists()
    (source / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(str(gone))))
    with pytest.raises(ValueError, match=r"not read|damaged"):
        read_folder(source)
    assert not gone.exists()


def test_a_vocabulary_larger_than_the_head_is_refused(source):
    (source / "vocab.json").write_text(json.dumps({**IDS, "Z": VOCAB}))
    with pytest.raises(ValueError, match=f"has {VOCAB + 1} ids but the head writes {VOCAB}"):
        read_folder(source)


def test_a_wrong_blank_is_refused(source):
    swapped = {**IDS, "<pad>": 1, "<s>": 0}
    (source / "vocab.json").write_text(json.dumps(swapped))
    with pytest.raises(ValueError, match="the blank is id 0, the vocabulary that '<pad>' is id 1"):
        read_folder(source)


def test_an_unknown_model_type_is_named(source):
    fields = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**fields, "model_type": "whisper"}))
    with pytest.raises(ValueError, match="model_type 'whisper'"):
        open_model(source)


@pytest.mark.parametrize("missing", ["vocab.json", "model.safetensors"])
def test_a_missing_file_is_named(source, missing):
    (source / missing).unlink()
    with pytest.raises(FileNotFoundError, match=missing):
        read_folder(source)


def test_missing_and_unknown_tensors_are_listed(source):
    state = load_file(source / "model.safetensors")
    state["wav2vec2.more"] = state.pop("wav2vec2.encoder.layer_norm.weight")
    save_file(state, source / "model.safetensors")
    with pytest.raises(ValueError, match=r"missing 1 \(encoder\.layer_norm.*known here 1 \(more"):
        read_folder(source)


def test_a_table_that_is_none_of_tensors_is_refused(tmp_path):
    torch.save({"a": 3}, tmp_path / "x.bin")
    with pytest.raises(ValueError, match="not a table of tensors"):
        read_tensors(tmp_path / "x.bin")


@pytest.mark.parametrize("where", ["import", "export"])
def test_a_conversion_that_changes_the_outputs_leaves_nothing(source, tmp_path, monkeypatch, where):
    monkeypatch.setattr(Compared, "add", spoiled(Compared.add))
    before = sorted(tmp_path.rglob("*"))
    mine = own(PLAIN["wav2vec2-group-post"][1])
    convert = {
        "import": lambda: import_model(str(source), tmp_path / "out"),
        "export": lambda: export_model(mine, tmp_path / "out", "hf"),
    }[where]
    with pytest.raises(UnequalOutputsError, match="nothing was written"):
        convert()
    assert sorted(tmp_path.rglob("*")) == before


def spoiled(add):
    return lambda self, name, one, other: add(self, name, torch.as_tensor(one) + 0.1, other)


def test_a_full_disk_leaves_the_earlier_export(tmp_path, monkeypatch):
    mine = own(PLAIN["wav2vec2-group-post"][1])
    export_model(mine, tmp_path / "out", "hf", verify=False)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("speechssl.interop.folders.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        export_model(mine, tmp_path / "out", "hf")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_what_is_no_export_is_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("much work")
    with pytest.raises(ValueError, match="no export of speechssl: name another place"):
        export_model(own(PLAIN["wav2vec2-group-post"][1]), tmp_path, "hf")


def test_a_model_that_transformers_cannot_hold_is_refused(tiny_models, tmp_path):
    with pytest.raises(ValueError, match="it has no filterbank encoder"):
        export_model(load_model(tiny_models["ctc"]), tmp_path / "out", "hf")
    assert not list(tmp_path.iterdir())


def test_a_transcript_that_differs_fails_the_proof():
    with pytest.raises(UnequalOutputsError):
        Proof("a peer", (), ("one", "two")).check()
    Proof("a peer", (), ("one", "two")).check(same_text=False)


def test_word_pieces_do_not_fit_their_tokenizer(tmp_path):
    from speechssl.text import train_tokenizer

    tokenizer = train_tokenizer("spm:40", ["the cat sat on the mat " * 8], allow_smaller=True)
    ours = PLAIN["wav2vec2-group-post"][1]
    model = CTCModel(SpeechModel(ours), CTCHead(ours.context.dim, tokenizer.vocab_size))
    with pytest.raises(ValueError, match="--tokenizer char"):
        write_folder(Checkpoint(model, tokenizer), tmp_path)
