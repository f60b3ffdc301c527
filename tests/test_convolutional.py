"""The convolutional encoder and decoder: the lectures' layers by explicit loops, the linear path, gains, reach."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import photograph
from torch.testing import assert_close

from rdae.errors import ModelError, ShapeError
from rdae.networks.convolutional import (
    SLOPE,
    ConvolutionalDecoder,
    ConvolutionalEncoder,
    Downsample,
    Upsample,
    block_transform,
    typical_spread,
)
from rdae.networks.exact import EXACT_LIMIT
from rdae.networks.gains import Gains, Interpolated, require_range
from rdae.networks.hyper import HyperAnalysis, HyperSynthesis

WIDTHS = (6, 10)


def picture(height: int = 48, width: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(photograph(height, width, seed)).permute(2, 0, 1)[None].float() / 255


def scattered(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The module with no weight left at its initial zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module


def test_down_is_the_lectures_stride_two_convolution():
    """`y[i, j, c'] = sum W[di, dj, c, c'] x[2i + di, 2j + dj, c] + B[c']`, offsets centred, zero beyond the border."""
    layer = scattered(Downsample(2, 3)).double()
    x = torch.randn(1, 2, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.zeros(1, 3, 3, 4, dtype=torch.float64)
    for out in range(3):
        for i in range(3):
            for j in range(4):
                total = layer.bias[out].detach().clone()
                for c in range(2):
                    for di in range(-2, 3):
                        for dj in range(-2, 3):
                            row, column = 2 * i + di, 2 * j + dj
                            if 0 <= row < 6 and 0 <= column < 8:
                                total += layer.weight[out, c, di + 2, dj + 2].detach() * x[0, c, row, column]
                expected[0, out, i, j] = total
    assert_close(layer(x).detach(), expected)


@pytest.mark.parametrize("last", [False, True])
def test_up_is_the_lectures_convolution_to_four_times_the_channels(last):
    """`L'[x, y, i] = s(sum W[dx, dy, j, i] L[x + dx, y + dy, j] + B[i])`, then `out[2x + a, 2y + b, c]` is
    `L'[x, y, 4c + 2a + b]`."""
    layer = scattered(Upsample(3, 2, last=last)).double()
    x = torch.randn(1, 3, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    weight, bias = layer.conv.weight.detach(), layer.conv.bias.detach()
    assert weight.shape[0] == 4 * 2
    expected = torch.zeros(1, 2, 6, 8, dtype=torch.float64)
    for i in range(3):
        for j in range(4):
            for out in range(8):
                total = bias[out].clone()
                for c in range(3):
                    for di in (-1, 0, 1):
                        for dj in (-1, 0, 1):
                            if 0 <= i + di < 3 and 0 <= j + dj < 4:
                                total += weight[out, c, di + 1, dj + 1] * x[0, c, i + di, j + dj]
                if not last:
                    total = torch.where(total < 0, SLOPE * total, total)
                c, phase = divmod(out, 4)
                a, b = divmod(phase, 2)
                expected[0, c, 2 * i + a, 2 * j + b] = total
    assert_close(layer(x).detach(), expected)


@pytest.mark.parametrize("block", [2, 4, 16])
def test_the_linear_path_is_orthonormal_and_begins_with_the_mean(block):
    transform = block_transform(block)
    assert_close(transform @ transform.T, torch.eye(3 * block**2, dtype=torch.float64))
    constant = torch.full((3 * block**2,), 0.5, dtype=torch.float64)
    z = transform @ constant
    assert_close(z[0], torch.tensor(0.5 * math.sqrt(3) * block, dtype=torch.float64))
    assert z[1:].abs().max() < 1e-12


def test_a_fresh_pair_without_rounding_gives_the_picture_back():
    y, lam = picture(), torch.tensor([300.0])
    encoder, decoder = ConvolutionalEncoder(WIDTHS), ConvolutionalDecoder(WIDTHS)
    assert_close(decoder(encoder(y, lam), lam), y, rtol=0, atol=1e-5)


@pytest.mark.parametrize("step", [64.0, 16.0, 4.0])
def test_a_fresh_pair_is_a_usable_transform_codec(step):
    """Rounding errors of an orthonormal transform are the pixels' errors: at most step**2 / 12 for fine steps."""
    y, lam = picture(96, 128), torch.tensor([6.0 * (255 / step) ** 2])
    encoder, decoder = ConvolutionalEncoder(WIDTHS), ConvolutionalDecoder(WIDTHS)
    z = encoder(y, lam)
    mse = (255 * (decoder(torch.floor(z + 0.5), lam) - y)).square().mean()
    assert_close(mse.sqrt(), 255 * (z - torch.floor(z + 0.5)).square().mean().sqrt() * step / 255, rtol=1e-3, atol=0)
    assert mse <= 1.1 * step**2 / 12


