"""Quantizers: Gumbel's schedule, choices, gradients and perplexity; k-means; random projection."""

import math

import pytest
import torch

from speechssl.model.quantizer import (
    GumbelQuantizer,
    KMeansQuantizer,
    RandomProjectionQuantizer,
    temperature_at,
)


def gumbel(groups=2, entries=5, dim=8, in_dim=6) -> GumbelQuantizer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GumbelQuantizer(in_dim, groups=groups, entries=entries, dim=dim)


def frames(num=40, dim=6, seed=1):
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(seed))


# --- Gumbel ---------------------------------------------------------------------------------------


def test_the_published_temperature_schedule():
    base = {"start": 2.0, "end": 0.5, "decay": 0.999995}
    assert temperature_at(0, **base) == 2.0
    assert temperature_at(100_000, **base) == pytest.approx(2 * math.exp(-0.5), rel=1e-4)
    assert temperature_at(277_000, **base) > 0.5  # reached at 277 k updates
    assert temperature_at(278_000, **base) == 0.5
    assert temperature_at(10**7, **base) == 0.5


def test_evaluation_takes_the_likeliest_entry():
    quantizer = gumbel().eval()
    x = frames()
    out = quantizer(x)
    logits = quantizer.logits(x).unflatten(1, (2, 5))
    assert torch.equal(out.codes, logits.argmax(2))
    assert torch.equal(out.vectors, quantizer(x).vectors)


@pytest.mark.parametrize("training", [True, False])
def test_vectors_are_the_entries_of_the_codes_side_by_side(training):
    quantizer = gumbel().train(training)
    out = quantizer(frames())
    expected = torch.cat([quantizer.codebook[g][out.codes[:, g]] for g in range(2)], dim=1)
    torch.testing.assert_close(out.vectors, expected, rtol=1e-5, atol=1e-6)


def test_training_draws_by_the_softmax():
    quantizer = gumbel(groups=1, entries=3, dim=4)
    with torch.no_grad():
        quantizer.logits.weight.zero_()
        quantizer.logits.bias.copy_(torch.tensor([0.6, 0.3, 0.1]).log())
    torch.manual_seed(0)
    codes = quantizer(torch.zeros(20_000, 6)).codes[:, 0]
    share = torch.bincount(codes, minlength=3) / len(codes)
    torch.testing.assert_close(share, torch.tensor([0.6, 0.3, 0.1]), rtol=0, atol=0.02)


def test_the_gradient_goes_straight_through_the_choice():
    quantizer = gumbel().train()
    x = frames().requires_grad_()
    out = quantizer(x)
    (out.vectors * torch.linspace(-1, 1, 8)).sum().backward()
    assert quantizer.logits.weight.grad.abs().sum() > 0
    assert x.grad.abs().sum() > 0
    used = torch.zeros(2, 5, dtype=torch.bool)
    for group in range(2):
        used[group, out.codes[:, group].unique()] = True
    assert torch.equal(quantizer.codebook.grad.abs().sum(2) > 0, used)  # chosen entries only


def test_a_lower_temperature_gives_a_sharper_gradient_not_another_choice():
    quantizer = gumbel().train()
    codes = []
    for temperature in (2.0, 0.5):
        quantizer.temperature = temperature
        torch.manual_seed(0)
        codes.append(quantizer(frames()).codes)
    assert torch.equal(*codes)


def test_perplexity_is_all_entries_when_used_alike_and_one_a_group_in_collapse():
    quantizer = gumbel()
    assert quantizer.max_perplexity == 10
    with torch.no_grad():
        quantizer.logits.weight.zero_()
        assert float(quantizer(frames()).perplexity) == pytest.approx(10, rel=1e-4)
        quantizer.logits.bias[[0, 7]] = 50.0
        assert float(quantizer(frames()).perplexity) == pytest.approx(2, rel=1e-4)


def test_perplexity_is_between_its_bounds_and_has_a_gradient():
    quantizer = gumbel()
    for seed in range(5):
        perplexity = quantizer(frames(seed=seed)).perplexity
        assert 2 <= perplexity.item() <= 10
    perplexity.backward()
    assert quantizer.logits.weight.grad.abs().sum() > 0


def test_perplexity_knows_neither_noise_nor_temperature():
    quantizer = gumbel()
    one = quantizer.train()(frames()).perplexity
    quantizer.temperature = 0.1
    assert torch.equal(one, quantizer(frames()).perplexity)
    assert torch.equal(one, quantizer.eval()(frames()).perplexity)


def test_autocast_leaves_the_vectors_in_float32():
    with torch.autocast("cpu", torch.bfloat16):
        out = gumbel()(frames().bfloat16())
    assert out.vectors.dtype == torch.float32
    assert out.perplexity.dtype == torch.float32
    assert out.codes.dtype == torch.int64


def test_a_width_that_groups_cannot_share_is_refused():
    with pytest.raises(ValueError, match="multiple of its groups, got 8 and 3"):
        gumbel(groups=3)


# --- k-means --------------------------------------------------------------------------------------


