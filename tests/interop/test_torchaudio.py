"""torchaudio's models: equal outputs, and what a bundle's name may be."""

import urllib.error

import pytest
import torch

from speechssl.interop.export import export_model
from speechssl.interop.proof import against_module, ours_of, proof_sounds
from speechssl.interop.sources import import_model, open_model
from speechssl.interop.torchaudio import from_torchaudio, require_torchaudio
from tests.interop.test_families import config
from tests.interop.test_folders import own

try:
    torchaudio = require_torchaudio()
except ImportError:
    pytest.skip("torchaudio does not load here", allow_module_level=True)

LABELS = ("-", "|", "A", "B", "'")


def arguments(mode: str, first: bool, aux: int | None) -> dict:
    return {
        "extractor_mode": mode,
        "extractor_conv_layer_config": [(12, 10, 5), (16, 3, 4), (20, 2, 4)],
        "extractor_conv_bias": first,
        "encoder_embed_dim": 24,
        "encoder_projection_dropout": 0.0,
        "encoder_pos_conv_kernel": 16,
        "encoder_pos_conv_groups": 4,
        "encoder_num_layers": 2,
        "encoder_num_heads": 4,
        "encoder_attention_dropout": 0.0,
        "encoder_ff_interm_features": 40,
        "encoder_ff_interm_dropout": 0.0,
        "encoder_dropout": 0.0,
        "encoder_layer_norm_first": first,
        "encoder_layer_drop": 0.0,
        "aux_num_out": aux,
    }


@pytest.mark.parametrize("aux", [None, 5], ids=["body", "ctc"])
@pytest.mark.parametrize("first", [False, True], ids=["post", "pre"])
@pytest.mark.parametrize("mode", ["group_norm", "layer_norm"])
def test_outputs_agree(mode, first, aux):
    given = arguments(mode, first, aux)
    torch.manual_seed(2)
    theirs = torchaudio.models.wav2vec2_model(**given).eval()
    checkpoint = from_torchaudio(theirs.state_dict(), given, labels=LABELS if aux else None)
    proof = against_module(checkpoint, theirs, "torchaudio")
    proof.check()
    if aux:
        assert proof.transcripts[0] == proof.transcripts[1]
        assert checkpoint.tokenizer.decode(checkpoint.tokenizer.encode("ab b'a")) == "ab b'a"


WAVLM = {"encoder_num_buckets": 8, "encoder_max_distance": 12}


@pytest.mark.parametrize("aux", [None, 5], ids=["body", "ctc"])
@pytest.mark.parametrize("first", [False, True], ids=["post", "pre"])
def test_outputs_of_wavlm_agree(first, aux):
    given = {**arguments("layer_norm", first, aux), **WAVLM}
    torch.manual_seed(2)
    theirs = torchaudio.models.wavlm_model(**given).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "rel_attn" in name or "gru_rel" in name:
                parameter.add_(torch.randn_like(parameter))  # so that distances count
    checkpoint = from_torchaudio(theirs.state_dict(), given, labels=LABELS if aux else None)
    assert checkpoint.speech.config.context.rel_buckets == 8
    against_module(checkpoint, theirs, "torchaudio").check()


@pytest.mark.parametrize("symbols", [None, "abc déf"], ids=["body", "ctc"])
@pytest.mark.parametrize(("norm", "order"), [("group", "post"), ("layer", "pre")])
def test_what_is_exported_is_opened_by_torchaudio(tmp_path, norm, order, symbols):
    """By its own reader of models of transformers."""
    transformers = pytest.importorskip("transformers")
    from torchaudio.models.wav2vec2.utils import import_huggingface_model

    mine = own(config(norm, order), symbols)
    export_model(mine, tmp_path / "hf", "hf", verify=False)
    kind = transformers.AutoModelForCTC if symbols else transformers.AutoModel
    theirs = import_huggingface_model(kind.from_pretrained(tmp_path / "hf")).eval()
    for wave in proof_sounds(16000):
        with torch.no_grad():
            rows = theirs(torch.from_numpy(wave)[None])[0][0]
        context, log_probs = ours_of(mine, wave)
        ours = context if log_probs is None else log_probs
        rows = rows if log_probs is None else rows.log_softmax(1)
        assert float((ours - rows).abs().max()) < 1e-4 * max(1.0, float(rows.abs().max()))


def test_labels_that_do_not_fit_are_refused():
    given = arguments("group_norm", False, 5)
    state = torchaudio.models.wav2vec2_model(**given).state_dict()
    with pytest.raises(ValueError, match="has 5 rows, the labels name 3"):
        from_torchaudio(state, given, labels=("-", "|", "A"))


def test_unknown_and_unsupported_bundles_are_refused_by_name():
    for name in ("WAV2VEC3", "MMS_FA", "SQUIM_OBJECTIVE"):
        with pytest.raises(ValueError, match=f"no bundle '{name}'.*WAV2VEC2_BASE"):
            open_model(f"torchaudio:{name}")


def test_a_bundle_that_cannot_be_fetched_says_what_to_do(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"cache .*no route.*with a network"):
        open_model("torchaudio:WAVLM_BASE")


def test_a_download_that_broke_off_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    place = tmp_path / "hub" / "checkpoints" / "wavlm_base.pth"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"PK\x03\x04" + b"0" * 1000)
    with pytest.raises(ValueError, match=r"hub/checkpoints\) holds of .*WAVLM_BASE is damaged"):
        open_model("torchaudio:WAVLM_BASE")


def test_a_bundle_is_read_with_its_labels_and_normalisation(monkeypatch, tmp_path):
    given = arguments("layer_norm", True, 5)
    torch.manual_seed(2)
    inner = torchaudio.models.wav2vec2_model(**given)

    class Normalising(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = inner

        def forward(self, wave):
            return self.model(torch.nn.functional.layer_norm(wave, wave.shape))

    class Wav2Vec2ASRBundle:
        _params, _normalize_waveform, _model_type, sample_rate = given, True, "Wav2Vec2", 16000

        def get_model(self):
            return Normalising().eval()

        def get_labels(self):
            return LABELS

    monkeypatch.setattr(torchaudio.pipelines, "MADE_UP", Wav2Vec2ASRBundle(), raising=False)
    proof = import_model("torchaudio:MADE_UP", tmp_path / "ours")
    assert proof.transcripts[0] == proof.transcripts[1]
    checkpoint = open_model(tmp_path / "ours")
    assert checkpoint.speech.config.normalize_wave
    wave = torch.from_numpy(proof_sounds(16000)[0])[None]
    with torch.no_grad():
        rows = Normalising()(wave)[0].log_softmax(2)
        ours, _ = checkpoint.model(wave, torch.tensor([wave.shape[1]]))
    torch.testing.assert_close(ours[:, :, [0, 2, 3, 4, 5]], rows, atol=0.02, rtol=0)
