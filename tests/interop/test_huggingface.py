"""Weights and configs of transformers' Wav2Vec2, both ways: equal outputs and losses.

Everything is float32, random weights, tiny models; the bound is 1e-4.
"""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from speechssl.interop import huggingface as hf
from speechssl.interop.huggingface.config import DEFAULTS
from speechssl.model import config as sizes
from speechssl.model.config import ContextConfig, ConvEncoderConfig, ModelConfig
from speechssl.model.heads import CTCHead
from speechssl.model.speech_model import CTCModel, SpeechModel
from speechssl.pretext.contrastive import ContrastiveConfig, ContrastiveTask
from speechssl.pretext.info_nce import draw_negatives
from speechssl.pretext.task import combine

transformers = pytest.importorskip("transformers")

BOUND = 1e-4
LENGTHS = (4000, 2511, 1200)
VOCAB = 11
TASK = ContrastiveConfig(
    target_dim=16, num_negatives=7, groups=2, entries=12, feature_penalty=0.0, temperature=0.2
)
HEADS = asdict(TASK) | {"quantizer": "gumbel"}
NORMALISED = {"do_normalize": True, "sampling_rate": 16000}
PLAIN = {"do_normalize": False, "sampling_rate": 16000}

SEVEN = ((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))
SHORT = ((10, 3, 2), (5, 4, 4))


def config(norm, order, dims, kernels_strides, *, bias=False, pos_kernel=16, eps=1e-5):
    return ModelConfig(
        encoder=ConvEncoderConfig(dims, *kernels_strides, norm=norm, bias=bias),
        context=ContextConfig(
            dim=24,
            num_layers=3,
            num_heads=4,
            ffn_dim=40,
            norm_order=order,
            pos_kernel=pos_kernel,
            pos_groups=4,
            norm_eps=eps,
            dropout=0.0,
            attention_dropout=0.0,
            layerdrop=0.0,
        ),
    )


CONFIGS = {
    "group-post": config("group", "post", (16,) * 7, SEVEN),
    "group-pre": config("group", "pre", (16,) * 7, SEVEN, bias=True),
    "layer-post": config("layer", "post", (16,) * 7, SEVEN),
    "layer-pre": config("layer", "pre", (16,) * 7, SEVEN, bias=True),
    "group-post-uneven": config("group", "post", (8, 12, 20), SHORT, pos_kernel=15),
    "group-pre-uneven": config("group", "pre", (20, 12, 8), SHORT, eps=1e-3),
    "layer-post-uneven": config("layer", "post", (8, 12, 20), SHORT, bias=True, eps=1e-3),
    "layer-pre-uneven": config("layer", "pre", (20, 12, 8), SHORT, bias=True, pos_kernel=15),
}
EVERY = pytest.mark.parametrize("name", CONFIGS)


def theirs(kind: str, ours: ModelConfig, **extra):
    """A random model of transformers, in evaluation; its norms and biases are random too."""
    fields = hf.hf_config(ours, vocab_size=VOCAB, contrastive=HEADS)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = getattr(transformers, kind)(transformers.Wav2Vec2Config(**{**fields, **extra}))
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.2 * torch.randn_like(parameter))
    return made.eval()


def read(their_model, ours: ModelConfig) -> tuple[SpeechModel, hf.ImportedWeights]:
    weights = hf.from_hf_state(their_model.state_dict(), ours)
    model = SpeechModel(ours)
    model.load_state_dict(weights.speech)
    return model.eval(), weights


def waves(lengths=LENGTHS) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    wave = torch.zeros(len(lengths), max(lengths))
    for row, length in enumerate(lengths):
        wave[row, :length] = 0.3 * torch.randn(length, generator=generator)
    return wave, torch.tensor(lengths)


