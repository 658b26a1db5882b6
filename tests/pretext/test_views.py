"""Views of a micro-batch: backwards, by the moving average, from a layer, of a task's own waves."""

import numpy as np
import pytest
import torch

from speechssl.data.dataset import Batch
from speechssl.model.ema import EMA
from speechssl.model.masking import span_mask
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.task import MaskConfig, View
from speechssl.text import CharTokenizer
from tests.pretext.speech import MODELS, a_model, waves


def inputs(kind="filterbank", **more):
    wave, lengths = waves()
    texts = ("ab", "", "a b", "b")
    batch = Batch(0, ("",), texts, 0.5 * wave, wave, lengths, distorted2=0.25 * wave)
    return Inputs(
        a_model(kind), batch, device=torch.device("cpu"), seed=3, mask=MaskConfig(0.5, 1), **more
    )


@pytest.mark.parametrize("kind", MODELS)
def test_frames_of_a_wave_backwards_fall_on_the_frames_forwards(kind):
    """An encoder whose filters are symmetric outputs the same frames in reverse order: here the
    energy of what each frame is computed from."""
    x = inputs(kind)
    model = x.model
    num = model.config.hop_samples
    field = model.encoder.min_samples
    wave, lengths = waves()
    seen = {}

    def keep(module, args):  # noqa: ARG001
        seen["wave"], seen["lengths"] = args

    hook = model.encoder.register_forward_pre_hook(keep)
    backwards = x.encode(View("clean", None, order="reverse"))
    hook.remove()
    assert backwards.lengths.tolist() == x.frames.tolist()
    for row, frames in enumerate(x.frames.tolist()):
        for t in range(frames):
            there = seen["wave"][row, t * num : t * num + field]
            other = frames - 1 - t
            here = wave[row, other * num : other * num + field]
            torch.testing.assert_close(there, here.flip(0))
    assert (seen["lengths"] <= lengths).all()


def test_masks_are_turned_with_the_wave():
    x = inputs()
    drawn = {}
    x.model.register_forward_pre_hook(lambda *args: drawn.update(args[2]), with_kwargs=True)
    x.encode(View("clean", order="reverse"))
    for row, num in enumerate(x.frames.tolist()):
        assert torch.equal(drawn["mask"][row, :num], x.mask()[row, :num].flip(0))


def test_the_second_distortion_is_another_wave():
    x = inputs()
    wave, lengths = waves()
    expected = x.model(0.25 * wave, lengths)
    torch.testing.assert_close(x.encode(View("distorted2", None)).context, expected.context)


def test_the_moving_average_has_no_gradient():
    with pytest.raises(ValueError, match="no moving average"):
        inputs().encode(View(network="ema"))
    other = a_model("filterbank", 5)
    x = inputs(ema=EMA(other))
    output = x.encode(View("clean", None, "ema"))
    assert not output.context.requires_grad
    torch.testing.assert_close(output.context, other(*waves()).context)


def test_a_layer_is_seen_as_the_context_and_computed_once():
    x = inputs(keep_hidden=True)
    top, low = x.encode(), x.at_layer(1).encode()
    assert x.at_layer(-1).encode() is top
    assert torch.equal(x.at_layer(2).encode().context, top.context)
    expected = torch.nn.functional.layer_norm(top.hidden[1], top.hidden[1].shape[-1:])
    assert torch.equal(low.context, expected)
    assert low.latents is top.latents


def test_waves_of_a_task_go_through_the_model():
    x = inputs()
    wave, _ = waves()
    part, num = wave[:2, 1280:5120], torch.tensor([3840, 2000])
    torch.testing.assert_close(x.encode_waves(part, num).context, x.model(part, num).context)
    assert len(x.encode_waves(part, num, keep_hidden=True).hidden) == 3


def test_tokens_of_the_utterances_that_have_text():
    tokenizer = CharTokenizer.train(["ab "])
    x = inputs(tokenizer=tokenizer)
    ids, lengths = x.tokens()
    assert lengths.tolist() == [2, 0, 3, 1]
    assert ids.shape == (4, 3)
    assert ids[2].tolist() == tokenizer.encode("a b")
    assert not ids[1].any()
    with pytest.raises(ValueError, match="no tokenizer"):
        inputs().tokens()


def test_randomness_of_an_utterance_is_its_own():
    x = inputs()
    assert x.rng_of("a", 0).random() == inputs().rng_of("a", 0).random()
    assert len({x.rng_of(p, r).random() for p in "ab" for r in (0, 1)}) == 4
    assert inputs().corpora == (0, 0, 0, 0)
    assert inputs(corpora=[1, 0, 2, 0]).corpora == (1, 0, 2, 0)


def test_masks_on_speech_leave_out_pauses():
    wave, lengths = waves((32000, 16000, 9000))
    pauses = torch.ones(3, 32000)
    pauses[0, 6400:16000] = 0.001  # 60 dB below
    pauses[1, :6400] = 0.02  # 34 dB
    pauses[2] = 0.0
    batch = Batch(0, ("",), ("",) * 3, wave, wave * pauses, lengths)
    config = MaskConfig(0.5, 1, speech_only=True)
    x = Inputs(a_model("filterbank"), batch, device=torch.device("cpu"), seed=3, mask=config)
    mask = x.mask()
    assert not mask[0, 10:25].any()
    assert mask[0].sum() in (17, 18)  # half of the 35 frames of speech
    assert not mask[1, :10].any()
    assert mask[1].sum() in (7, 8)
    assert mask[2].sum() in (7, 8)  # of silence nothing can be chosen
    assert torch.equal(mask, x.mask(View(mask=config)))
    other = x.mask(View(mask=MaskConfig(0.5, 1)))
    assert other[0, 10:25].any()


def test_spans_go_on_behind_a_pause():
    allowed = np.array([[1, 1, 0, 0, 1, 1, 1, 1, 0, 1]], dtype=bool)
    for seed in range(20):
        mask = span_mask(
            [10], 10, share=0.4, span=3, generator=np.random.default_rng(seed), allowed=allowed
        )
        assert not mask[~allowed].any()
        places = np.flatnonzero(mask[allowed])
        assert len(places) >= 3
        assert (np.diff(places) == 1).sum() >= 2
