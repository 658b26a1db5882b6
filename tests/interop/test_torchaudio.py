"""torchaudio's models: equal outputs, and what a bundle's name may be."""

import pytest
import torch

from speechssl.interop.proof import against_module, proof_sounds
from speechssl.interop.sources import import_model, open_model
from speechssl.interop.torchaudio import from_torchaudio, require_torchaudio

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


def test_labels_that_do_not_fit_are_refused():
    given = arguments("group_norm", False, 5)
    state = torchaudio.models.wav2vec2_model(**given).state_dict()
    with pytest.raises(ValueError, match="writes 5 symbols, the labels name 3"):
        from_torchaudio(state, given, labels=("-", "|", "A"))


def test_unknown_and_unsupported_bundles_are_refused_by_name():
    for name in ("WAV2VEC3", "WAVLM_BASE"):
        with pytest.raises(ValueError, match=f"no bundle '{name}'.*WAV2VEC2_BASE"):
            open_model(f"torchaudio:{name}")


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
