"""fairseq's files: names, settings, dictionaries, pickles; both ways."""

import argparse
from dataclasses import asdict, replace

import pytest
import torch

from speechssl.checkpoint import Checkpoint
from speechssl.interop import export
from speechssl.interop.export import export_model
from speechssl.interop.fairseq import read_fairseq, write_fairseq
from speechssl.interop.fairseq_names import parse_conv_layers
from speechssl.interop.proof import UnequalOutputsError, ours_of, proof_sounds, spelled
from speechssl.interop.sources import import_model, open_model
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import CTCModel
from speechssl.pretext.contrastive import ContrastiveConfig, ContrastiveTask
from speechssl.text import BLANK, UNKNOWN, VocabularyTokenizer
from tests.interop.test_families import config
from tests.interop.test_folders import Bomb, own

pytest.importorskip("transformers")

CONFIGS = {f"{n}-{o}": config(n, o) for n in ("group", "layer") for o in ("post", "pre")}


@pytest.mark.parametrize("symbols", [None, "abc déf"], ids=["body", "ctc"])
@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_exported_comes_back(tmp_path, name, symbols):
    mine = own(CONFIGS[name], symbols)
    proof = export_model(mine, tmp_path / "fairseq", "fairseq")
    assert {gap.name for gap in proof.gaps} >= {"context, read again"}
    assert all(gap.largest <= gap.bound for gap in proof.gaps)
    import_model(str(tmp_path / "fairseq/model.pt"), tmp_path / "back")
    back = open_model(tmp_path / "back")
    assert open_model(tmp_path / "fairseq").model.state_dict().keys() == (
        back.model.state_dict().keys()
    )
    for key, value in mine.speech.state_dict().items():
        assert torch.equal(back.speech.state_dict()[key], value)
    if symbols:
        text = "fad é b"
        decoded = back.tokenizer.decode(back.tokenizer.encode(text))
        assert decoded == mine.tokenizer.decode(mine.tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    "symbols",
    [["<s>", "</s>", " ", "a", "b"], ["a", "<unused-3>", " ", "<pad>", "</s>", "b", "<unused-9>"]],
)
def test_rows_that_spell_nothing_keep_their_share(tmp_path, symbols):
    """Left out, they would give it to the others; as text, they would be output."""
    silent = [s for s in symbols if s.startswith("<")]
    tokenizer = VocabularyTokenizer([BLANK, UNKNOWN, *symbols], silent)
    plain = own(CONFIGS["group-post"], "abcdefg")
    torch.manual_seed(1)
    model = CTCModel(plain.speech, CTCHead(plain.speech.config.context.dim, len(symbols) + 2))
    torch.nn.init.normal_(model.head.linear.weight)
    mine = Checkpoint(model.eval(), tokenizer)
    proof = export_model(mine, tmp_path / "fairseq", "fairseq")
    assert "log-probabilities, read again" in {gap.name for gap in proof.gaps}
    back = open_model(tmp_path / "fairseq")
    for wave in proof_sounds(16000):
        _, ours = ours_of(mine, wave)
        _, read = ours_of(back, wave)
        torch.testing.assert_close(read.exp().sum(1), ours.exp().sum(1))
        for symbol in ("a", "b", " "):
            column, row = (t.symbols.index(symbol) for t in (back.tokenizer, tokenizer))
            torch.testing.assert_close(read[:, column], ours[:, row], atol=1e-4, rtol=0)
        assert spelled(back, read) == spelled(mine, ours)


def test_a_proof_compares_with_what_was_exported(tmp_path, monkeypatch):
    """Not only the file with itself."""
    real = export.write_fairseq

    def other(checkpoint, folder):
        torch.nn.init.normal_(checkpoint.model.head.linear.weight)
        real(checkpoint, folder)
        torch.nn.init.zeros_(checkpoint.model.head.linear.weight)

    monkeypatch.setattr(export, "write_fairseq", other)
    with pytest.raises(UnequalOutputsError):
        export_model(own(CONFIGS["group-post"], "abc"), tmp_path / "fairseq", "fairseq")


