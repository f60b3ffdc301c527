"""Pictures of latent spaces: ellipses have the radii of the posteriors, pairs are those that overlap most."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal

from rdae.errors import DataError, ShapeError
from rdae.measures.measure import Kind, Measure
from rdae.reports.latent import (
    LatentPanel,
    Row,
    from_json,
    latent_figure,
    latent_panel,
    measures_figure,
    overlapping_pairs,
    to_json,
)

ROOT = Path(__file__).parent.parent


def decoded(z: Tensor) -> Tensor:
    """A flat picture whose brightness is the first variable."""
    return z[:, :1, None, None].expand(-1, 1, 8, 8).clamp(0, 1)


def posteriors(count: int = 12) -> Independent:
    generator = torch.Generator().manual_seed(3)
    mean, std = torch.randn(count, 2, generator=generator), 0.05 + torch.rand(count, 2, generator=generator)
    return Independent(Normal(mean, std), 1)


def pictures(count: int = 12) -> Tensor:
    return torch.linspace(0, 1, count).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)


def panel(**changes) -> LatentPanel:
    labels = torch.arange(12) % 3
    return latent_panel("title", posteriors(), pictures(), decoded, labels)._replace(**changes)


def filled(figure: Figure) -> list[Polygon]:
    return [patch for patch in figure.axes[0].patches if patch.get_fill()]


# --- panels --------------------------------------------------------------------------------------------------------


def test_ellipses_are_at_one_standard_deviation_of_each_posterior():
    q = posteriors()
    ellipses = filled(latent_figure([panel()]))
    assert len(ellipses) == 12
    for patch, mean, std in zip(ellipses, q.mean, q.stddev, strict=True):
        corners = patch.get_xy()
        assert (corners.max(0) - corners.min(0)) / 2 == pytest.approx(std.numpy(), rel=1e-6)
        assert (corners.max(0) + corners.min(0)) / 2 == pytest.approx(mean.numpy(), rel=1e-5, abs=1e-6)


def test_ellipses_of_correlated_posteriors_are_turned():
    factor = torch.tensor([[0.8, 0.0], [0.6, 0.3]]).expand(4, 2, 2)
    mean = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])
    made = latent_panel("", MultivariateNormal(mean, scale_tril=factor), pictures(4), decoded)
    for patch, m in zip(filled(latent_figure([made])), mean, strict=True):
        whitened = np.linalg.solve(factor[0].double().numpy(), (patch.get_xy() - m.numpy()).T)
        assert np.linalg.norm(whitened, axis=0) == pytest.approx(np.ones(whitened.shape[1]), rel=1e-6)


def test_the_prior_is_drawn_as_circles_at_one_two_and_three():
    lines = [line for line in latent_figure([panel()]).axes[0].lines if line.get_linestyle() == "--"]
    radii = [np.hypot(*line.get_data()) for line in lines]
    assert [float(r.mean()) for r in radii] == pytest.approx([1, 2, 3])
    assert max(float(np.ptp(r)) for r in radii) < 1e-12


def test_everything_drawn_is_within_the_axes():
    figure = latent_figure([panel(mean=5 * panel().mean)])
    low, high = figure.axes[0].get_xlim()
    assert all(low <= patch.get_xy().min() and patch.get_xy().max() <= high for patch in filled(figure))


def test_colours_are_labels():
    figure = latent_figure([panel()])
    colours = [to_rgb(patch.get_facecolor()) for patch in filled(figure)]
    assert len(set(colours)) == 3
    assert colours[0] == colours[3] != colours[1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["0", "1", "2"]
    plain = latent_figure([panel(labels=None)])
    assert len({to_rgb(patch.get_facecolor()) for patch in filled(plain)}) == 1
    assert not plain.legends


def test_pairs_are_the_least_apart_each_item_once_and_of_different_labels():
    distance = torch.tensor([
        [0.0, 0.1, 0.2, 0.9],
        [0.1, 0.0, 0.3, 0.8],
        [0.2, 0.3, 0.0, 0.4],
        [0.9, 0.8, 0.4, 0.0],
    ])  # fmt: skip
    assert overlapping_pairs(distance, 5) == [(0, 1), (2, 3)]
    assert overlapping_pairs(distance, 1) == [(0, 1)]
    assert overlapping_pairs(distance, 5, torch.tensor([0, 0, 1, 2])) == [(0, 2), (1, 3)]
    with pytest.raises(DataError, match="no pair"):
        overlapping_pairs(distance, 5, torch.zeros(4))


def test_a_pair_is_joined_and_its_decodings_are_beside_it():
    made = panel()
    q = posteriors()
    axes, side = latent_figure([made]).axes[:2]
    joined = [line.get_xydata() for line in axes.lines if line.get_linestyle() == "-"]
    assert len(joined) == len(made.pairs) == len(made.overlaps) == 5
    for (a, b), line in zip(made.pairs, joined, strict=True):
        np.testing.assert_allclose(line, q.mean[[a, b]].numpy())
    assert made.overlaps == sorted(made.overlaps, reverse=True)
    assert [text.get_text() for text in side.texts[:5]] == [f"{overlap:.2f}" for overlap in made.overlaps]
    np.testing.assert_array_equal(side.images[0].get_array(), made.pictures)
    step = (made.pictures.shape[1] + 2) // 4
    for row, (a, b) in enumerate(made.pairs):
        shown = [int(made.pictures[row * step + 5, k * step + 5]) for k in range(4)]
        brightness = [float(x) for x in (*pictures()[[a, b], 0, 0, 0], *q.mean[[a, b], 0].clamp(0, 1))]
        assert shown == [int(255 * x + 0.5) for x in brightness]


def test_panels_stand_side_by_side(tmp_path):
    figure = latent_figure([panel(title=name) for name in "abcd"])
    assert [axes.get_title() for axes in figure.axes[::2]] == ["a", "b", "c", "d", "", ""]
    figure.savefig(tmp_path / "figure.png", dpi=30)
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_drawn_is_refused():
    wide = Independent(Normal(torch.zeros(12, 3), torch.ones(12, 3)), 1)
    with pytest.raises(ShapeError, match="latent=2"):
        latent_panel("", wide, pictures(), decoded)
    with pytest.raises(ShapeError, match="12 posteriors of 3 items"):
        latent_panel("", posteriors(), pictures(3), decoded)


# --- measures ------------------------------------------------------------------------------------------------------


def rows() -> list[Row]:
    def measure(value: float, name: str = "nats per example") -> Measure:
        return Measure(value, 0.25, name, Kind.ESTIMATE)

    swept = [Row("one", beta, {"rate": measure(4 / beta), "overlap": measure(beta, "coefficient")}) for beta in (4, 1)]
    return [
        *swept,
        Row("other", 2.0, {"rate": measure(1.5)}),
        Row("data", 0.0, {"overlap": measure(0.5, "coefficient")}),
    ]


def test_rows_come_back_from_json():
    assert from_json(to_json(rows(), seed=3)) == rows()


def test_curves_have_the_measured_values_by_model_and_data_are_a_line():
    rate, overlap = measures_figure(rows(), columns=2).axes
    assert [axes.get_title() for axes in (rate, overlap)] == ["rate", "overlap of two posteriors"]
    curves = [container.lines[0].get_xydata().tolist() for container in rate.containers]
    assert curves == [[[1, 4], [4, 1]], [[2, 1.5]]]
    assert [text.get_text() for text in rate.get_legend().get_texts()] == ["one", "other"]
    dashed = [line for line in overlap.lines if line.get_linestyle() == "--"]
    assert [line.get_ydata() for line in dashed] == [[0.5, 0.5]]
    assert overlap.get_ylabel() == "coefficient"


# --- what is committed ---------------------------------------------------------------------------------------------


@pytest.fixture
def committed() -> str:
    return (ROOT / "docs" / "results" / "latent-space.json").read_text(encoding="utf-8")


def test_the_page_prints_the_committed_numbers(committed, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from latent_space import table

    assert table(committed) in (ROOT / "docs" / "latent.md").read_text(encoding="utf-8")


def test_committed_information_and_divergence_add_up_to_the_rate(committed):
    count = json.loads(committed)["held_out"]
    for row in from_json(committed):
        if row.beta:
            open_, rest, rate = (row.measures[name] for name in ("left_open", "divergence", "rate"))
            error = math.hypot(open_.standard_error, rest.standard_error)
            assert math.log(count) - open_.value + rest.value == pytest.approx(rate.value, abs=4 * error)


def test_committed_models_overlap_more_and_spread_over_the_prior_with_beta(committed):
    swept = [row.measures for row in from_json(committed) if row.beta]
    for low, high in pairwise(swept):
        for name, sign in (("overlap", 1), ("left_open", 1), ("rate", -1), ("divergence", -1), ("squared_error", 1)):
            step, error = high[name].value - low[name].value, high[name].standard_error + low[name].standard_error
            assert sign * step > -3 * error
        assert high["overlap"].value > low["overlap"].value
    for name, sign in (("overlap", 1), ("squared_error", 1), ("mmd", -1), ("label_kept", -1)):
        first, last = swept[0][name], swept[-1][name]
        assert sign * (last.value - first.value) > 3 * (first.standard_error + last.standard_error)