@pytest.mark.parametrize("size", [(4, 4), (8, 20), (36, 4)])
def test_shapes(size):
    lam = torch.tensor([20.0, 2e4])
    y = torch.rand(2, 3, *size)
    z = ConvolutionalEncoder(WIDTHS)(y, lam)
    assert z.shape == (2, 48, size[0] // 4, size[1] // 4)
    assert ConvolutionalDecoder(WIDTHS)(z, lam).shape == y.shape


def test_pictures_that_do_not_fit_are_refused_with_the_cure():
    with pytest.raises(ShapeError, match=r"multiples of 4.*Pad y first"):
        ConvolutionalEncoder(WIDTHS)(torch.zeros(1, 3, 10, 8), torch.ones(1))
    with pytest.raises(ShapeError, match="multiples of 4"):
        ConvolutionalEncoder(WIDTHS)(torch.zeros(1, 1, 8, 8), torch.ones(1))
    with pytest.raises(ShapeError, match="same widths"):
        ConvolutionalDecoder(WIDTHS)(torch.zeros(1, 12, 8, 8), torch.ones(1))


def test_examples_of_a_batch_have_their_own_lam():
    encoder, decoder = scattered(ConvolutionalEncoder(WIDTHS)), scattered(ConvolutionalDecoder(WIDTHS), 1)
    y, lam = torch.cat([picture(seed=1), picture(seed=2)]), torch.tensor([20.0, 5000.0])
    z = encoder(y, lam)
    y_hat = decoder(z, lam)
    for k in (0, 1):
        assert_close(encoder(y[k : k + 1], lam[k : k + 1]), z[k : k + 1], rtol=1e-4, atol=1e-4)
        assert_close(decoder(z[k : k + 1], lam[k : k + 1]), y_hat[k : k + 1], rtol=1e-4, atol=1e-4)


def test_reach_of_the_encoder_covers_what_a_latent_depends_on():
    encoder = scattered(ConvolutionalEncoder(WIDTHS))
    block = encoder.block
    side = block * (2 * (encoder.reach // block + 2) + 1)
    y = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)).requires_grad_()
    centre = side // block // 2
    encoder(y, torch.tensor([300.0]))[..., centre, centre].sum().backward()
    rows = torch.nonzero(y.grad.abs().sum((0, 1, 3)))[:, 0]
    before, after = centre * block - int(rows.min()), int(rows.max()) - (centre * block + block - 1)
    assert max(before, after) == encoder.reach


def test_reach_of_the_decoder_covers_the_latents_a_block_depends_on():
    decoder = scattered(ConvolutionalDecoder(WIDTHS))
    samples = 2 * (decoder.reach // decoder.block + 2) + 1
    z = torch.randn(1, decoder.channels, samples, samples, generator=torch.Generator().manual_seed(0)).requires_grad_()
    centre = samples // 2
    part = slice(centre * decoder.block, (centre + 1) * decoder.block)
    decoder(z, torch.tensor([300.0]))[..., part, part].sum().backward()
    rows = torch.nonzero(z.grad.abs().sum((0, 1, 3)))[:, 0]
    assert max(centre - int(rows.min()), int(rows.max()) - centre) * decoder.block == decoder.reach


def test_vectors_are_linear_between_knots_and_constant_beyond():
    vectors = Interpolated(2, lam=(1.0, math.exp(4)), knots=3)
    with torch.no_grad():
        vectors.table.copy_(torch.tensor([[0.0, 1.0], [2.0, 3.0], [6.0, -1.0]]))
    at = torch.exp(torch.tensor([-1.0, 0.0, 1.0, 2.0, 3.5, 4.0, 9.0]))
    expected = [[0.0, 1.0], [0.0, 1.0], [1.0, 2.0], [2.0, 3.0], [5.0, 0.0], [6.0, -1.0], [6.0, -1.0]]
    assert_close(vectors(at), torch.tensor(expected))


def test_gains_start_as_steps_and_their_inverse():
    lam = torch.tensor([24.0, 6.0 * 255**2 / 16**2])
    assert_close(Gains(3, 0.5)(lam)[:, 0, 0, 0], torch.tensor([2.0, 255 / 16]))
    assert_close(Gains(3, 0.5)(lam) * Gains(3, -0.5)(lam), torch.ones(2, 3, 1, 1))


def test_ranges_without_a_span_are_refused():
    with pytest.raises(ShapeError, match="smaller one first"):
        Interpolated(2, lam=(5.0, 5.0))


def test_gains_that_are_not_learned_for_every_lam_are_refused():
    encoder = ConvolutionalEncoder(WIDTHS, lam=(20.0, 1000.0))
    require_range(encoder, (20.0, 1000.0))
    for lam in ((10.0, 1000.0), (20.0, 2000.0)):
        with pytest.raises(ModelError, match=rf"Build encoder, decoder and prior with lam=\({lam[0]:g}, {lam[1]:g}\)"):
            require_range(encoder, lam)


@torch.no_grad()
def test_mixed_precision_leaves_the_linear_path_and_the_gains_whole():
    """A fresh network adds nothing, so what is left is the linear path: bfloat16 keeps 8 bits of a coefficient, and
    at steps of 3 grey levels the lowest ones are of the order of a thousand."""
    y, lam = picture(96, 128), torch.tensor([6.0 * (255 / 3) ** 2])
    encoder, decoder = ConvolutionalEncoder(WIDTHS), ConvolutionalDecoder(WIDTHS)
    with torch.no_grad():
        for gain in (encoder.gain, decoder.gain, decoder.step):
            gain.learned.table.normal_(0, 0.3, generator=torch.Generator().manual_seed(4))
    z = encoder(y, lam)
    y_hat = decoder(z, lam)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert encoder.down[0](y).dtype == torch.bfloat16  # the networks do run in it
        assert torch.equal(encoder.gain(lam), encoder.gain(lam).float())
        assert torch.equal(encoder(y, lam), z)
        assert torch.equal(decoder(z, lam), y_hat)
        assert torch.equal(decoder(z.bfloat16(), lam), decoder(z.bfloat16().float(), lam))


def test_typical_spread_falls_with_frequency():
    spread = typical_spread(8)
    assert spread.shape == (192,)
    assert (spread > 0).all()
    assert (spread.view(64, 3).diff(dim=0) < 0).all()


def test_the_summary_tells_local_scale_from_step_zero():
    analysis = HyperAnalysis(4, 4, width=8, levels=1)
    z = torch.ones(1, 48, 4, 4)
    z[..., 2:] = 20.0
    w = analysis(z)
    assert w.shape == (1, 12, 2, 2)
    assert_close(w[..., 0], torch.full((1, 12, 2), 4 * math.log(2)))
    assert_close(w[..., 1], torch.full((1, 12, 2), 4 * math.log(21)))


def whole_numbers(shape: tuple[int, ...], largest: int, seed: int) -> torch.Tensor:
    return torch.randint(-largest, largest + 1, shape, generator=torch.Generator().manual_seed(seed)).float()


@torch.no_grad()
def test_the_exact_network_agrees_with_its_float64_self():
    synthesis = scattered(HyperSynthesis(6, 48, width=16, levels=2)).eval()
    assert synthesis.accumulator_bound() < EXACT_LIMIT
    inputs = (
        whole_numbers((2, 6, 3, 5), 200, 0),
        whole_numbers((2, 16, 1, 1), 127, 1),
        whole_numbers((2, 48, 1, 1), 400, 2),
    )
    index, mean = synthesis(*inputs)
    index64, mean64 = synthesis.double()(*(x.double() for x in inputs))
    assert index.shape == mean.shape == (2, 48, 12, 20)
    assert torch.equal(index.double(), index64)
    assert torch.equal(mean.double(), mean64)
    assert torch.equal(index, index.round())
    assert torch.equal(mean, mean.round())
    assert len(index.unique()) > 50
    assert len(mean.unique()) > 20


@torch.no_grad()
def test_weights_past_the_exact_range_are_refused():
    synthesis = HyperSynthesis(6, 48, width=16, levels=1)
    synthesis.hidden.bias[0], synthesis.hidden.weight[0] = 1e6, 1e-6
    with pytest.raises(ModelError, match="export again"):
        synthesis.accumulator_bound()