def sample_mask(wave: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    return (torch.arange(wave.shape[1]) < lengths[:, None]).long()


def their_hidden(model, wave, lengths, ours, **options) -> list[list[torch.Tensor]]:
    """For each utterance its hidden states and last context, valid frames only.

    A layer-norm model gets the padded batch, a group-norm model each utterance by itself.
    """
    alone = ours.encoder.norm == "group"
    rows = []
    with torch.no_grad():
        if not alone:
            out = model(
                wave,
                attention_mask=sample_mask(wave, lengths),
                output_hidden_states=True,
                **options,
            )
        for row, length in enumerate(lengths.tolist()):
            if alone:
                out = model(wave[row : row + 1, :length], output_hidden_states=True, **options)
            frames = int(model._get_feat_extract_output_lengths(torch.tensor(length)))
            at = 0 if alone else row
            states = [*out.hidden_states, out.last_hidden_state, out.extract_features]
            rows.append([state[at, :frames] for state in states])
    return rows


def worst(pairs) -> float:
    gap = 0.0
    for one, other in pairs:
        assert one.shape == other.shape
        gap = max(gap, float((one - other).abs().max()))
    return gap


@EVERY
@pytest.mark.parametrize("lengths", [(4000, 4000), LENGTHS], ids=["full", "padded"])
def test_every_hidden_state_agrees(name, lengths):
    ours = CONFIGS[name]
    their_model = theirs("Wav2Vec2Model", ours)
    model, _ = read(their_model, ours)
    wave, sizes_ = waves(lengths)
    with torch.no_grad():
        out = model(wave, sizes_, keep_hidden=True)
    expected = their_hidden(their_model, wave, sizes_, ours)
    pairs = []
    for row, frames in enumerate(out.lengths.tolist()):
        *hidden, last, latents = expected[row]
        assert len(last) == frames
        assert len(hidden) == ours.context.num_layers + 1
        if ours.context.norm_order == "pre":  # ours takes the last one after the final norm
            hidden[-1] = last
        mine = [*out.hidden, out.context, out.latents]
        pairs += zip([m[row, :frames] for m in mine], [*hidden, last, latents], strict=True)
    gap = worst(pairs)
    print(f"largest gap: {gap:.1e}")
    assert gap < BOUND
    assert float(out.context.abs().max()) > 0.1  # not a comparison of zeros


def test_padded_group_norm_is_where_transformers_depends_on_the_batch():
    ours = CONFIGS["group-post"]
    their_model = theirs("Wav2Vec2Model", ours)
    wave, lengths = waves()
    alone = their_hidden(their_model, wave, lengths, ours)[2][-1]
    with torch.no_grad():
        batched = their_model(wave, attention_mask=sample_mask(wave, lengths)).extract_features
    assert float((alone - batched[2, : len(alone)]).abs().max()) > 0.1


@EVERY
def test_ctc_logits_agree(name):
    ours = CONFIGS[name]
    their_model = theirs("Wav2Vec2ForCTC", ours)
    speech, weights = read(their_model, ours)
    model = CTCModel(speech, CTCHead(ours.context.dim, VOCAB)).eval()
    model.head.load_state_dict(weights.head)
    wave, lengths = waves((4000, 4000) if ours.encoder.norm == "group" else LENGTHS)
    with torch.no_grad():
        logs, frames = model(wave, lengths)
        logits = their_model(wave, attention_mask=sample_mask(wave, lengths)).logits
    pairs = [
        (logs[row, :n], logits[row, :n].log_softmax(1)) for row, n in enumerate(frames.tolist())
    ]
    gap = worst(pairs)
    print(f"largest gap: {gap:.1e}")
    assert gap < BOUND


def pretraining_batch(ours: ModelConfig, *, whole: bool):
    """wave, lengths, mask (B, T), negatives as ours (M, N) and as theirs (B, T, N)."""
    wave, lengths = waves((4000, 4000) if whole or ours.encoder.norm == "group" else LENGTHS)
    frames = SpeechModel(ours).frame_lengths(lengths)
    valid = np.arange(int(frames.max())) < frames.numpy()[:, None]
    generator = np.random.default_rng(1)
    mask = valid & (whole | (generator.random(valid.shape) < 0.6))
    negatives = draw_negatives(mask, TASK.num_negatives, generator)
    where = np.flatnonzero(mask)  # our index counts masked frames, theirs all frames
    theirs_ = np.zeros((*mask.shape, TASK.num_negatives), dtype=np.int64)
    theirs_[mask] = where[negatives]
    return wave, lengths, *map(torch.from_numpy, (mask, negatives, theirs_))


def both_losses(ours: ModelConfig, training: bool, *, whole: bool = False):
    """Our terms and counts, their outputs; the same Gumbel noise in training."""
    their_model = theirs("Wav2Vec2ForPreTraining", ours).train(training)
    model, weights = read(their_model, ours)
    task = ContrastiveTask(TASK, model).train(training)
    task.load_state_dict(weights.contrastive)
    model.train(training)
    wave, lengths, mask, negatives, their_negatives = pretraining_batch(ours, whole=whole)
    for quantizer in (task.quantizer, their_model.quantizer):
        quantizer.temperature = 1.3
        quantizer.register_forward_pre_hook(lambda *_: torch.manual_seed(11) and None)
    with torch.random.fork_rng():
        result = task.loss(model(wave, lengths, mask=mask), mask, negatives)
        expected = their_model(
            wave,
            attention_mask=sample_mask(wave, lengths),
            mask_time_indices=mask,
            sampled_negative_indices=their_negatives,
        )
    return result, expected, int(mask.sum())


def check_losses(result, expected, num):
    contrastive, diversity = (
        result.terms["contrastive"].total,
        result.terms["contrastive_diversity"].total,
    )
    gaps = [
        (contrastive - expected.contrastive_loss).abs().item() / num,
        (diversity - expected.diversity_loss).abs().item() / num,
        (combine(result.terms, {"masked": num}) - expected.loss / num).abs().item(),
    ]
    print(f"largest gap: {max(gaps):.1e}")
    assert max(gaps) < BOUND
    assert torch.allclose(contrastive, expected.contrastive_loss, rtol=BOUND)
    assert 0.5 < contrastive.item() / num < 20


@EVERY
def test_losses_agree_with_the_same_gumbel_noise(name):
    # Theirs draws noise for every frame, ours for masked ones: with all masked, the same draws.
    result, expected, num = both_losses(CONFIGS[name], training=True, whole=True)
    check_losses(result, expected, num)


@EVERY
def test_losses_agree_on_a_partial_mask(name, monkeypatch):
    def without_noise(logits, tau, hard, dim=-1):
        assert hard
        soft = (logits / tau).softmax(dim)
        chosen = torch.zeros_like(soft).scatter(dim, soft.argmax(dim, keepdim=True), 1.0)
        return chosen - soft.detach() + soft

    monkeypatch.setattr(torch.nn.functional, "gumbel_softmax", without_noise)
    ours = CONFIGS[name]
    result, expected, num = both_losses(ours, training=True)
    check_losses(result, expected, num)


@EVERY
def test_contrastive_loss_agrees_in_evaluation(name):
    # Only the contrastive part: in evaluation theirs measures the perplexity of the hard choices.
    result, expected, num = both_losses(CONFIGS[name], training=False)
    gap = (result.terms["contrastive"].total - expected.contrastive_loss).abs().item() / num
    assert gap < BOUND


def test_gradients_agree():
    ours = CONFIGS["group-pre-uneven"]
    their_model = theirs("Wav2Vec2ForPreTraining", ours)
    model, weights = read(their_model, ours)
    task = ContrastiveTask(TASK, model).eval()
    task.load_state_dict(weights.contrastive)
    wave, lengths, mask, negatives, their_negatives = pretraining_batch(ours, whole=False)
    task.loss(model(wave, lengths, mask=mask), mask, negatives).terms[
        "contrastive"
    ].total.backward()
    their_model(
        wave, mask_time_indices=mask, sampled_negative_indices=their_negatives
    ).contrastive_loss.backward()
    grads = hf.from_hf_state(
        {
            name: torch.zeros_like(value) if value.grad is None else value.grad
            for name, value in their_model.named_parameters()
        },
        ours,
    )
    for name, value in model.named_parameters():
        assert value.grad is not None
        scale = float(value.grad.abs().max()) + 1e-3
        assert float((value.grad - grads.speech[name]).abs().max()) < 1e-3 * scale, name


# --- round trips ----------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize("kind", ["Wav2Vec2Model", "Wav2Vec2ForCTC", "Wav2Vec2ForPreTraining"])
def test_weights_go_and_come_back_bit_for_bit(name, kind):
    ours = CONFIGS[name]
    their_state = theirs(kind, ours).state_dict()
    weights = hf.from_hf_state(their_state, ours)
    model = SpeechModel(ours)
    model.load_state_dict(weights.speech)
    contrastive = None
    if kind == "Wav2Vec2ForCTC":
        model = CTCModel(model, CTCHead(ours.context.dim, VOCAB))
        model.head.load_state_dict(weights.head)
    if kind == "Wav2Vec2ForPreTraining":
        task = ContrastiveTask(TASK, SpeechModel(ours))
        task.load_state_dict(weights.contrastive)
        contrastive = task.state_dict()
    back = hf.to_hf_state(model, contrastive)
    assert back.keys() == their_state.keys()
    assert all(torch.equal(back[key], their_state[key]) for key in back)


def test_both_weight_norm_namings_are_read_and_written():
    ours = CONFIGS["layer-pre"]
    model = SpeechModel(ours)
    old, new = hf.to_hf_state(model, old_weight_norm=True), hf.to_hf_state(model)
    stem = "encoder.pos_conv_embed.conv."
    assert {stem + "weight_g", stem + "weight_v"} == old.keys() - new.keys()
    assert len(old) == len(new)
    for state in (old, new):
        read_back = hf.from_hf_state(state, ours).speech
        assert read_back.keys() == model.state_dict().keys()
        assert all(torch.equal(read_back[k], v) for k, v in model.state_dict().items())


def test_transformers_reads_the_old_names_from_a_folder(tmp_path):
    ours = CONFIGS["layer-pre-uneven"]
    model = SpeechModel(ours).eval()
    transformers.Wav2Vec2Config(**hf.hf_config(ours)).save_pretrained(tmp_path)
    from safetensors.torch import save_file

    save_file(
        hf.to_hf_state(model, old_weight_norm=True),
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    their_model = transformers.Wav2Vec2Model.from_pretrained(tmp_path)
    wave, lengths = waves((3000,))
    with torch.no_grad():
        gap = model(wave, lengths).context - their_model(wave).last_hidden_state
    assert float(gap.abs().max()) < BOUND


@EVERY
def test_configs_go_and_come_back(name):
    for preprocessor in (PLAIN, NORMALISED):
        ours = replace(CONFIGS[name], normalize_wave=preprocessor["do_normalize"])
        ours = replace(ours, latent_dropout=0.07)
        theirs_ = transformers.Wav2Vec2Config(**hf.hf_config(ours))
        for fields in (theirs_.to_dict(), theirs_.to_diff_dict()):  # all fields; those that differ
            assert hf.model_config_from_hf(fields, hf.hf_preprocessor(ours)) == ours


@pytest.mark.parametrize("name", ["base", "large", "tiny-conv"])
def test_the_published_sizes_go_and_come_back(name):
    ours = sizes.size(name)
    assert hf.model_config_from_hf(hf.hf_config(ours), hf.hf_preprocessor(ours)) == ours


def test_defaults_are_those_of_transformers():
    known = transformers.Wav2Vec2Config()
    for name, value in DEFAULTS.items():
        theirs_ = getattr(known, name)
        assert (tuple(theirs_) if isinstance(value, tuple) else theirs_) == value, name
    assert hf.model_config_from_hf({}) == hf.model_config_from_hf(known.to_dict())


def test_contrastive_fields_go_and_come_back():
    fields = hf.hf_config(CONFIGS["group-post"], contrastive=HEADS)
    assert fields["architectures"] == ["Wav2Vec2ForPreTraining"]
    found = hf.contrastive_fields_from_hf(fields)
    assert found.pop("quantizer") == "gumbel"
    assert ContrastiveConfig(**found) == TASK


def test_normalised_waves_are_those_of_the_feature_extractor():
    ours = replace(CONFIGS["layer-pre"], normalize_wave=True)
    extractor = transformers.Wav2Vec2FeatureExtractor(**hf.hf_preprocessor(ours))
    wave, lengths = waves()
    wave = wave + 0.1
    made = extractor(
        [w[:n].numpy() for w, n in zip(wave, lengths, strict=True)],
        sampling_rate=16000,
        padding=True,
        return_tensors="pt",
    )
    prepared, _ = SpeechModel(ours)._prepare(wave, lengths)
    assert float((prepared - made.input_values).abs().max()) < 1e-5


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_type", "whisper"),
        ("hidden_act", "relu"),
        ("feat_extract_activation", "relu"),
        ("add_adapter", True),
        ("feat_proj_layer_norm", False),
        ("conv_pos_batch_norm", True),
        ("feat_extract_norm", "batch"),
    ],
)
def test_a_config_of_another_model_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=str(value)):
        hf.model_config_from_hf({field: value})


