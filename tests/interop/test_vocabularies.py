"""Vocabularies as other tools write them: the text is the one that transformers gives."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from speechssl.checkpoint import load_model
from speechssl.cli import main
from speechssl.interop.export import export_model
from speechssl.interop.folders import read_folder, vocabulary_of, write_folder
from speechssl.interop.sources import import_model, open_model
from speechssl.interop.vocabulary import TheirVocabulary
from tests.interop.test_families import CASES
from tests.interop.test_folders import IDS, PLAIN, own, write_theirs

transformers = pytest.importorskip("transformers")

NUM_ROWS = 11
LETTERS = {c: 5 + i for i, c in enumerate("ABCDEF")}


def ids_with(**rows: int) -> dict[str, int]:
    """IDS with other tokens for some rows, e.g. ``{" ": 6}``."""
    others = {token: row for token, row in IDS.items() if row not in rows.values()}
    return {**others, **rows}


# name -> (vocab.json, tokenizer_config.json, added_tokens.json, pad_token_id, left out)
VOCABULARIES = {
    "extra tokens": ({**IDS, "Z": 11, "Q": 12}, {}, {}, 0, "2 tokens .*11: 'Z', 'Q'"),
    "ends beyond the head": (
        {"<pad>": 0, "<unk>": 1, "|": 2, **{c: 3 + i for i, c in enumerate("ABCDEFGH")}},
        {},
        {"<s>": 11, "</s>": 12},
        0,
        "2 tokens .*'<s>', '</s>'",
    ),
    "ends beyond the head, in the newer form": (
        {"[PAD]": 0, "[UNK]": 1, "|": 2, **{c: 3 + i for i, c in enumerate("ABCDEFGH")}},
        {
            "pad_token": {"__type": "AddedToken", "content": "[PAD]"},
            "unk_token": "[UNK]",
            "added_tokens_decoder": {
                "11": {"content": "<s>", "special": True},
                "12": {"content": "</s>", "special": True},
            },
        },
        {},
        0,
        "2 tokens .*'<s>', '</s>'",
    ),
    "an unknown token beyond the head": (
        {**{k: v for k, v in IDS.items() if v != 3}, "X": 3, "<unk>": 11},
        {},
        {},
        0,
        "a token .*'<unk>'",
    ),
    "an added letter": (
        {k: v for k, v in IDS.items() if v < 10},
        {},
        {"F": 10},
        0,
        None,
    ),
    "fewer tokens than rows": ({k: v for k, v in IDS.items() if v < 8}, {}, {}, 0, None),
    "a hole": ({k: v for k, v in IDS.items() if v not in (6, 8)}, {}, {}, 0, None),
    "unknown is padding": (
        {"<pad>": 0, "|": 4, "x": 3, "<s>": 1, "</s>": 2, **LETTERS},
        {"unk_token": "<pad>"},
        {},
        0,
        None,
    ),
    "two spaces": (ids_with(**{" ": 6}), {}, {}, 0, None),
    "three spaces": (ids_with(**{" ": 6, "\u3000": 9}), {}, {}, 0, None),
    "a space as the delimiter": (
        ids_with(**{" ": 4}),
        {"word_delimiter_token": " "},
        {},
        0,
        None,
    ),
    "another delimiter": (ids_with(**{"▁": 4}), {"word_delimiter_token": "▁"}, {}, 0, None),
    "a bar that is no delimiter": (
        ids_with(**{" ": 6}),
        {"word_delimiter_token": " "},
        {},
        0,
        None,
    ),
    "words run together": (IDS, {"replace_word_delimiter_char": ""}, {}, 0, None),
    "an empty token": (ids_with(**{"": 7}), {}, {}, 0, None),
    "a line break": (ids_with(**{"\n": 7}), {}, {}, 0, None),
    "our own names": (ids_with(**{"<unused-8>": 8, "<unused-9>": 7, "": 9}), {}, {}, 0, None),
    "no id of the blank": (IDS, {}, {}, None, None),
    "no id of the blank, elsewhere": (
        {**{k: v for k, v in IDS.items() if v not in (0, 10)}, "<pad>": 10, "X": 0},
        {},
        {},
        None,
        None,
    ),
    "several letters": (ids_with(**{"SH": 6, "A B": 9}), {}, {}, 0, None),
    "lower case asked for": (IDS, {"do_lower_case": True}, {}, 0, None),
    "lower case asked for and given": (
        {k.lower(): v for k, v in IDS.items()},
        {"do_lower_case": True},
        {},
        0,
        None,
    ),
    "special tokens as tables": (
        IDS,
        {f"{n}_token": {"__type": "AddedToken", "content": f"<{n}>"} for n in ("unk", "pad")},
        {},
        0,
        None,
    ),
}


def write(folder: Path, name: str) -> Path:
    vocabulary, settings, added, pad, _ = VOCABULARIES[name]
    write_theirs(folder, "wav2vec2-layer-pre", "ForCTC", ids=vocabulary)
    told = {"tokenizer_class": "Wav2Vec2CTCTokenizer", **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    if added:
        (folder / "added_tokens.json").write_text(json.dumps(added))
    fields = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**fields, "pad_token_id": pad}))
    return folder


def plain(text: str, vocabulary: TheirVocabulary) -> list[str]:
    """The words of a text of transformers, without the special tokens, which are silent here."""
    for token in vocabulary.silent_tokens():
        text = text.replace(token, "")
    return text.split()


@pytest.mark.parametrize("name", VOCABULARIES)
def test_the_text_is_that_of_transformers(name, tmp_path):
    source = write(tmp_path / "theirs", name)
    proof = import_model(str(source), tmp_path / "ours")
    assert max(gap.largest for gap in proof.gaps) < 1e-4
    mine = load_model(tmp_path / "ours")
    tokenizer, (vocabulary, rows) = mine.tokenizer, vocabulary_of(mine)
    ours = {row: i for i, row in enumerate(rows) if row is not None}
    assert sorted(ours) == list(range(NUM_ROWS))  # no row is lost, none stands for two symbols
    theirs = transformers.AutoTokenizer.from_pretrained(source)
    delimiter = VOCABULARIES[name][1].get("word_delimiter_token", "|")
    vars(theirs)["_word_delimiter_token"] = delimiter  # which from_pretrained of version 5 forgets
    generator = np.random.default_rng(1)
    for _ in range(40):
        path = generator.integers(0, NUM_ROWS, 12).tolist()
        symbols = [ours[row] for n, row in enumerate(path) if n == 0 or row != path[n - 1]]
        text = tokenizer.decode([i for i in symbols if i > 1])
        assert text.split() == plain(theirs.decode(path, skip_special_tokens=False), vocabulary)


@pytest.mark.parametrize("name", VOCABULARIES)
def test_what_has_no_row_is_named(name, tmp_path, capsys):
    source, said = write(tmp_path / "theirs", name), VOCABULARIES[name][4]
    import_model(str(source), tmp_path / "ours", verify=False)
    told = load_model(tmp_path / "ours").meta.get("left_out", [])
    assert len(told) == (said is not None)
    if said is not None:
        arguments = ["import", str(source), "--out", str(tmp_path / "again"), "--no-verify"]
        assert main(arguments) == 0
        out = capsys.readouterr().out
        assert "Left out: " + told[0] in out
        assert re.search(said, out)


@pytest.mark.parametrize("name", VOCABULARIES)
def test_an_export_gives_the_vocabulary_back(name, tmp_path):
    source = write(tmp_path / "theirs", name)
    mine = open_model(source)
    write_folder(mine, tmp_path / "back")
    again = open_model(tmp_path / "back")
    assert again.tokenizer.symbols == mine.tokenizer.symbols
    assert again.tokenizer.silent == mine.tokenizer.silent
    assert again.tokenizer.uppercase == mine.tokenizer.uppercase
    one, other = (load_file(f / "model.safetensors") for f in (source, tmp_path / "back"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_letter_that_is_a_bar_takes_no_space_away(tmp_path):
    mine = own(PLAIN["wav2vec2-layer-pre"][1], "ab|c d")
    export_model(mine, tmp_path / "hf", "hf")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    ids = mine.tokenizer.encode("ab cd")
    assert theirs.decode(ids) == mine.tokenizer.decode(ids) == "ab cd"
    again = open_model(tmp_path / "hf").tokenizer
    assert again.decode(again.encode("a|b c")) == "a|b c"


def test_a_token_that_is_our_blank_or_unknown_symbol_is_silent(tmp_path):
    ids = ids_with(**{"<blank>": 7, "⁇": 8})
    source = write_theirs(tmp_path, "wav2vec2-layer-pre", "ForCTC", ids=ids)
    tokenizer = open_model(source).tokenizer
    assert tokenizer.decode([tokenizer.symbols.index(c) for c in ("A", "<unused-7>", "F")]) == "AF"


def test_the_beam_takes_every_space_for_the_end_of_a_word(tmp_path):
    tokenizer = open_model(write(tmp_path, "three spaces")).tokenizer
    assert [text for text in tokenizer.spellings if "▁" in text] == ["▁", "▁", "▁"]


def test_the_spaces_of_an_onnx_model_are_single(tmp_path):
    from speechssl.interop.onnx import _texts

    tokenizer = open_model(write(tmp_path, "three spaces")).tokenizer
    assert [text for text in _texts(tokenizer) if text.isspace()] == [" ", " ", " "]


def test_spaces_before_punctuation_are_kept_and_this_is_said(tmp_path):
    source = write_theirs(tmp_path, "wav2vec2-layer-pre", "ForCTC", ids=ids_with(**{",": 9}))
    place = source / "tokenizer_config.json"
    place.write_text(json.dumps({"clean_up_tokenization_spaces": True}))
    (said,) = open_model(source).meta["left_out"]
    assert "clean_up_tokenization_spaces" in said
    (source / "vocab.json").write_text(json.dumps(IDS))  # nothing to clean up
    assert "left_out" not in open_model(source).meta


# ---- what cannot be read is said, with the file -------------------------------------------------


@pytest.fixture
def source(tmp_path) -> Path:
    return write_theirs(tmp_path / "theirs", "wav2vec2-group-post", "ForCTC")


def refused(source: Path, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_folder(source)
    assert main(["import", str(source), "--out", str(source.with_name("out"))]) == 2


def test_a_blank_beyond_the_head_is_refused(source):
    ids = {**{k: v for k, v in IDS.items() if v}, "X": 0, "<pad>": 11}
    (source / "vocab.json").write_text(json.dumps(ids))
    refused(source, r"vocab\.json: The blank '<pad>' is id 11, and the head has 11 rows")


@pytest.mark.parametrize("told", [0, None, 99, -1, True])
def test_a_vocabulary_without_the_blank_is_refused(source, told):
    (source / "vocab.json").write_text(
        json.dumps({"[PAD]": 0, **{k: v for k, v in IDS.items() if v}})
    )
    fields = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**fields, "pad_token_id": told}))
    refused(source, r"vocab\.json: The blank is the padding token.* no '<pad>'.*pad_token in token")


def test_a_blank_that_only_the_config_names_is_taken(source):
    """transformers gives the padding token the next free row."""
    ids = {k: v for k, v in IDS.items() if v < 10}
    ids = {**{k: v for k, v in ids.items() if v}, "X": 0}
    (source / "vocab.json").write_text(json.dumps(ids))
    fields = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**fields, "pad_token_id": 10}))
    theirs = transformers.AutoTokenizer.from_pretrained(source)
    assert theirs.pad_token_id == 10
    mine = open_model(source)
    assert vocabulary_of(mine)[1][0] == 10
    assert mine.tokenizer.symbols[2] == "X"


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("vocab.json", {**IDS, "A": "x"}, r"vocab\.json: The vocabulary's 'A'"),
        ("added_tokens.json", {"Z": -4}, r"vocab\.json: The vocabulary's 'Z'"),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {"a": {"content": "Z"}}},
            r"vocab\.json: The vocabulary's 'Z' must be a row, got 'a'",
        ),
        ("tokenizer_config.json", {"pad_token": 3}, r"vocab\.json: The tokenizer's pad_token"),
        (
            "tokenizer_config.json",
            {"tokenizer_class": "Wav2Vec2PhonemeCTCTokenizer"},
            r"tokenizer_config\.json: This model's tokenizer .*PhonemeCTC",
        ),
        ("config.json", {"model_type": "whisper"}, r"config\.json: model_type 'whisper'"),
        ("config.json", {"hidden_act": "relu"}, r"config\.json: This config .*hidden_act"),
    ],
    ids=lambda given: given if isinstance(given, str) and "." in given[:25] else "",
)
def test_the_file_is_named(source, file, content, said):
    place = source / file
    before = json.loads(place.read_text()) if file == "config.json" else {}
    place.write_text(json.dumps({**before, **content}))
    refused(source, said)


def test_a_wrong_blank_names_the_file(source):
    (source / "vocab.json").write_text(json.dumps({**IDS, "<pad>": 1, "<s>": 0}))
    refused(source, r"vocab\.json: The config says that the blank is id 0, the vocabulary that")


# ---- several languages --------------------------------------------------------------------------


def test_each_language_may_have_another_number_of_symbols(tmp_path):
    name = next(n for n in CASES if n.startswith("wav2vec2"))
    source = write_theirs(tmp_path / "theirs", name, "ForCTC")
    wolof = {"<pad>": 0, "<unk>": 1, "|": 2, "a": 3, "ë": 4, "<s>": 5, "</s>": 6}
    (source / "vocab.json").write_text(json.dumps({"eng": IDS, "wol": wolof}))
    state = load_file(source / "model.safetensors")
    part = {k: v + 0.1 for k, v in state.items() if "adapter_layer" in k}
    head = {"lm_head.weight": torch.randn(5, state["lm_head.weight"].shape[1])}
    save_file({**part, **head, "lm_head.bias": torch.zeros(5)}, source / "adapter.wol.safetensors")
    checkpoint = read_folder(source, language="wol")
    assert checkpoint.tokenizer.symbols == ("<blank>", "⁇", " ", "a", "ë")
    assert "'<s>', '</s>'" in checkpoint.meta["left_out"][0]
    with pytest.raises(ValueError, match=r"vocab\.json holds .* 2 languages \(eng, wol\): import"):
        read_folder(source)


def test_the_language_that_the_tokenizer_names_is_read_and_the_others_are_named(tmp_path):
    """A fine-tuned MMS model as transformers saves it: its weights are those of the language."""
    name = next(n for n in CASES if n.startswith("wav2vec2"))
    source = write_theirs(tmp_path / "theirs", name, "ForCTC")
    other = {"<pad>": 0, "<unk>": 1, "|": 2, "ë": 3}
    (source / "vocab.json").write_text(json.dumps({"wol": other, "eng": IDS}))
    settings = {"tokenizer_class": "Wav2Vec2CTCTokenizer", "target_lang": "eng"}
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    proof = import_model(str(source), tmp_path / "ours")
    assert proof.transcripts[0] == proof.transcripts[1]
    mine = load_model(tmp_path / "ours")
    assert "A" in mine.tokenizer.symbols
    assert mine.meta["language"] == "eng"
    assert "the other languages" in mine.meta["left_out"][0]
    settings["target_lang"] = "xyz"
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="'xyz' is not among them"):
        read_folder(source)


# ---- heads of other jobs ------------------------------------------------------------------------

HEADS = {
    "ForSequenceClassification": {"classifier", "projector"},
    "ForAudioFrameClassification": {"classifier"},
    "ForXVector": {"classifier", "feature_extractor", "objective", "projector", "tdnn"},
}
JOBS = [
    (family, kind)
    for family in ("wav2vec2", "hubert", "wavlm", "data2vec-audio", "unispeech", "unispeech-sat")
    for kind in HEADS
    if (family, kind) not in {("hubert", k) for k in list(HEADS)[1:]}
    and (family, kind) not in {("unispeech", k) for k in list(HEADS)[1:]}
]


def small(family: str, kind: str, **fields):
    """A small random model of transformers."""
    stem = {"wav2vec2": "Wav2Vec2", "hubert": "Hubert", "wavlm": "WavLM"}.get(family) or {
        "data2vec-audio": "Data2VecAudio",
        "unispeech": "UniSpeech",
        "unispeech-sat": "UniSpeechSat",
    }[family]
    config = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "conv_dim": (8, 8),
        "conv_kernel": (10, 4),
        "conv_stride": (10, 4),
        "num_conv_pos_embeddings": 4,
        "conv_pos_kernel_size": 3,
        "num_conv_pos_embedding_groups": 2,
        "num_buckets": 8,
        "max_bucket_distance": 12,
        "classifier_proj_size": 6,
        "tdnn_dim": (6, 6),
        "tdnn_kernel": (3, 1),
        "tdnn_dilation": (1, 1),
        "xvector_output_dim": 6,
        "codevector_dim": 8,
        "proj_codevector_dim": 8,
        "num_codevectors_per_group": 4,
        "num_ctc_classes": 5,
        **fields,
    }
    torch.manual_seed(2)
    made = getattr(transformers, stem + kind)(getattr(transformers, f"{stem}Config")(**config))
    return made.eval()


@pytest.mark.parametrize(("family", "kind"), JOBS, ids=lambda x: x)
def test_the_body_of_a_classifier_is_imported_and_its_head_is_named(family, kind, tmp_path, capsys):
    theirs = small(family, kind, use_weighted_layer_sum=True)
    theirs.save_pretrained(tmp_path / "theirs")
    assert main(["import", str(tmp_path / "theirs"), "--out", str(tmp_path / "ours")]) == 0
    out = capsys.readouterr().out
    for name in HEADS[kind] | {"layer_weights"}:
        assert f"Left out: {name}\n" in out
    mine = load_model(tmp_path / "ours")
    wave = 0.1 * torch.randn(1, 3000)
    with torch.no_grad():
        expected = theirs.base_model(wave).last_hidden_state
        assert torch.allclose(mine.model(wave, torch.tensor([3000])).context, expected, atol=1e-4)


@pytest.mark.parametrize("family", ["unispeech", "unispeech-sat"])
@pytest.mark.parametrize("norm", ["group", "layer"])
def test_unispeech_is_read_and_written_as_such(family, norm, tmp_path):
    theirs = small(family, "ForPreTraining", feat_extract_norm=norm)
    theirs.save_pretrained(tmp_path / "theirs")
    proof = import_model(str(tmp_path / "theirs"), tmp_path / "ours")
    assert max(gap.largest for gap in proof.gaps) < 1e-4
    mine = load_model(tmp_path / "ours")
    assert {"quantizer", "project_q", "project_hid"} < set(mine.meta["left_out"])
    assert not mine.pretraining
    write_folder(mine, tmp_path / "back")
    assert json.loads((tmp_path / "back/config.json").read_text())["model_type"] == family
    one = theirs.base_model.state_dict()
    other = load_file(tmp_path / "back/model.safetensors")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_body_with_a_tensor_too_many_is_still_refused(tmp_path):
    theirs = small("wav2vec2", "ForSequenceClassification")
    state = {**theirs.state_dict(), "wav2vec2.encoder.more": torch.zeros(2)}
    theirs.save_pretrained(tmp_path)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"known here 1 \(encoder\.more\)"):
        read_folder(tmp_path)


def test_features_are_extracted_from_a_classifier_but_it_does_not_transcribe(
    tmp_path, record, capsys
):
    small("wav2vec2", "ForSequenceClassification").save_pretrained(tmp_path / "theirs")
    out, sound = tmp_path / "features", str(record("a.wav", 1.0))
    assert main(["extract", str(tmp_path / "theirs"), sound, "--out", str(out)]) == 0
    assert main(["transcribe", str(tmp_path / "theirs"), sound]) == 2
    assert "only its body is read, not classifier, projector" in capsys.readouterr().err