def test_of_a_folder_with_several_files_none_is_taken(tmp_path):
    for name in ("a.pt", "b.pt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        open_model(tmp_path)


def test_names_are_those_of_fairseq(tmp_path):
    write_fairseq(own(CONFIGS["layer-pre"]), tmp_path)
    names = set(torch.load(tmp_path / "model.pt", weights_only=True)["model"])
    stem = "w2v_encoder.w2v_model."
    assert {
        f"{stem}mask_emb",
        f"{stem}feature_extractor.conv_layers.1.0.weight",
        f"{stem}feature_extractor.conv_layers.1.2.1.bias",
        f"{stem}layer_norm.weight",
        f"{stem}post_extract_proj.bias",
        f"{stem}encoder.pos_conv.0.weight_g",
        f"{stem}encoder.layers.2.self_attn.k_proj.weight",
        f"{stem}encoder.layers.2.self_attn_layer_norm.weight",
        f"{stem}encoder.layers.2.final_layer_norm.bias",
        f"{stem}encoder.layers.2.fc1.weight",
        f"{stem}encoder.layer_norm.weight",
        "w2v_encoder.proj.weight",
    } <= names
    write_fairseq(own(CONFIGS["group-post"], None), tmp_path)
    names = set(torch.load(tmp_path / "model.pt", weights_only=True)["model"])
    assert "feature_extractor.conv_layers.0.2.weight" in names
    assert (tmp_path / "dict.ltr.txt").read_text().splitlines()[0] == "| 1"


@pytest.mark.parametrize("symbols", [None, "abc déf"], ids=["body", "ctc"])
@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_written_is_what_torchaudio_takes_for_fairseq(tmp_path, name, symbols):
    """Its reader of fairseq's models knows their names from elsewhere than we do."""
    torchaudio = pytest.importorskip("torchaudio")
    from torchaudio.models.wav2vec2.utils import import_fairseq

    mine = own(CONFIGS[name], symbols)
    write_fairseq(mine, tmp_path)
    state = torch.load(tmp_path / "model.pt", weights_only=True)["model"]
    names = {n.removeprefix("w2v_encoder."): v for n, v in state.items()}
    encoder, context = mine.speech.config.encoder, mine.speech.config.context
    theirs = torchaudio.models.wav2vec2_model(
        extractor_mode=f"{encoder.norm}_norm",
        extractor_conv_layer_config=list(
            zip(encoder.dims, encoder.kernels, encoder.strides, strict=True)
        ),
        extractor_conv_bias=encoder.bias,
        encoder_embed_dim=context.dim,
        encoder_projection_dropout=0.0,
        encoder_pos_conv_kernel=context.pos_kernel,
        encoder_pos_conv_groups=context.pos_groups,
        encoder_num_layers=context.num_layers,
        encoder_num_heads=context.num_heads,
        encoder_attention_dropout=0.0,
        encoder_ff_interm_features=context.ffn_dim,
        encoder_ff_interm_dropout=0.0,
        encoder_dropout=0.0,
        encoder_layer_norm_first=context.norm_order == "pre",
        encoder_layer_drop=0.0,
        aux_num_out=len(state["w2v_encoder.proj.bias"]) if symbols else None,
    )
    theirs.load_state_dict(import_fairseq._convert_state_dict(names))
    theirs.eval()
    for wave in proof_sounds(16000):
        with torch.no_grad():
            rows = theirs(torch.from_numpy(wave)[None])[0][0]
        ours, log_probs = ours_of(mine, wave)
        if log_probs is not None:  # <s> is the blank, <unk> the fourth; <pad>, </s> are new
            ours, rows = log_probs, rows.log_softmax(1)[:, [0, *range(3, rows.shape[1])]]
        assert float((ours - rows).abs().max()) < 1e-4 * max(1.0, float(ours.abs().max()))


@pytest.mark.parametrize("name", CONFIGS)
def test_the_heads_of_pretraining_go_and_come_back(tmp_path, name):
    bare = own(CONFIGS[name], None)
    fields = ContrastiveConfig(target_dim=16, groups=2, entries=12, num_negatives=7)
    heads = ContrastiveTask(fields, bare.speech).state_dict()
    mine = replace(
        bare, pretraining=heads, meta={"pretraining": asdict(fields) | {"quantizer": "gumbel"}}
    )
    export_model(mine, tmp_path / "out", "fairseq")
    names = torch.load(tmp_path / "out/model.pt", weights_only=True)["model"].keys()
    assert {"quantizer.vars", "project_q.weight", "final_proj.bias"} <= names
    back = read_fairseq(tmp_path / "out/model.pt")
    assert back.pretraining.keys() == heads.keys()
    assert all(torch.equal(back.pretraining[n], heads[n]) for n in heads)
    told = back.meta["pretraining"]
    assert all(told[n] == getattr(fields, n) for n in ("target_dim", "groups", "entries"))
    assert told["num_negatives"] == 7


def rewritten(folder, **changes):
    place = folder / "model.pt"
    data = torch.load(place, weights_only=True)
    torch.save({**data, **changes}, place)
    return place


def test_settings_from_before_there_was_a_cfg_are_read(tmp_path):
    mine = own(CONFIGS["group-post"], None)
    write_fairseq(mine, tmp_path)
    model = torch.load(tmp_path / "model.pt", weights_only=True)["cfg"]["model"]
    args = argparse.Namespace(**model, normalize=True)
    checkpoint = read_fairseq(rewritten(tmp_path, cfg=None, args=args))
    assert checkpoint.speech.config.normalize_wave


class Node:
    """As omegaconf keeps a value."""

    def __init__(self, **fields):
        self.__dict__.update(fields)


def test_objects_of_other_packages_are_read_only_when_trusted_and_never_run(tmp_path):
    mine = own(CONFIGS["group-post"], None)
    write_fairseq(mine, tmp_path)
    cfg = torch.load(tmp_path / "model.pt", weights_only=True)["cfg"]
    wrapped = Node(_content={k: Node(_val=v) for k, v in cfg["model"].items()})
    place = rewritten(
        tmp_path,
        cfg=Node(_content={"model": wrapped}),
        more=Bomb(str(tmp_path / "it-ran")),
    )
    with pytest.raises(ValueError, match=r"Node\).*speechssl import --trust-pickle"):
        read_fairseq(place)
    with pytest.raises(ValueError, match="--trust-pickle"):
        open_model(place)
    checkpoint = read_fairseq(place, trust_pickle=True)
    for key, value in mine.speech.state_dict().items():
        assert torch.equal(checkpoint.speech.state_dict()[key], value)
    assert not (tmp_path / "it-ran").exists()


def test_the_heads_of_hubert_are_left_out_and_named(tmp_path):
    write_fairseq(own(CONFIGS["group-post"], None), tmp_path)
    data = torch.load(tmp_path / "model.pt", weights_only=True)
    more = {"label_embs_concat": torch.zeros(3, 4), "final_proj.weight": torch.zeros(4, 24)}
    more["final_proj.bias"] = torch.zeros(4)
    checkpoint = read_fairseq(rewritten(tmp_path, model={**data["model"], **more}))
    assert checkpoint.meta["left_out"] == sorted(more, key=list(more).index)


def test_a_missing_dictionary_is_named(tmp_path):
    write_fairseq(own(CONFIGS["group-post"]), tmp_path)
    kept = (tmp_path / "dict.ltr.txt").rename(tmp_path / "other.txt")
    with pytest.raises(FileNotFoundError, match="--dictionary"):
        read_fairseq(tmp_path / "model.pt")
    assert isinstance(read_fairseq(tmp_path / "model.pt", dictionary=kept), Checkpoint)
    kept.write_text("a 1\n")
    with pytest.raises(ValueError, match=r"names 5 symbols.*the head has"):
        read_fairseq(tmp_path / "model.pt", dictionary=kept)


@pytest.mark.parametrize(
    ("content", "said"),
    [({"model": 3}, "no checkpoint of fairseq"), ({"model": {}}, "settings of its model")],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, content, said):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=said):
        open_model(tmp_path / "x.pt")


def test_a_file_that_is_damaged_or_missing_is_named(tmp_path):
    (tmp_path / "x.pt").write_bytes(b"PK not a file of torch")
    with pytest.raises(ValueError, match=r"x\.pt is damaged"):
        open_model(tmp_path / "x.pt")
    (tmp_path / "x.pt").write_bytes(b"a text")
    with pytest.raises(ValueError, match=r"x\.pt is damaged"):
        open_model(tmp_path / "x.pt")
    with pytest.raises(FileNotFoundError, match=r"y\.pt"):
        open_model(tmp_path / "y.pt")


def test_conv_layers_are_parsed_not_evaluated():
    text = "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]"
    assert parse_conv_layers(text) == [(512, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 2]
    for bad in ("__import__('os').getcwd()", "[(1, 2)]", "[(1,2,3)", "3"):
        with pytest.raises(ValueError, match="conv_feature_layers"):
            parse_conv_layers(bad)