def blobs(num=300, dim=4, places=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = 6 * torch.randn(places, dim, generator=generator)
    return centres[torch.arange(num) % places] + torch.randn(num, dim, generator=generator)


def distortion(quantizer: KMeansQuantizer, x: torch.Tensor) -> float:
    scaled = (x - quantizer.mean) / quantizer.scale
    return float((scaled - quantizer.centroids[quantizer(x)]).square().sum(1).mean())


def fitted(x, entries, *, seed=0, num_rounds=25) -> KMeansQuantizer:
    quantizer = KMeansQuantizer(x.shape[1], entries)
    quantizer.fit(x, seed, num_rounds=num_rounds)
    return quantizer


def test_more_rounds_fit_better():
    x = blobs()
    by_round = [distortion(fitted(x, 12, num_rounds=n), x) for n in (0, 1, 2, 5, 10, 25)]
    assert by_round == sorted(by_round, reverse=True)
    assert by_round[-1] < 0.7 * by_round[0]


def test_the_nearest_centroid_is_taken():
    x = blobs()
    quantizer = fitted(x, 12)
    scaled = (x - quantizer.mean) / quantizer.scale
    assert torch.equal(quantizer(x), torch.cdist(scaled, quantizer.centroids).argmin(1))
    assert quantizer(x[:0]).shape == (0,)


def test_a_fit_is_a_function_of_frames_and_seed():
    x = blobs()
    assert torch.equal(fitted(x, 12, seed=4).centroids, fitted(x, 12, seed=4).centroids)
    assert not torch.equal(fitted(x, 12, seed=4).centroids, fitted(x, 12, seed=5).centroids)


def test_a_fit_does_not_touch_torchs_generator():
    before = torch.get_rng_state()
    fitted(blobs(), 12)
    assert torch.equal(before, torch.get_rng_state())


def test_the_scale_of_a_dimension_does_not_matter():
    x = blobs()
    scale = torch.tensor([1.0, 100.0, 0.01, 1.0])
    assert torch.equal(fitted(x, 6)(x), fitted(x * scale + 7, 6)(x * scale + 7))


def test_empty_clusters_are_filled_and_finite():
    x = torch.cat([torch.zeros(50, 2), torch.ones(50, 2), torch.full((1, 2), 5.0)])
    quantizer = fitted(x, 20)  # 20 codes for three places: most clusters are empty
    assert quantizer.centroids.isfinite().all()
    assert len(quantizer(x).unique()) == 3


def test_equal_frames_are_no_trouble():
    quantizer = fitted(torch.ones(30, 3), 4)
    assert quantizer.centroids.isfinite().all()
    assert len(quantizer(torch.ones(30, 3)).unique()) == 1


def test_too_few_frames_are_a_sentence():
    with pytest.raises(
        ValueError, match=r"12 codes need at least as many frames .* got 11.*more audio"
    ):
        fitted(blobs()[:11], 12)


def test_a_fit_travels_with_the_state():
    x = blobs()
    one, other = fitted(x, 12), KMeansQuantizer(4, 12)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x), other(x))
    assert not list(one.parameters())


# --- random projection ----------------------------------------------------------------------------


def test_random_projection_is_fixed_by_its_seed():
    one, same, other = (RandomProjectionQuantizer(6, 64, seed=s) for s in (0, 0, 1))
    x = frames(500)
    assert torch.equal(one(x), same(x))
    assert not torch.equal(one(x), other(x))
    assert not list(one.parameters())


def test_random_projection_takes_the_nearest_by_angle():
    quantizer = RandomProjectionQuantizer(6, 64)
    x = frames(500)
    y = torch.nn.functional.normalize(x @ quantizer.projection, dim=1)
    assert torch.equal(quantizer(x), torch.cdist(y, quantizer.codebook).argmin(1))
    assert torch.equal(quantizer(x), quantizer(3 * x))
    assert len(quantizer(x).unique()) > 20


def test_a_random_projection_is_initialised_as_published():
    """arXiv:2202.01855, section 3.1: Xavier for the projection, a normal distribution and length 1
    for the codebook; the same in every run and process."""
    quantizer = RandomProjectionQuantizer(320, 8192)
    projection, codebook = quantizer.projection, quantizer.codebook
    bound = (6 / (320 + 16)) ** 0.5
    assert projection.shape == (320, 16)
    assert 0.99 * bound < float(projection.abs().max()) <= bound
    assert float(projection.var()) == pytest.approx(2 / (320 + 16), rel=0.05)
    assert codebook.shape == (8192, 16)
    torch.testing.assert_close(codebook.norm(dim=1), torch.ones(8192))
    assert float(codebook.mean()) == pytest.approx(0, abs=0.005)
    # of a direction that is uniform on the sphere a coordinate's fourth moment is 3 / (d (d + 2))
    assert float(codebook.pow(4).mean()) == pytest.approx(3 / (16 * 18), rel=0.03)
    again = RandomProjectionQuantizer(320, 8192)
    assert torch.equal(again.projection, projection)
    assert torch.equal(again.codebook, codebook)


def test_nothing_of_a_random_projection_learns():
    quantizer = RandomProjectionQuantizer(10, 50)
    assert not list(quantizer.parameters())
    assert set(quantizer.state_dict()) == {"projection", "codebook"}
    assert not quantizer(torch.randn(3, 10, requires_grad=True)).requires_grad
