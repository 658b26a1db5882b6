"""Folders of transformers: read, proved, written, and what is wrong with a bad one."""

import contextlib
import json
import pickle
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from speechssl.checkpoint import Checkpoint, load_model
from speechssl.cli import main
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


def test_an_export_replaces_an_earlier_one_and_nothing_else(tmp_path):
    mine, out = own(MODELS["wav2vec2-group-post"][1]), tmp_path / "hf"
    for _ in range(2):
        export_model(mine, out, "hf")
    for name in ("notes.txt", ".git"):
        place = out / name
        place.mkdir() if name == ".git" else place.write_text("mine")
        with pytest.raises(ValueError, match=f"holds {name} too: name another place"):
            export_model(mine, out, "hf")
        assert place.exists()
        place.rmdir() if name == ".git" else place.unlink()


def own(ours, symbols: str | None = "abc déf") -> Checkpoint:
    """A random model of ours."""
    torch.manual_seed(4)
    speech = SpeechModel(ours)
    if symbols is None:
        return Checkpoint(speech.eval(), meta={"task": "pretrain"})
    tokenizer = CharTokenizer.train([symbols])
    head = CTCHead(ours.context.dim, tokenizer.vocab_size)
    head.linear.bias.data.zero_()  # a fresh head outputs nothing but blanks
    return Checkpoint(CTCModel(speech, head).eval(), tokenizer, {"task": "finetune"})


@pytest.mark.parametrize("kind", ["Model", "ForCTC"])
@pytest.mark.parametrize("name", [n for n in MODELS if not n.endswith("32")])
def test_a_folder_is_imported_with_its_proof(tmp_path, name, kind):
    source = write_theirs(tmp_path / "theirs", name, kind, normalize=name.endswith("pre"))
    proof = import_model(str(source), tmp_path / "ours")
    assert max(gap.largest for gap in proof.gaps) < 1e-4
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
    assert max(gap.largest for gap in proof.gaps) < 1e-4
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


@pytest.mark.parametrize("name", ["wav2vec2-group-post", "wav2vec2-layer-pre"])
def test_the_proof_of_a_pretrained_model_compares_its_heads(tmp_path, name):
    source = write_theirs(tmp_path / "theirs", name, "ForPreTraining", normalize=True)
    proof = import_model(str(source), tmp_path / "ours")
    assert [gap.name for gap in proof.gaps] == ["context", "projected context", "projected targets"]
    mine = load_model(tmp_path / "ours")
    for head in ("project_target.weight", "project_context.bias", "quantizer.codebook"):
        broken = {k: v + (k == head) for k, v in mine.pretraining.items()}
        proof = against_transformers(replace(mine, pretraining=broken), source)
        with pytest.raises(UnequalOutputsError):
            proof.check()


def test_the_heads_of_a_family_that_has_none_there_stay_here(tmp_path):
    ours = next(model for family, model in MODELS.values() if family == "wavlm")
    bare = own(ours, None)
    mine = replace(bare, pretraining={"quantizer.codebook": torch.zeros(2, 3, 4)})
    export_model(mine, tmp_path / "hf", "hf")
    assert "quantizer and projections" in (tmp_path / "hf" / "README.md").read_text()
    assert "WavLMModel" in (tmp_path / "hf" / "config.json").read_text()
    state = bare.model.state_dict()
    assert open_model(tmp_path / "hf").model.state_dict().keys() == state.keys()


