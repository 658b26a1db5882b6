"""HuBERT, WavLM, data2vec-audio and MMS of transformers: equal outputs, and weights both ways.

Random float32 weights, tiny models; the bound is 1e-4.
"""

from dataclasses import replace

import pytest
import torch

from speechssl.checkpoint import build_empty, fill
from speechssl.interop import huggingface as hf
from speechssl.model.config import ContextConfig, ConvEncoderConfig, ModelConfig
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import CTCModel, SpeechModel

transformers = pytest.importorskip("transformers")

BOUND = 1e-4
VOCAB = 11
KERNELS, STRIDES = (10, 3, 2), (5, 4, 4)


def config(norm, order, dim=24, **context):
    return ModelConfig(
        encoder=ConvEncoderConfig((8, 12, 20), KERNELS, STRIDES, norm=norm, bias=order == "pre"),
        context=ContextConfig(
            dim=dim,
            num_layers=3,
            num_heads=4,
            ffn_dim=40,
            norm_order=order,
            dropout=0.0,
            attention_dropout=0.0,
            layerdrop=0.0,
            **{"pos_kernel": 16, "pos_groups": 4, **context},
        ),
    )


WAVLM = {"rel_buckets": 8, "rel_max_distance": 12}
CASES = {
    f"{family}-{norm}-{order}-{dim}": (family, config(norm, order, dim, **context))
    for family, context in (
        ("hubert", {}),
        ("wavlm", WAVLM),
        ("data2vec-audio", {"pos_stack": 3, "pos_kernel": 5}),
        ("wav2vec2", {"adapter_dim": 6}),
    )
    for norm in ("group", "layer")
    for order in ("post", "pre")
    for dim in (24, 32)
    if (family, norm, order) in {("data2vec-audio", "layer", "post")}
    or (family == "wav2vec2" and order == "pre")
    or family in ("hubert", "wavlm")
}
CASES["data2vec-audio-even-kernel"] = (
    "data2vec-audio",
    config("layer", "post", pos_stack=2, pos_kernel=4),
)
EVERY = pytest.mark.parametrize("name", CASES)


def theirs(family: str, ours: ModelConfig, kind: str):
    """A random model of transformers, in evaluation; its norms and biases are random too."""
    fields = hf.hf_config(ours, vocab_size=VOCAB, family=family)
    stem = hf.FAMILIES[family].stem
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = getattr(transformers, stem + kind)(getattr(transformers, f"{stem}Config")(**fields))
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.dim() == 1 or parameter.shape[-1] == 1:
                    parameter.add_(0.2 * torch.randn_like(parameter))
                elif parameter.dim() == 2:
                    parameter.mul_(8)  # so that attention, gates and adapters count
    return made.eval()


def read(their_model, ours: ModelConfig):
    weights = hf.from_hf_state(their_model.state_dict(), ours)
    model = build_empty(ours)
    fill(model, weights.speech)
    return model, weights


