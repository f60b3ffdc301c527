"""Sharpness: spectra against closed forms, ratios against what was done to the pictures."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rdae.errors import DataError, ShapeError
from rdae.measures.measure import Kind, Measure
from rdae.measures.sharpness import (
    OCTAVES,
    band_power,
    gradient_energy,
    independent_ratio,
    laplacian_variance,
    paired_ratio,
    periodogram,
    power_spectrum,
)
from rdae.reports.sharpness import picture_rows, rate_figure, spectra_figure

REMOVED = 1  # rings that taking off the mean reaches, of a Hann window


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def radius(side: int) -> Tensor:
    rows = torch.fft.fftfreq(side, dtype=torch.float64)
    return torch.hypot(rows[:, None], rows)


def blurred(images: Tensor, std: float) -> Tensor:
    """Convolved with a Gaussian of that standard deviation in pixels, by its transfer function, edges joined."""
    transfer = torch.exp(-2 * math.pi**2 * std**2 * radius(images.shape[-1]) ** 2)
    return torch.fft.ifft2(torch.fft.fft2(images) * transfer).real


def test_white_noise_has_a_flat_spectrum_at_its_variance():
    n, std = 400, 0.3
    frequency, power = power_spectrum(0.5 + std * noise(n, 2, 32, 40))
    assert_close(frequency, torch.arange(1, 17, dtype=torch.float64) / 32)
    error = power.std(0) / math.sqrt(n)
    off = (power.mean(0) - std**2) / error
    assert off[REMOVED:].abs().max() < 4
    assert error.max() < 0.03 * std**2  # else the line above says nothing
    assert power.mean(0)[0] < std**2


def test_power_sums_to_the_variance_under_the_window():
    """Parseval: the mean over all frequencies is `sum (w (y - mean))**2 / sum w**2`."""
    y = noise(3, 2, 12, 17) + 3.0
    rows, columns = (0.5 - 0.5 * torch.cos(2 * math.pi * torch.arange(n, dtype=torch.float64) / n) for n in (12, 17))
    window = torch.outer(rows, columns)
    centred = y - (window * y).sum((2, 3), keepdim=True) / window.sum()
    assert_close(periodogram(y).mean((1, 2)), (window * centred).square().sum((2, 3)).mean(1) / window.square().sum())


@pytest.mark.parametrize("std", [0.5, 1.0])
def test_a_gaussian_blur_multiplies_the_power_by_its_transfer_function(std):
    """By `exp(-(2 pi f std)**2)`, the mean over a ring; a Hann window mixes neighbouring frequencies, 1/side apart."""
    n, side = 60, 96
    y = noise(n, 1, side, side)
    before, after = power_spectrum(y), power_spectrum(blurred(y, std))
    gain = torch.exp(-((2 * math.pi * std * radius(side)) ** 2))
    ring = torch.floor(radius(side) * side + 0.5)
    for k, f in enumerate(before.frequency.tolist()):
        expected = float(gain[ring == k + 1].mean())
        if k < REMOVED or expected < 1e-3:
            continue
        found = paired_ratio(after.power[:, k], before.power[:, k])
        # the window averages over f +- 1/side, variance below 1/(2 side**2) along f: second derivative of the gain
        curvature = (2 * math.pi * std) ** 2 * (4 * (2 * math.pi * std * f) ** 2 + 4)
        mixing = 0.5 * curvature / (2 * side**2)
        assert abs(found.value / expected - 1) < 4 * found.standard_error / expected + mixing


def test_a_wave_has_its_power_in_its_own_ring_and_band():
    side, cycles = 64, 10
    wave = torch.sin(2 * math.pi * cycles / side * torch.arange(side, dtype=torch.float64)).expand(1, 3, side, side)
    frequency, power = power_spectrum(wave)
    assert float(frequency[power[0].argmax()]) == cycles / side
    assert [low <= cycles / side < high for low, high in OCTAVES] == [
        k == int(band_power(wave)[0].argmax()) for k in range(len(OCTAVES))
    ]


def test_bands_of_white_noise_have_its_variance():
    n = 300
    power = band_power(2.0 * noise(n, 1, 64, 64))
    error = power.std(0) / math.sqrt(n)
    assert ((power.mean(0) - 4).abs() < 4 * error).all()


def test_gradient_energy_and_laplacian_of_a_ramp_and_a_parabola():
    at = torch.arange(16, dtype=torch.float64)
    ramp = (0.5 * at).expand(1, 3, 16, 16)
    assert_close(gradient_energy(ramp), torch.tensor([0.25], dtype=torch.float64))
    assert_close(laplacian_variance(ramp), torch.zeros(1, dtype=torch.float64))
    cubic = (at**3 / 6).expand(1, 1, 16, 16)  # its second difference is x itself, at 1 to 14
    assert_close(laplacian_variance(cubic), torch.tensor([(14**2 - 1) / 12], dtype=torch.float64))


def test_white_noise_has_gradient_energy_4_and_laplacian_variance_20():
    """Two differences of variance 2 each; four neighbours and four times the middle, 4 + 16."""
    n = 400
    for measure, expected in ((gradient_energy, 4), (laplacian_variance, 20)):
        values = measure(noise(n, 1, 32, 32))
        bias = 20 / 30**2 if measure is laplacian_variance else 0  # the mean of a finite picture is taken off
        assert abs(float(values.mean()) - expected) < 4 * float(values.std()) / math.sqrt(n) + bias


@pytest.mark.parametrize("measure", [gradient_energy, laplacian_variance, lambda y: band_power(y)[:, 2]])
def test_contrast_counts_squared_and_brightness_not_at_all(measure):
    y = noise(5, 3, 24, 20)
    ratio = paired_ratio(measure(0.3 * y + 0.2), measure(y))
    assert ratio.value == pytest.approx(0.09, rel=1e-12)
    assert ratio.standard_error < 1e-15


@pytest.mark.parametrize("measure", [gradient_energy, laplacian_variance, lambda y: band_power(y)[:, 0]])
def test_identical_pictures_have_a_ratio_of_exactly_one(measure):
    y = noise(5, 3, 33, 40)
    ratio = paired_ratio(measure(y), measure(y.clone()))
    assert (ratio.value, ratio.standard_error) == (1.0, 0.0)


def test_blur_lowers_all_measures_and_the_finest_most():
    y = noise(4, 1, 64, 64)
    soft = blurred(y, 0.8)
    gradient, laplacian = (
        paired_ratio(measure(soft), measure(y)).value for measure in (gradient_energy, laplacian_variance)
    )
    assert laplacian < gradient < 1
    bands = band_power(soft).mean(0) / band_power(y).mean(0)
    assert (bands.diff() < 0).all()


@pytest.mark.parametrize("ratio", [paired_ratio, independent_ratio])
def test_standard_errors_are_those_seen_over_many_repetitions(ratio):
    """2000 sets of 50 pictures: the spread of the ratios is the error that each reports, within its own error."""
    repetitions, n = 2000, 50
    reference = 2 + 0.5 * noise(repetitions, n, seed=1)
    own = 0.3 * noise(repetitions, n, seed=2)
    values = reference + 1 + own if ratio is paired_ratio else 3 + own
    measures = [ratio(a, b) for a, b in zip(values, reference, strict=True)]
    spread = torch.tensor([m.value for m in measures]).std()
    claimed = torch.tensor([m.standard_error for m in measures]).mean()
    # of a standard deviation over r sets 1 / sqrt(2 r), 1.6 %; delta method and std of 50 are each off by about 1 / n
    assert float(claimed / spread) == pytest.approx(1, abs=4 / math.sqrt(2 * repetitions) + 1 / n)


def test_what_is_no_picture_is_refused():
    with pytest.raises(ShapeError, match="Stack pictures"):
        gradient_energy(torch.zeros(3, 32, 32))
    with pytest.raises(ShapeError, match="larger pictures"):
        band_power(torch.zeros(2, 1, 8, 8))
    with pytest.raises(ShapeError, match="independent_ratio"):
        paired_ratio(torch.ones(3), torch.ones(4))
    with pytest.raises(ShapeError, match=r"Pass \(n,\) and \(m,\)"):
        independent_ratio(torch.ones(1), torch.ones(4))


def test_spectra_are_drawn_as_given_and_beside_the_data():
    frequency, data = [0.125, 0.25, 0.5], [4.0, 2.0, 1.0]
    left, middle, right = spectra_figure(frequency, data, {"a": [2.0, 1.0, 0.5]}, {"a": [4.0, 1.0, 0.1]}).axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in left.get_lines()}
    assert drawn == {"data": data, "a": [2.0, 1.0, 0.5]}
    assert list(middle.get_lines()[1].get_ydata()) == [0.5, 0.5, 0.5]
    assert list(right.get_lines()[1].get_ydata()) == [4.0, 1.0, 0.1]
    assert {left.get_xscale(), left.get_yscale(), right.get_yscale()} == {"log"}
    with pytest.raises(ShapeError, match="a has 2 rings"):
        spectra_figure(frequency, data, {"a": [2.0, 1.0]}, {})


def test_sharpness_against_rate_has_bars_of_two_standard_errors():
    (axes,) = rate_figure({"a": [(50.0, Measure(0.5, 0.1, "ratio", Kind.ESTIMATE))]}, "gradient energy").axes
    (bar,) = axes.collections[0].get_segments()
    assert bar[:, 1].tolist() == pytest.approx([0.3, 0.7])


def test_rows_of_pictures_show_the_pictures():
    y = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    figure = picture_rows({"data": y, "model": 1 - y})
    first, second = (axes.get_images()[0].get_array() for axes in figure.axes)
    assert first.shape == second.shape == (64, 3 * 64 + 2 * 2, 3)
    assert_close(torch.tensor(first[:, :64]).permute(2, 0, 1) / 255, y[0], atol=0.5 / 255 + 1e-6, rtol=0)
    assert [text.get_text() for text in figure.texts] == ["data", "model"]
    with pytest.raises(ShapeError, match="as many of each"):
        picture_rows({"data": y, "model": y[:2]})


def test_flat_pictures_have_no_ratio_but_can_be_compared():
    sharp, flat = torch.rand(5) + 1, torch.zeros(5)
    for ratio in (paired_ratio, independent_ratio):
        with pytest.raises(DataError, match=r"flat.*Choose pictures with detail"):
            ratio(sharp, flat)
        with pytest.raises(DataError, match="values holds a number that is not finite"):
            ratio(sharp * math.nan, sharp)
        found = ratio(flat, sharp)
        assert (found.value, found.standard_error) == (0, 0)