def test_unequal_code_widths_are_refused():
    with pytest.raises(ValueError, match="codevector_dim and proj_codevector_dim"):
        hf.contrastive_fields_from_hf({"codevector_dim": 128})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"local_layers": 1}, "local_layers"),
        ({"upper": "gru"}, "context.upper = gru"),
        ({"pos_norm": True}, "pos_norm"),
    ],
)
def test_a_model_outside_the_published_form_is_refused_by_name(changes, said):
    ours = CONFIGS["layer-pre"]
    ours = replace(ours, context=replace(ours.context, **changes))
    with pytest.raises(ValueError, match=said):
        hf.hf_config(ours)
    with pytest.raises(ValueError, match=said):
        hf.to_hf_state(SpeechModel(ours))
    with pytest.raises(ValueError, match=said):
        hf.from_hf_state({}, ours)


def test_a_filterbank_is_refused_by_name():
    with pytest.raises(ValueError, match="filterbank"):
        hf.hf_config(sizes.tiny())


def test_heads_that_transformers_lacks_are_refused():
    ours = CONFIGS["layer-pre"]
    speech = SpeechModel(ours)
    with pytest.raises(ValueError, match="one row per frame, this head 2"):
        hf.to_hf_state(CTCModel(speech, CTCHead(24, VOCAB, upsample=2)))
    task = ContrastiveTask(TASK, speech)
    with pytest.raises(ValueError, match="CTC head or the pretraining heads"):
        hf.to_hf_state(CTCModel(speech, CTCHead(24, VOCAB)), task.state_dict())
    with pytest.raises(ValueError, match=r"quantizer\.logits\.weight"):
        hf.to_hf_state(speech, {"codebook": torch.zeros(1)})
    with pytest.raises(ValueError, match="kmeans"):
        hf.hf_config(ours, contrastive=HEADS | {"quantizer": "kmeans"})