@pytest.mark.parametrize("kind", ["Model", "ForCTC"])
@pytest.mark.parametrize("name", ["hubert-group-post-24", "hubert-layer-pre-24"])
def test_a_model_goes_back_as_the_kind_that_it_was(tmp_path, name, kind):
    source = write_theirs(tmp_path / "theirs", name, kind)
    export_model(open_model(source), tmp_path / "back", "hf")
    config = json.loads((tmp_path / "back/config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("hubert", [f"Hubert{kind}"])
    one, other = (load_file(f / "model.safetensors") for f in (source, tmp_path / "back"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_model_that_its_kind_no_longer_holds_goes_back_as_another(tmp_path):
    context = {"dim": 24, "adapter_dim": 6}
    mine = replace(own(config("layer", "pre", **context), None), meta={"model_type": "hubert"})
    write_folder(mine, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "wav2vec2"


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")  # their WavLM
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "wav2vec2-group-post",
        "wav2vec2-layer-pre",
        "wavlm-group-post-24",
        "data2vec-audio-layer-post-24",
    ],
)
def test_transformers_pipeline_writes_what_we_write(tmp_path, name, normalize):
    mine = own(replace(MODELS[name][1], normalize_wave=normalize))
    export_model(mine, tmp_path / "hf", "hf")
    body = transformers.AutoModel.from_pretrained(tmp_path / "hf")
    assert body.config.hidden_size == 24
    recognise = transformers.pipeline("automatic-speech-recognition", str(tmp_path / "hf"))
    for wave in proof_sounds(16000):
        with torch.no_grad():
            rows, _ = mine.model(torch.from_numpy(wave)[None], torch.tensor([len(wave)]))
        best = rows[0].argmax(1).tolist()
        ids = [i for n, i in enumerate(best) if i and (n == 0 or best[n - 1] != i)]
        expected = mine.tokenizer.decode([i for i in ids if i != 1])
        text = recognise({"raw": wave.copy(), "sampling_rate": 16000})["text"]
        assert text.replace("<unk>", "").split() == expected.split()


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
    assert checkpoint.meta["language"] == "wol"
    with pytest.raises(ValueError, match=r"2 languages \(eng, wol.*speechssl import --language"):
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
    with pytest.raises(ValueError, match=r"would run code \(io\.open\): it was not read"):
        read_folder(source)
    assert main(["import", str(source), "--out", str(tmp_path / "ours")]) == 2
    torch.save(Bomb(str(gone)), source / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match="would run code"):
        read_folder(source)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (source / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(str(gone)), protocol))
        with pytest.raises(ValueError, match=r"not read|damaged"):
            read_folder(source)
    assert not gone.exists()
    assert not (tmp_path / "ours").exists()
    pickle.loads(pickle.dumps(Bomb(str(gone)))).close()  # the trap works
    assert gone.exists()


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\n", "git lfs pull"),
        (b"<html>404</html>", "damaged or no file of weights"),
        (b"", "damaged or no file of weights"),
    ],
    ids=["pointer", "page", "empty"],
)
def test_what_is_no_file_of_weights_is_named(tmp_path, suffix, content, said):
    place = tmp_path / f"model.{suffix}"
    place.write_bytes(content)
    with pytest.raises(ValueError, match=rf"model\.{suffix} is .*{said}"):
        read_tensors(place)


@pytest.mark.parametrize(
    "index",
    [{}, {"weight_map": {}}, {"weight_map": {"a": 3}}, {"weight_map": {"a": "../secret"}}],
    ids=str,
)
def test_an_index_that_names_no_files_beside_it_is_refused(source, index):
    (source / "model.safetensors").unlink()
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"index\.json is damaged: its weight_map"):
        read_folder(source)


def test_shards_are_read_and_a_missing_one_is_named(source):
    expected = read_folder(source).model.state_dict()
    state = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    parts = {name: f"model-0000{1 + n % 2}-of-00002.safetensors" for n, name in enumerate(state)}
    for file in set(parts.values()):
        save_file({n: state[n] for n, f in parts.items() if f == file}, source / file)
    index = {"metadata": {}, "weight_map": parts}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    found = read_folder(source).model.state_dict()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    (source / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="model-00002-of-00002"):
        read_folder(source)


def test_a_head_of_another_width_is_named(source):
    state = load_file(source / "model.safetensors")
    state["lm_head.weight"] = torch.zeros(VOCAB, 7)
    save_file(state, source / "model.safetensors")
    with pytest.raises(ValueError, match=r"lm_head\.weight has shape \(11, 7\).*\(11, 24\)"):
        read_folder(source)


@pytest.mark.parametrize("row", ["x", -1, 2.5, None, True])
def test_a_vocabulary_of_other_things_than_rows_is_refused(source, row):
    (source / "vocab.json").write_text(json.dumps({**IDS, "A": row}))
    with pytest.raises(ValueError, match="vocabulary's 'A' must be a row"):
        read_folder(source)


@pytest.mark.parametrize(
    "settings",
    [
        {"tokenizer_class": "Wav2Vec2PhonemeCTCTokenizer"},
        {"replace_word_delimiter_char": "_"},
        {"unk_token": ["a"]},
    ],
    ids=lambda given: next(iter(given)),
)
def test_a_tokenizer_that_writes_otherwise_is_refused_by_name(source, settings):
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=next(iter(settings))):
        read_folder(source)


