"""What scripts/blur.py measured, as docs/blur.md shows it: figures, pictures and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from figures import table
from torch import Tensor

from rdae.measures.measure import Kind as Statement
from rdae.measures.measure import Measure
from rdae.measures.sharpness import OCTAVES
from rdae.reports.sharpness import picture_rows, rate_figure, spectra_figure


def draw(result: dict[str, Any], pictures: dict[float, dict[str, dict[str, Tensor]]], images: Path) -> None:
    """Spectra and pictures of each rate, and sharpness against rate."""
    for rate, kinds in pictures.items():
        own = [m for m in result["models"] if m["target_nats"] == rate]
        powers = ({m["model"]: m[kind]["power"] for m in own} for kind in ("reconstructions", "samples"))
        figure = spectra_figure(result["frequency"], result["data_power"], *powers)
        figure.savefig(images / f"blur-spectra-{rate:g}.png", dpi=80)
        for kind, rows in kinds.items():
            picture_rows(rows).savefig(images / f"blur-{kind}-{rate:g}.png", dpi=100)
    names = dict.fromkeys(m["model"] for m in result["models"])
    series: dict[str, list[tuple[float, Measure]]] = {"shipped codec (L2, rounding)": []}
    for name, rows in (
        ("shipped codec (L2, rounding)", result["codec"]),
        *((name, [m for m in result["models"] if m["model"] == name]) for name in names),
    ):
        series[name] = [
            (row["rate"][0], Measure(*row["reconstructions"]["gradient"], "ratio", Statement.ESTIMATE)) for row in rows
        ]  # fmt: skip
    rate_figure(series, "gradient energy").savefig(images / "blur-rate.png", dpi=100)


def with_error(pair: list[float], digits: int = 3) -> str:
    """A value and its standard error."""
    return f"{pair[0]:.{digits}f} ± {pair[1]:.{digits}f}"


def tables(result: dict[str, Any]) -> dict[str, str]:
    """The tables of docs/blur.md by mark."""
    models, bands = result["models"], [f"band{k}" for k in range(len(OCTAVES))]
    periods = [f"{round(1 / high)} to {round(1 / low)} pixels" for low, high in OCTAVES]
    words = ["gradient energy", "Laplacian variance"]
    fidelity, sharp, samples, missing, codec = [], [], [], [], []
    for m in models:
        own = [m["model"], f"{m['rate'][0]:.0f}"]
        seen, drawn, new = (m[kind] for kind in ("reconstructions", "drawn", "samples"))
        fidelity.append([
            *own, f"{m['lam']:.3g}", f"{m['psnr'][0]:.2f}", f"{m['absolute'][0]:.2f}", f"{m['elbo'][0]:,.0f}",
        ])  # fmt: skip
        sharp.append([
            *own, with_error(seen["gradient"]), with_error(seen["laplacian"]), *(f"{seen[b][0]:.3f}" for b in bands),
        ])  # fmt: skip
        samples.append([*own, *(with_error(new[k]) for k in ("gradient", "laplacian")), f"{drawn['gradient'][0]:.1f}"])
        missing.append([*own, *(f"{m['missing_over_error'][b][0]:.2f}" for b in bands)])
    for p in result["codec"]:
        seen = p["reconstructions"]
        codec.append([
            f"{p['quality']}", f"{p['rate'][0]:,.0f}", f"{p['psnr'][0]:.2f}", with_error(seen["gradient"]),
            with_error(seen["laplacian"]), *(f"{seen[b][0]:.3f}" for b in bands),
        ])  # fmt: skip
    head = ["model", "nats"]
    return {
        "fidelity": table([*head, "λ", "PSNR, dB", "mean absolute error, levels", "ELBO, nats"], fidelity),
        "reconstructions": table([*head, *words, *periods], sharp),
        "samples": table([*head, *words, "gradient energy of reconstructions with the density's noise"], samples),
        "missing": table([*head, *periods], missing),
        "codec": table(["quality", "nats", "PSNR, dB", *words, *periods], codec),
    }
