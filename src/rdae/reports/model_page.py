"""A model report as one HTML page, with pictures where there is something to draw."""

from __future__ import annotations

import math
from html import escape

import torch

from rdae.measures.measure import Measure
from rdae.reports.drawing import Figure
from rdae.reports.model_report import ModelReport
from rdae.reports.page import html_page, html_picture, html_table

__all__ = ["model_page", "terms_figure", "units_figure"]

POINTS = 2000


def terms_figure(report: ModelReport) -> Figure:
    """Rate and distortion of each example: a point for each."""
    assert report.rates is not None
    assert report.distortions is not None
    figure = Figure(figsize=(5.4, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.scatter(report.rates[:POINTS].tolist(), report.distortions[:POINTS].tolist(), s=8, alpha=0.5, linewidths=0)
    axes.set(xlabel="rate, nats", ylabel="distortion", title="each example")
    return figure


def units_figure(report: ModelReport) -> Figure:
    """Mean rate of each latent unit, the largest first."""
    assert report.unit_rates is not None
    figure = Figure(figsize=(5.4, 4.2), layout="constrained")
    axes = figure.subplots()
    rates = report.unit_rates.sort(descending=True).values.tolist()
    axes.bar(range(1, len(rates) + 1), rates, width=1.0)
    axes.set(xlabel="latent unit, by its rate", ylabel="rate, nats", title="each unit")
    return figure


def model_page(report: ModelReport, title: str, command: str = "") -> str:
    """The page.

    Args:
        report: what was measured.
        title: such as the name of the model.
        command: that makes the page anew.
    """
    parts = [f"<p>{report.examples} examples of {report.elements} numbers each. After ± stands a standard error.</p>"]
    for section in report.sections:
        parts.append(f"<h2>{escape(section.title)}</h2>")
        if section.note:
            parts.append(f"<p>{escape(section.note)}</p>")
        if section.lines:
            head = ("measure", "value", "unit", "kind", "")
            rows = [(line.name, _value(line.measure), line.measure.unit, str(line.measure.kind), line.reading)
                    for line in section.lines]  # fmt: skip
            parts.append(html_table([head, *rows], words=4))
    figures = []
    if report.rates is not None and report.distortions is not None and bool(torch.isfinite(report.rates).all()):
        figures.append(html_picture(terms_figure(report), "rate and distortion"))
    if report.unit_rates is not None and bool(torch.isfinite(report.unit_rates).all()):
        figures.append(html_picture(units_figure(report), "rate of each latent unit"))
    if figures:
        parts.append(f'<div class="pictures">{"".join(figures)}</div>')
    if command:
        parts.append(f"<footer>Made by <code>{escape(command)}</code>.</footer>")
    return html_page(title, parts)


def _value(measure: Measure) -> str:
    if measure.standard_error == 0 or math.isnan(measure.standard_error):
        return f"{measure.value:.5g}"
    digits = max(0, 1 - math.floor(math.log10(measure.standard_error))) if measure.standard_error > 0 else 4
    return f"{measure.value:.{digits}f} ± {measure.standard_error:.{digits}f}"
