"""Figures and their numbers: what is drawn is what the code computed, what is committed is what the pages print."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from conftest import photograph
from matplotlib.figure import Figure
from torch.testing import assert_close

from rdae.autoencoder import RateDistortionAutoencoder
from rdae.channels import Mixed, StraightThrough, round_half_up
from rdae.coding.codec import Codec
from rdae.coding.model import shipped_models, unpack_model
from rdae.errors import DataError, ModelError
from rdae.networks.convolutional import WIDTHS, ConvolutionalDecoder, ConvolutionalEncoder, typical_spread
from rdae.networks.shuffle import depth_to_space
from rdae.objectives import BITS_PER_NAT
from rdae.priors.factorised import FactorisedPrior
from rdae.recipes import factorised
from rdae.reports.architecture import depth_to_space_figure, hourglass_figure, layers, worked_example
from rdae.reports.relaxation import Point, distortion_figure, from_json, measure, rate_figure, summary, to_json
from rdae.training.export_convolutional import export_convolutional

ROOT = Path(__file__).parent.parent
COMMITTED = (ROOT / "docs" / "results" / "relaxation.json").read_text(encoding="utf-8")
NARROW = (6, 10)  # blocks of 4 x 4
TIMES = "\u00d7"


def build() -> RateDistortionAutoencoder:
    prior = FactorisedPrior(typical_spread(2 ** len(NARROW)))
    return RateDistortionAutoencoder(ConvolutionalEncoder(NARROW), prior, ConvolutionalDecoder(NARROW), Mixed())


@pytest.fixture(scope="module")
def model() -> RateDistortionAutoencoder:
    """Untrained, with no weight left at zero."""
    torch.manual_seed(5)
    model = build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    return model.eval()


@pytest.fixture(scope="module")
def codec(model) -> Codec:
    recipe = dataclasses.replace(factorised(), name="narrow", model=build)
    return Codec(unpack_model(export_convolutional(model, recipe, {}), threads=1))


@pytest.fixture(scope="module")
def images() -> dict[str, np.ndarray]:
    return {f"picture {seed}": photograph(192, 192, seed) for seed in (40, 41)}


def saved(figure: Figure, folder: Path) -> bytes:
    path = folder / "figure.png"
    figure.savefig(path)
    return path.read_bytes()


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text")))


# diagrams


def drawn_numbers(figure: Figure) -> list[list[list[int]]]:
    """The matrices of a figure, each number where it is drawn."""
    found = []
    for axes in figure.axes:
        placed = {t.get_position(): int(t.get_text()) for t in axes.texts if t.get_text().isdigit()}
        if placed:
            side = math.isqrt(len(placed))
            found.append([[placed[j, i] for j in range(side)] for i in range(side)])
    return found


def test_the_worked_example_is_the_lectures_indexing():
    x, out = worked_example()
    for i in range(2):
        for j in range(2):
            for a in (0, 1):
                for b in (0, 1):
                    assert out[2 * i + a, 2 * j + b] == x[2 * a + b, i, j] == 10 * (2 * i + j) + 2 * a + b


def test_the_diagram_draws_the_numbers_that_depth_to_space_gives(tmp_path):
    figure = depth_to_space_figure()
    *channels, out, wrong = drawn_numbers(figure)
    x = torch.tensor(channels)
    assert x.shape == (4, 2, 2)
    assert depth_to_space(x[None].float())[0, 0].tolist() == out
    assert x.permute(1, 2, 0).reshape(4, 4).tolist() == wrong != out
    assert "not this: the memory reshaped" in words(figure)
    assert saved(figure, tmp_path).startswith(b"\x89PNG")


def test_layers_are_those_that_ran(model):
    y, lam = torch.zeros(1, 3, 16, 24), torch.ones(1)
    down = [(layer.channels, layer.rows, layer.columns) for layer in layers(model.encoder, y, lam)]
    assert down == [(6, 8, 12), (10, 4, 6), (10, 4, 6), (48, 4, 6)]
    up = layers(model.decoder, torch.zeros(1, 48, 4, 6), lam)
    assert [(layer.channels, layer.rows) for layer in up] == [(10, 4), (10, 4), (6, 8), (3, 16)]
    assert [layer.what.count("to 24") for layer in up] == [0, 0, 1, 0]  # four times the 6 channels that come out
    assert not any(part._forward_hooks for part in model.modules())


def test_the_hourglass_says_widths_sizes_and_which_half_generates(model, tmp_path):
    figure = hourglass_figure(model)
    text = words(figure)
    lines = text.splitlines()
    assert [lines.count(str(n)) for n in (3, 6, 10, 48)] == [2, 2, 4, 2]
    sizes = (text.replace("x", TIMES) for text in ("H x W", "H/2 x W/2", "H/4 x W/4"))
    assert [lines.count(size) for size in sizes] == [2, 2, 6]
    assert "FactorisedPrior" in text
    assert "synthesis, the generative half" in text
    assert saved(figure, tmp_path).startswith(b"\x89PNG")


def test_the_hourglass_of_the_recipe_has_its_widths():
    lines = words(hourglass_figure(factorised().model())).splitlines()
    assert [lines.count(str(n)) for n in (*WIDTHS[:-1], WIDTHS[-1])] == [2, 2, 2, 4]
    assert lines.count(str(3 * 16**2)) == 2
    assert lines.count(f"H/16 {TIMES} W/16") == 6


def test_other_networks_have_no_hourglass(model):
    other = RateDistortionAutoencoder(torch.nn.Identity(), model.prior, model.decoder, model.channel)
    with pytest.raises(ModelError, match="Pass a model of the recipes factorised"):
        hourglass_figure(other)


# noise against rounding


def test_points_are_direct_calls_of_the_model(model, codec, images):
    lams = [float(codec.model.lam[level]) for level in (20, 140)]
    before = torch.random.get_rng_state()
    points = measure(model, images, lams, codec=codec, draws=3, seed=7)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not model.training
    assert [(p.image, p.lam) for p in points] == [(name, lam) for name in images for lam in lams]

    torch.manual_seed(7)
    for point in points:
        pixels = images[point.image]
        y = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        lam = torch.tensor([point.lam])
        with torch.no_grad():
            rounded = model(y, lam).terms
            z = model.encoder(y, lam).expand(3, -1, -1, -1)
            noisy = z + torch.rand(z.shape) - 0.5
            index = model.prior.gain.log(lam)[..., None, None] / math.log(1.18)  # fractional, as in training
            channel = torch.arange(z.shape[1])[:, None, None]
            bits = -BITS_PER_NAT * model.prior.density.log_prob(noisy, channel, index).sum((1, 2, 3))
            errors = (y - model.decoder(noisy, lam.expand(3))).square().sum((1, 2, 3))
        assert_close(point.ideal_bits, float(rounded.rate) * BITS_PER_NAT)
        assert_close(point.rounded_distortion, float(rounded.distortion))
        assert_close(point.surrogate_bits, float(bits.mean()), rtol=1e-5, atol=0)
        assert_close(point.surrogate_bits_error, float(bits.double().std()) / math.sqrt(3), rtol=1e-2, atol=0)
        assert_close(point.noisy_distortion, float(errors.mean()), rtol=1e-5, atol=0)
        level = int(np.abs(codec.model.lam - point.lam).argmin())
        assert point.file_bits == 8 * len(codec.compress(pixels, codec.quality(level)))
        assert point.pixels == 192**2


def test_noise_reaches_the_decoder_though_the_model_was_trained_with_mixed(model, images):
    """Of n latent samples behind an orthonormal transform with gains near its own: n / 12 steps squared and more."""
    (point,) = measure(model, {"one": images["picture 40"]}, [100.0], draws=2)
    assert point.file_bits is None
    assert point.noisy_distortion > 2 * point.rounded_distortion
    assert 0.8 < point.noisy_distortion / (3 * 192**2 / (2 * 100.0)) < 1.4


def test_the_seed_decides_the_noise(model, images):
    one = {"one": images["picture 40"]}
    first, again, other = (measure(model, one, [300.0], seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first[0].surrogate_bits != other[0].surrogate_bits
    assert first[0].ideal_bits == other[0].ideal_bits


def test_what_cannot_be_measured_is_refused_with_the_cure(model, codec, images):
    with pytest.raises(DataError, match="Pass draws=2 or more"):
        measure(model, images, [100.0], draws=1)
    with pytest.raises(ModelError, match=r"out of codec\.model\.lam"):
        measure(model, images, [float(codec.model.lam[3]) * 1.01], codec=codec)
    other = RateDistortionAutoencoder(model.encoder, model.prior, model.decoder, StraightThrough())
    with pytest.raises(ModelError, match="whose channel is UniformNoise or Mixed"):
        measure(other, images, [100.0])


def point(image: str, lam: float, surrogate: float, ideal: float, file: int | None, noisy: float, rounded: float):
    return Point(image, lam, 100, surrogate, 1.0, ideal, file, noisy, 0.1, rounded)


BY_HAND = [
    point("a", 9.0, 200.0, 190.0, 240, 4.0, 3.0),
    point("b", 9.0, 400.0, 390.0, 430, 6.0, 2.0),
    point("c", 9.0, 600.0, 590.0, 650, 8.0, 1.0),
    point("a", 1.0, 100.0, 50.0, None, 40.0, 20.0),
    point("b", 1.0, 300.0, 150.0, None, 80.0, 40.0),
]


def test_a_summary_by_hand():
    low, high = summary(BY_HAND)
    assert (low.lam, high.lam, low.images, high.images) == (1.0, 9.0, 2, 3)
    assert high.rate_correlation == pytest.approx(1.0)
    assert high.rate_gap_bits == pytest.approx(-10.0)
    assert high.rate_gap_percent == pytest.approx(-2.5)
    assert high.distortion_correlation == pytest.approx(-1.0)
    assert high.distortion_gap == pytest.approx(-4.0)
    assert high.distortion_gap_percent == pytest.approx(-100 * 4 / 6)
    assert high.overhead_bits == pytest.approx((50 + 40 + 60) / 3)
    assert low.overhead_bits is None
    assert (low.median_surrogate_bits, high.median_surrogate_bits) == (200.0, 400.0)
    assert (low.median_ideal_bits, high.median_ideal_bits) == (100.0, 390.0)
    assert (low.median_noisy_distortion, high.median_noisy_distortion) == (60.0, 6.0)
    assert (low.median_rounded_distortion, high.median_rounded_distortion) == (30.0, 2.0)


def test_one_picture_has_no_correlation():
    with pytest.raises(DataError, match="Measure more pictures"):
        summary(BY_HAND[:4])


def test_points_come_back_from_json():
    text = to_json(BY_HAND, recipe="by hand", qualities={"0": 1.0})
    assert from_json(text) == BY_HAND
    assert json.loads(text)["recipe"] == "by hand"


@pytest.mark.parametrize(
    ("draw", "across", "up"),
    [
        (rate_figure, "rate with uniform noise, bits per pixel", "rate with rounding, bits per pixel"),
        (distortion_figure, "distortion with uniform noise, per pixel", "distortion with rounding, per pixel"),
    ],
)
def test_scatter_plots_show_every_point_and_the_diagonal(draw, across, up, tmp_path):
    figure = draw(BY_HAND)
    scatter, ratio = figure.axes
    assert (scatter.get_xlabel(), scatter.get_ylabel()) == (across, up)
    assert (ratio.get_xlabel(), ratio.get_ylabel()) == (across, "rounding / noise")
    assert scatter.get_xscale() == scatter.get_yscale() == ratio.get_xscale() == "log"
    named = {line.get_label(): line for line in scatter.lines}
    dots = {lam: named[f"λ = {lam:.0f}"] for lam in (1.0, 9.0)}
    assert dots[1.0].get_color() is not dots[9.0].get_color()
    for lam, line in dots.items():
        own = [p for p in BY_HAND if p.lam == lam]
        rate = draw is rate_figure
        x = [(p.surrogate_bits if rate else p.noisy_distortion) / 100 for p in own]
        y = [(p.ideal_bits if rate else p.rounded_distortion) / 100 for p in own]
        assert_close(torch.tensor(line.get_xydata()), torch.tensor([x, y], dtype=torch.float64).T)
    diagonal = named["equal"].get_xydata()
    assert (diagonal[:, 0] == diagonal[:, 1]).all()
    assert scatter.get_xlim() == scatter.get_ylim() == tuple(diagonal[:, 0])
    assert saved(figure, tmp_path).startswith(b"\x89PNG")


# committed numbers


def test_rate_and_distortion_move_with_lam_in_the_committed_points():
    rows = summary(from_json(COMMITTED))
    assert len(rows) == 5
    assert {row.images for row in rows} == {24}
    for name, sign in (("surrogate_bits", 1), ("ideal_bits", 1), ("noisy_distortion", -1), ("rounded_distortion", -1)):
        medians = [getattr(row, f"median_{name}") for row in rows]
        assert all(sign * step > 0 for step in np.diff(medians)), name


def test_committed_rates_with_noise_and_rounding_belong_together():
    rows = summary(from_json(COMMITTED))
    assert all(row.rate_correlation > 0.9 for row in rows)
    assert all(row.distortion_correlation > 0 for row in rows)  # the page: noise shows all pictures nearly alike
    gaps = [row.rate_gap_percent for row in rows]
    assert all(gap < 0 for gap in gaps)  # the page: noise errs on one side
    assert gaps == sorted(gaps)
    assert gaps[-1] > -10
    distortion_gaps = [row.distortion_gap_percent for row in rows]
    assert all(gap < 0 for gap in distortion_gaps)
    assert distortion_gaps == sorted(distortion_gaps)


def test_committed_rates_with_noise_are_never_below_a_file_nor_errors_below_rounding():
    for p in from_json(COMMITTED):
        assert p.surrogate_bits > p.file_bits
        assert p.noisy_distortion > p.rounded_distortion


def test_committed_files_are_the_ideal_length_and_their_overhead():
    """Header, checksums and the coder's tail: 48 bytes, and half a percent; see test_convolutional_files.

    Below the ideal, files can be only where the densities expect too little of a latent: its table gives it 1 / 65536
    at least, so 16 bits where the density may charge 60. That was 0.6 % of a picture at most in a codec of 1600 steps.
    """
    for p in from_json(COMMITTED):
        assert p.file_bits is not None
        assert -0.01 * p.ideal_bits <= p.file_bits - p.ideal_bits <= 8 * 48 + 0.005 * p.ideal_bits, p


def test_committed_points_have_small_standard_errors():
    for p in from_json(COMMITTED):
        assert p.surrogate_bits_error < 0.02 * p.surrogate_bits
        assert p.noisy_distortion_error < 0.02 * p.noisy_distortion


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")


def test_pages_print_the_committed_numbers(scripts):
    from figures import equal_bytes_table, relaxation_tables

    page = (ROOT / "docs" / "relaxation.md").read_text(encoding="utf-8")
    for text in relaxation_tables(COMMITTED).values():
        assert text in page
    equal = (ROOT / "docs" / "results" / "equal-bytes.json").read_text(encoding="utf-8")
    assert equal_bytes_table(equal) in (ROOT / "docs" / "codec.md").read_text(encoding="utf-8")


def test_the_page_has_the_entropies_and_errors_of_a_gaussian():
    """Entropies in bits by quadrature: of the rounded number, with noise, differential; and the error of rounding."""
    page = (ROOT / "docs" / "relaxation.md").read_text(encoding="utf-8").replace("\u2212", "-")
    lines = page.split("| s | H(round z)")[1].split("\n\n")[0].splitlines()[2:]
    assert len(lines) == 6
    for line in lines:
        s, *printed = (float(cell) for cell in line.strip("|").split("|"))
        grid, width = np.linspace(-12 * s - 1, 12 * s + 1, 400_001, retstep=True)
        n = np.arange(-100, 101)

        def bin_mass(x: np.ndarray, s: float = s) -> np.ndarray:
            return scipy.stats.norm.sf((np.abs(x) - 0.5) / s) - scipy.stats.norm.sf((np.abs(x) + 0.5) / s)

        discrete, noisy = (-scipy.special.xlogy(p, p).sum() / math.log(2) for p in (bin_mass(n), bin_mass(grid)))
        distance = grid - round_half_up(torch.from_numpy(grid)).numpy()
        error = (distance**2 * scipy.stats.norm.pdf(grid, scale=s)).sum() * width
        differential = 0.5 * math.log2(2 * math.pi * math.e * s**2)
        # rounded to five digits; the quadrature is good to 1e-6 across the kinks at the edges of bins
        assert printed == pytest.approx([discrete, noisy * width, differential, error], abs=6e-6)


def test_committed_equal_bytes_bear_out_what_the_page_says():
    rows = json.loads((ROOT / "docs" / "results" / "equal-bytes.json").read_text(encoding="utf-8"))["rows"]
    margins = {}  # of MS-SSIM
    for picture in {row["picture"] for row in rows}:
        ours, wavelet, jpeg = ({r["codec"]: r for r in rows if r["picture"] == picture}[name] for name in
                               ("rdae photo", "JPEG 2000", "JPEG"))  # fmt: skip
        assert ours["bytes"] == pytest.approx(wavelet["bytes"], rel=0.03)  # a step of quality is 3 % of the bytes
        assert max(ours["bytes"], wavelet["bytes"]) <= jpeg["bytes"]
        assert ours["bpp"] == pytest.approx(8 * ours["bytes"] / (768 * 512), abs=6e-5)
        for measure_name in ("psnr_db", "psnr_luma_db", "psnr_chroma_db", "ms_ssim"):
            assert ours[measure_name] > jpeg[measure_name]
        for measure_name in ("psnr_db", "psnr_luma_db", "ms_ssim"):
            assert ours[measure_name] > wavelet[measure_name]
        margins[picture] = ours["ms_ssim"] - wavelet["ms_ssim"]
    assert [p for p, margin in margins.items() if margin > 0.9039 - 0.8860] == ["kodim07"]  # the lecture's margin
    chroma = {(row["picture"], row["codec"]): row["psnr_chroma_db"] for row in rows}
    pictures = {row["picture"] for row in rows}
    assert sum(chroma[p, "rdae photo"] < chroma[p, "JPEG 2000"] for p in pictures) == 2 == len(pictures) / 2


@pytest.mark.skipif("photo" not in shipped_models(), reason="the package ships no model yet")
def test_the_shipped_codec_beats_jpeg_at_the_lectures_size(scripts):
    from equal_bytes import BPP, coded, row
    from PIL import Image

    image = Image.open(ROOT / "examples" / "kodim23.png").convert("RGB")
    size = int(BPP * image.width * image.height / 8)
    ours, _, jpeg = (row("kodim23", np.asarray(image), file) for file in coded(image, size))
    assert ours["bytes"] <= size <= jpeg["bytes"]
    for name in ("psnr_db", "psnr_luma_db", "psnr_chroma_db", "ms_ssim"):
        assert ours[name] > jpeg[name]


def test_a_jpeg_that_cannot_be_small_enough_is_its_smallest():
    from PIL import Image

    from rdae.coding.peers import Jpeg

    jpeg, jpeg_from_size = Jpeg().encode, Jpeg().from_size
    image = Image.fromarray(photograph(64, 80, 50))
    assert jpeg_from_size(image, 10) == jpeg(image, 1)
    sizes = [len(jpeg(image, quality)) for quality in range(1, 96)]
    wished = sizes[30] + 1
    found = len(jpeg_from_size(image, wished))
    assert found == next(size for size in sizes if size >= wished)
    assert jpeg_from_size(image, 10**9) == jpeg(image, 95)


@pytest.mark.parametrize("module", ["architecture", "relaxation"])
def test_figures_without_matplotlib_say_what_to_install(module):
    code = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
from rdae.errors import MissingExtraError
try:
    import rdae.reports.{module}
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert "pip install 'rdae[train,reports]'" in done.stdout, done.stderr


def test_the_figure_of_a_run_shows_what_its_log_says():
    from rdae.reports.training import training_figure

    log = [json.dumps({"step": k, "loss": 2.0 - 0.01 * k, "bpp": 1.0, "psnr_db": 30.0}) for k in (20, 40, 40, 60)]
    panels = training_figure([*log, json.dumps({"step": 60, "quality": 15.0, "bpp": 0.2})]).axes
    raw = panels[0].lines[0]
    assert raw.get_xdata().tolist() == [20, 40, 60]
    np.testing.assert_allclose(raw.get_ydata(), [1.8, 1.6, 1.4])
    assert [axes.get_ylabel() for axes in panels] == ["loss", "bits per pixel", "PSNR, dB"]
    with pytest.raises(DataError, match="fewer than two"):
        training_figure(log[:1])
