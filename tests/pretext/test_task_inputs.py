"""What tasks see of a micro-batch: computed once, a function of the batch's number."""

import pytest
import torch

from speechssl.data.dataset import Batch
from speechssl.pretext.features import frame_features
from speechssl.pretext.inputs import Inputs
from speechssl.pretext.task import MaskConfig, View
from tests.pretext.speech import a_model, waves


def inputs(index=0, *, mask=MaskConfig(0.5, 2), **more):  # noqa: B008
    wave, lengths = waves()
    batch = Batch(index, ("",), ("",), 0.5 * wave, wave, lengths)
    return Inputs(a_model("conv"), batch, device=torch.device("cpu"), seed=3, mask=mask, **more)


def test_a_view_is_computed_once():
    x = inputs()
    assert x.encode() is x.encode(View("distorted", "run"))
    assert x.encode() is not x.encode(View("clean"))
    first = x.encode()
    x.release()
    assert x.encode() is not first
    torch.testing.assert_close(x.encode().context, first.context)


def test_a_view_has_its_wave_and_its_masks():
    x = inputs()
    wave, lengths = waves()
    model = x.model
    for view, source, mask in (
        (View("clean", None), wave, None),
        (View("distorted", None), 0.5 * wave, None),
        (View("distorted"), 0.5 * wave, x.mask()),
        (View("clean", MaskConfig(0.9, 1)), wave, x.mask(View("clean", MaskConfig(0.9, 1)))),
    ):
        expected = model(source, lengths, mask=mask)
        torch.testing.assert_close(x.encode(view).context, expected.context)


def test_masks_are_a_function_of_seed_purpose_and_number():
    one, two = inputs(4).mask(), inputs(4).mask()
    assert torch.equal(one, two)
    assert not torch.equal(one, inputs(5).mask())
    assert not torch.equal(one, inputs(4, mask_purpose="valid-mask").mask())
    assert not inputs().mask(View("clean", None)).any()
    frames = inputs().frames
    assert inputs(mask=MaskConfig(1.0, 1)).mask().sum() <= frames.sum()
    assert torch.equal(inputs().mask(View(mask=MaskConfig(0.5, 2))), inputs().mask())
    near = inputs().mask(View(mask=MaskConfig(0.501, 2)))
    assert not torch.equal(near, inputs().mask())  # other masks are drawn by themselves


def test_features_are_of_the_clean_wave_unless_asked_otherwise():
    x = inputs()
    wave, _ = waves()
    expected = frame_features("logmel", wave, x.frames, 320, 16000)
    torch.testing.assert_close(x.features("logmel"), expected, rtol=1e-3, atol=1e-3)
    assert x.features("logmel") is x.features("logmel")
    assert x.features("wave", "distorted") is not x.features("wave")


def test_units_that_are_not_there_are_named():
    with pytest.raises(ValueError, match="no offline units 'masked_units/mfcc' in this run"):
        inputs().units("masked_units/mfcc")


def test_every_layer_is_kept_where_a_task_needs_it():
    assert not inputs().encode().hidden
    assert len(inputs(keep_hidden=True).encode().hidden) == 3


@pytest.mark.parametrize(("share", "span"), [(0.0, 1), (1.1, 1), (0.5, 0)])
def test_impossible_masks_are_refused(share, span):
    with pytest.raises(ValueError, match=r"mask\.(share|span) must be"):
        MaskConfig(share, span)