def waves(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    wave = torch.zeros(len(lengths), max(lengths))
    for row, length in enumerate(lengths):
        wave[row, :length] = 0.3 * torch.randn(length, generator=generator)
    return wave, torch.tensor(lengths)


def gap(one: torch.Tensor, other: torch.Tensor) -> float:
    assert one.shape == other.shape
    return float((one - other).abs().max())


@EVERY
def test_every_hidden_state_agrees_also_in_a_padded_batch(name):
    family, ours = CASES[name]
    their_model = theirs(family, ours, "Model")
    model, _ = read(their_model, ours)
    wave, lengths = waves(4000, 1700)
    with torch.no_grad():
        out = model(wave, lengths, keep_hidden=True)
        for row, (length, frames) in enumerate(zip(lengths, out.lengths, strict=True)):
            alone = their_model(wave[row : row + 1, :length], output_hidden_states=True)
            hidden = [*alone.hidden_states]
            if ours.context.norm_order == "pre":  # ours takes the last one after the final norm
                hidden[-1] = alone.last_hidden_state
            for mine, expected in zip(out.hidden, hidden, strict=True):
                assert gap(mine[row, :frames], expected[0]) < BOUND
    assert float(out.context.abs().max()) > 0.1


@EVERY
def test_ctc_logits_agree(name):
    family, ours = CASES[name]
    their_model = theirs(family, ours, "ForCTC")
    speech, weights = read(their_model, ours)
    head = CTCHead(ours.context.dim, VOCAB)
    head.load_state_dict(weights.head)
    wave, lengths = waves(3000)
    with torch.no_grad():
        mine, _ = CTCModel(speech, head).eval()(wave, lengths)
        assert gap(mine, their_model(wave).logits.log_softmax(2)) < BOUND


@EVERY
@pytest.mark.parametrize("kind", ["Model", "ForCTC"])
def test_weights_go_and_come_back_bit_for_bit(name, kind):
    family, ours = CASES[name]
    their_state = theirs(family, ours, kind).state_dict()
    weights = hf.from_hf_state(their_state, ours)
    model = SpeechModel(ours)
    model.load_state_dict(weights.speech)
    if kind == "ForCTC":
        model = CTCModel(model, CTCHead(ours.context.dim, VOCAB))
        model.head.load_state_dict(weights.head)
    back = hf.to_hf_state(model, family=family)
    assert back.keys() == their_state.keys()
    assert all(torch.equal(back[key], their_state[key]) for key in back)


@EVERY
def test_configs_go_and_come_back(name):
    family, ours = CASES[name]
    known = getattr(transformers, f"{hf.FAMILIES[family].stem}Config")
    theirs_ = known(**hf.hf_config(ours, family=family))
    for fields in (theirs_.to_dict(), {**theirs_.to_diff_dict(), "model_type": family}):
        assert hf.model_config_from_hf(fields, hf.hf_preprocessor(ours)) == ours


@pytest.mark.parametrize("family", hf.FAMILIES)
def test_defaults_are_those_of_transformers(family):
    known = getattr(transformers, f"{hf.FAMILIES[family].stem}Config")()
    assert hf.model_config_from_hf({"model_type": family}) == hf.model_config_from_hf(
        known.to_dict()
    )
    for name, value in hf.FAMILIES[family].defaults.items():
        assert getattr(known, name) == value


def test_what_data2vec_never_reads_changes_nothing():
    plain = {"model_type": "data2vec-audio"}
    said = {**plain, "feat_extract_norm": "group", "do_stable_layer_norm": True}
    assert hf.model_config_from_hf(said) == hf.model_config_from_hf(plain)


def test_the_family_is_the_first_that_can_hold_the_model():
    found = {hf.family_for(ours).model_type for _, ours in CASES.values()}
    assert found == {"wav2vec2", "wavlm", "data2vec-audio"}
    assert hf.hf_config(config("group", "post"), family="hubert")["model_type"] == "hubert"


@pytest.mark.parametrize(
    ("ours", "family", "said"),
    [
        (config("group", "post", **WAVLM), "hubert", r"Hubert .*context\.rel_buckets.*no hubert"),
        (config("group", "post"), "wavlm", "WavLM .*one positional convolution"),
        (config("layer", "pre", pos_stack=2, pos_kernel=5), None, r"No model .*norm_order 'pre'"),
        (config("group", "post", pos_stack=2, pos_kernel=5), None, r"No model .*pos_stack"),
        (config("layer", "pre", adapter_dim=4, **WAVLM), None, r"rel_buckets and context\.adapter"),
        (
            config("group", "post", adapter_dim=4),
            None,
            r"No model .*adapter_dim.*norm_order 'post'",
        ),
        (config("group", "post"), "whisper", "model_type 'whisper'"),
    ],
)
def test_a_model_outside_a_family_is_refused_by_name(ours, family, said):
    with pytest.raises(ValueError, match=said):
        hf.hf_config(ours, family=family)
    with pytest.raises(ValueError, match=said):
        hf.to_hf_state(SpeechModel(ours), family=family)


@pytest.mark.parametrize("family", ["hubert", "wavlm", "data2vec-audio"])
def test_only_wav2vec2_has_pretraining_heads(family):
    ours = next(c for f, c in CASES.values() if f == family)
    with pytest.raises(ValueError, match=f"no pretraining heads for {family}"):
        hf.hf_config(ours, family=family, contrastive={})


def test_a_model_with_a_bias_for_distances_learns():
    _, ours = CASES["wavlm-layer-pre-24"]
    model = SpeechModel(replace(ours, context=replace(ours.context, dropout=0.1)))
    model(*waves(4000, 1700)).context.square().mean().backward()
    for name in ("context.distance.weight", "context.layers.2.attention.gate.weight"):
        gradient = model.get_parameter(name).grad
        assert gradient is not None
        assert gradient.isfinite().all()
        assert gradient.any()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rel_buckets": 8, "norm_order": "pre", "local_layers": 1}, r"context\.rel_buckets"),
        ({"rel_buckets": 6}, "multiple of 4"),
        ({"rel_buckets": 320, "rel_max_distance": 80}, "above a quarter"),
        ({"rel_buckets": -4}, r"context\.rel_buckets must be at least 0"),
        ({"pos_stack": -1}, r"context\.pos_stack must be at least 0"),
    ],
)
def test_settings_that_cannot_be_are_named(changes, said):
    with pytest.raises(ValueError, match=said):
        ContextConfig(**changes)
