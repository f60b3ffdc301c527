"""Masking: where errors hide, and latents that make an encoder's rounding know it."""

from __future__ import annotations

import pytest
import torch

from rdae.channels import Conditional, RateDistortionRounding
from rdae.networks.masking import EXPONENT, FLAT, LEAST, UNSEEN, leaning, visibility
from rdae.networks.pyramid import PyramidEncoder
from rdae.priors.density import SymbolDensity

WEIGHT = 6.0


@pytest.mark.parametrize("times", [1 / 12, 0.7, 1.0, 1.6, 4.0])
def test_a_leaning_latent_is_rounded_as_if_its_error_counted_so_many_times(times: float) -> None:
    torch.manual_seed(0)
    z = 2.5 * torch.randn(1, 4, 100, 100, dtype=torch.float64)
    density = SymbolDensity(48, skew_max=12)
    index = torch.randint(8, 40, z.shape).double()
    prior = Conditional(density, (index, torch.zeros_like(index)))
    wanted = RateDistortionRounding(WEIGHT * times)(z, prior=prior).decoder
    found = RateDistortionRounding(WEIGHT)(leaning(z, torch.tensor(times)), prior=prior).decoder
    plain = RateDistortionRounding(WEIGHT)(z, prior=prior).decoder
    nearest = torch.sign(z) * torch.floor(z.abs() + 0.5)
    lower = nearest - torch.sign(nearest)
    gain = (prior.log_prob(lower) - prior.log_prob(nearest)).abs()
    sure = gain < 2 * WEIGHT * (1 - 1e-2)  # an excess is kept below 2: beyond that not even a whole step would do
    assert float(sure.double().mean()) > 0.9
    torch.testing.assert_close(found[sure], wanted[sure], rtol=0, atol=0)
    assert torch.equal(found, plain) == (times == 1.0)


def test_a_leaning_latent_stays_in_its_bin_and_keeps_its_sign() -> None:
    z = torch.linspace(-40, 40, 100_001)
    weights = torch.rand(z.shape, generator=torch.Generator().manual_seed(1)) * 2
    moved = leaning(z, weights)
    bins = [torch.sign(x) * torch.floor(x.abs() + 0.5) for x in (z, moved)]
    assert torch.equal(*bins)
    assert torch.equal(moved[bins[0] == 0], z[bins[0] == 0])


def test_errors_hide_in_busy_places() -> None:
    torch.manual_seed(2)
    y = torch.full((1, 3, 64, 128), 0.4)
    y[..., 64:] += 0.2 * torch.randn(1, 3, 64, 64)
    seen = visibility(y, 3)
    assert [tuple(x.shape) for x in seen] == [(1, 1, 8, 16), (1, 1, 16, 32), (1, 1, 32, 64)]
    for x in seen:
        half = x.shape[-1] // 2
        assert torch.equal(x[..., : half - 1], torch.full_like(x[..., : half - 1], FLAT))
        assert float(x[..., half:].mean()) < 0.85 * FLAT
        assert float(x.min()) >= LEAST


def test_visibility_is_a_power_of_the_variance() -> None:
    """Columns that alternate by a: the variance under (1, 2, 1) / 4 is a**2."""
    y = torch.zeros(1, 3, 32, 64)
    y[..., 2::4] = y[..., 3::4] = 0.5  # pooled 2 x 2, columns alternate between 0 and 1/2
    (finest,) = visibility(y, 1)
    wanted = FLAT * (1 + 0.25**2 / UNSEEN) ** -EXPONENT
    torch.testing.assert_close(finest[..., 1:-1], torch.full_like(finest[..., 1:-1], wanted), rtol=1e-4, atol=0)


def test_the_constants_are_those_of_the_page() -> None:
    assert (FLAT, EXPONENT, LEAST, UNSEEN) == (4, 0.6, 1 / 12, 0.03**2 / 2)


def test_visibility_keeps_its_precision_under_autocast() -> None:
    y = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(4))
    plain = visibility(y, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = visibility(y, 2)
    assert all(torch.equal(a, b) for a, b in zip(plain, mixed, strict=True))


def test_a_masked_encoder_changes_details_only() -> None:
    torch.manual_seed(3)
    y, lam = torch.rand(1, 3, 64, 64), torch.tensor([900.0])
    plain, masked = PyramidEncoder(3)(y, lam), PyramidEncoder(3, masked=True)(y, lam)
    assert torch.equal(plain[0], masked[0])
    assert all(not torch.equal(a, b) for a, b in zip(plain[1:], masked[1:], strict=True))