def test_special_tokens_that_they_lack_are_none_here(source, tmp_path):
    lacking = {f"{name}_token": None for name in ("unk", "bos", "eos")}
    (source / "tokenizer_config.json").write_text(json.dumps(lacking))
    ids = {**{k: v for k, v in IDS.items() if v == 0 or v > 3}, "x": 1, "y": 2, "z": 3}
    (source / "vocab.json").write_text(json.dumps(ids))
    import_model(str(source), tmp_path / "ours", verify=False)
    ours = load_model(tmp_path / "ours")
    assert ours.tokenizer.decode(ours.tokenizer.encode("xyz A")) == "xyz A"
    write_folder(ours, tmp_path / "back")
    assert json.loads((tmp_path / "back/vocab.json").read_text()) == ids
    assert json.loads((tmp_path / "back/config.json").read_text())["bos_token_id"] is None


def test_what_is_left_out_of_a_source_is_told(source, tmp_path, capsys):
    preprocessor = json.loads((source / "preprocessor_config.json").read_text())
    said = {**preprocessor, "processor_class": "Wav2Vec2ProcessorWithLM"}
    (source / "preprocessor_config.json").write_text(json.dumps(said))
    assert main(["import", str(source), "--out", str(tmp_path / "ours"), "--no-verify"]) == 0
    assert "Left out: the n-gram language model" in capsys.readouterr().out
    assert "n-gram" in load_model(tmp_path / "ours").meta["left_out"][0]


def test_a_wrong_blank_is_refused(source):
    swapped = {**IDS, "<pad>": 1, "<s>": 0}
    (source / "vocab.json").write_text(json.dumps(swapped))
    with pytest.raises(ValueError, match="the blank is id 0, the vocabulary that '<pad>' is id 1"):
        read_folder(source)


@pytest.mark.parametrize(("kind", "told"), [("whisper", "'whisper'"), (["x"], r"\['x'\]")])
def test_an_unknown_model_type_is_named(source, kind, told):
    fields = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**fields, "model_type": kind}))
    with pytest.raises(ValueError, match=f"model_type {told}"):
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


def test_a_proof_that_fails_is_no_fault_of_the_person(source, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Compared, "add", spoiled(Compared.add))
    assert main(["import", str(source), "--out", str(tmp_path / "out")]) == 1
    assert "does not compute the same, so nothing was written" in capsys.readouterr().err


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


@contextlib.contextmanager
def room_for(num_bytes: int):
    """No file grows beyond it; the system refuses as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("num_bytes", [0, 600, 40_000])
@pytest.mark.parametrize("kind", ["hf", "fairseq", "import"])
def test_a_full_disk_leaves_what_was_there(source, tmp_path, kind, num_bytes):
    mine = own(PLAIN["wav2vec2-group-post"][1])

    def convert():
        if kind == "import":
            import_model(str(source), tmp_path / "out", verify=False)
        else:
            export_model(mine, tmp_path / "out", kind, verify=False)

    convert()
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with room_for(num_bytes), pytest.raises(OSError, match=r"too large|could not be written"):
        convert()
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_what_is_no_export_is_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("much work")
    with pytest.raises(ValueError, match="no export of speechssl: name another place"):
        export_model(own(PLAIN["wav2vec2-group-post"][1]), tmp_path, "hf")


def test_a_model_that_transformers_cannot_hold_is_refused(tiny_models, tmp_path):
    with pytest.raises(ValueError, match="it has no filterbank encoder"):
        export_model(load_model(tiny_models["ctc"]), tmp_path / "out", "hf")
    assert not list(tmp_path.iterdir())


def test_rounding_of_rows_that_are_never_written_is_no_difference():
    compared = Compared()
    compared.add("rows", torch.tensor([-3.0, -10000.001]), torch.tensor([-3.0, -10000.0]))
    assert compared.gaps()[0].largest == 0.0
    for one, other in ((-1e4, -3.0), (-3.0, -1e4), (-3.0, -3.1), (float("nan"), -3.0)):
        compared = Compared()
        compared.add("rows", torch.tensor([one]), torch.tensor([other]))
        with pytest.raises(UnequalOutputsError):
            Proof("a peer", compared.gaps()).check()


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
