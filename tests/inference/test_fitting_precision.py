"""The precision of inference that nobody named."""

from types import SimpleNamespace

import pytest
import torch

from speechssl import precision
from speechssl.checkpoint import load_model
from speechssl.inference import precision as of_inference
from speechssl.inference.check import check
from speechssl.inference.extract import extract
from speechssl.inference.precision import candidates, fitting_precision
from speechssl.model.fast.accelerate import int8_is_fast


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "cache_folder", lambda: tmp_path / "cache")


@pytest.fixture
def model(tiny_models):
    return load_model(tiny_models["ctc"]).model


@pytest.fixture
def large(model, monkeypatch):
    monkeypatch.setattr("speechssl.inference.batching.LARGE", 1)
    return model


@pytest.mark.parametrize(
    ("tiles", "vnni", "expected"),
    [
        (True, True, ("fp32", "bf16")),
        (False, True, ("fp32", "bf16", "int8")),
        (False, False, ("fp32", "bf16")),
    ],
)
def test_8_bits_are_for_a_cpu_without_tiles(model, monkeypatch, tiles, vnni, expected):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: vnni)
    assert candidates(model) == ("fp32",)  # of a small model a batch must change nothing
    monkeypatch.setattr("speechssl.inference.batching.LARGE", 1)
    assert candidates(model) == expected
    assert "int8" not in candidates(model, with_int8=False)
    assert candidates(model.to("meta")) == ("fp32",)


def test_a_small_model_is_not_timed(model, monkeypatch):
    monkeypatch.setattr(of_inference, "find", lambda *_: pytest.fail("timed"))
    assert fitting_precision(model) == "fp32"


@pytest.mark.parametrize("fastest", ["fp32", "bf16"])
def test_the_fastest_is_taken(large, monkeypatch, fastest):
    monkeypatch.setattr(precision, "choose", lambda _: fastest)
    before = {name: value.clone() for name, value in large.state_dict().items()}
    drawn = torch.get_rng_state()
    assert fitting_precision(large) == fastest
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not large.training
    assert all(torch.equal(value, before[name]) for name, value in large.state_dict().items())


@pytest.mark.skipif(not int8_is_fast(torch.device("cpu")), reason="needs VNNI instructions")
def test_8_bits_are_timed_on_a_copy_that_does_not_stay(tiny_models):
    from speechssl.model.fast import int8

    model = load_model(tiny_models["conv"]).model
    num = len(int8._KEPT)
    with of_inference.passes(model) as run:
        assert min(run(name, 0.5) for name in ("fp32", "bf16", "int8")) > 0
        assert len(int8._KEPT) == num + 1
    del run
    assert len(int8._KEPT) == num


@pytest.mark.usefixtures("large")
def test_auto_is_chosen_wherever_it_may_be_asked_for(tiny_models, record, monkeypatch):
    monkeypatch.setattr(precision, "choose", lambda _: "bf16")
    checkpoint = load_model(tiny_models["ctc"])
    path = record("a.wav", 1.0)
    auto, rough, exact = (
        extract(checkpoint, path, precision=name).frames for name in ("auto", "bf16", "fp32")
    )
    assert (auto == rough).all()
    assert not (auto == exact).all()
    utterance = SimpleNamespace(
        id="a", audio=path, start_s=0.0, duration_s=1.0, text="abc", is_labeled=True
    )
    judged = [check(checkpoint, [utterance], precision=p).judged[0] for p in ("auto", "bf16")]
    assert judged[0] == judged[1]