def test_wrong_weights_are_refused_by_name():
    ours = CONFIGS["layer-pre"]
    state = hf.to_hf_state(SpeechModel(ours))
    broken = dict(state)
    del broken["encoder.layer_norm.weight"]
    with pytest.raises(ValueError, match=r"missing 1 \(encoder\.layer_norm\.weight\)"):
        hf.from_hf_state(broken, ours)
    with pytest.raises(ValueError, match=r"not known here 1 \(adapter\.layers\.0\.conv\.weight\)"):
        hf.from_hf_state({**state, "adapter.layers.0.conv.weight": torch.zeros(1)}, ours)
    with pytest.raises(ValueError, match=r"masked_spec_embed has shape \(3,\).*\(24,\)"):
        hf.from_hf_state({**state, "masked_spec_embed": torch.zeros(3)}, ours)
    with pytest.raises(ValueError, match=r"only a part of a head.*lm_head\.bias"):
        hf.from_hf_state({**state, "lm_head.weight": torch.zeros(3, 24)}, ours)


def test_a_model_without_a_mask_embedding_is_read():
    ours = CONFIGS["layer-pre"]
    their_model = theirs("Wav2Vec2Model", ours, mask_time_prob=0.0)
    assert "masked_spec_embed" not in their_model.state_dict()
    model, _ = read(their_model, ours)
    assert not model.mask_embedding.any()


def test_the_package_does_not_import_transformers():
    from pathlib import Path

    source = Path(hf.__file__).read_text(encoding="utf-8")
    assert "import transformers" not in source
    assert "from transformers" not in source
