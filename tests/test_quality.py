"""Measures of a coded picture: PSNR of luma and chroma in closed form, and the lecture's bits per pixel."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from rdae.cli.coding import info
from rdae.coding.container import Colour, Contents, Header, serialise
from rdae.coding.fidelity import psnr, psnr_luma_chroma
from rdae.errors import ShapeError


def decibels(mean: float, peak: float = 255.0) -> float:
    return 10 * math.log10(peak**2 / mean)


def changed(red: int = 0, green: int = 0, blue: int = 0, kind: type = np.uint8) -> tuple[np.ndarray, np.ndarray]:
    a = np.full((4, 6, 3), 100, dtype=kind)
    return a, (a + np.array([red, green, blue])).astype(kind)


def test_a_grey_error_is_all_luma():
    luma, chroma = psnr_luma_chroma(*changed(7, 7, 7))
    assert luma == pytest.approx(decibels(49.0), abs=1e-9)
    assert chroma > 250  # nothing but the rounding of float64: the weights of luma sum to 1


@pytest.mark.parametrize(
    ("error", "luma", "blue_difference", "red_difference"),
    [
        # Y = 0.299 R + 0.587 G + 0.114 B, Cb = (B - Y) / 1.772, Cr = (R - Y) / 1.402
        ({"red": 10}, 2.99, -2.99 / 1.772, 7.01 / 1.402),
        ({"green": 10}, 5.87, -5.87 / 1.772, -5.87 / 1.402),
        ({"blue": 10}, 1.14, 8.86 / 1.772, -1.14 / 1.402),
    ],
)
def test_an_error_of_one_colour_goes_to_luma_and_chroma_by_the_weights_of_bt_601(
    error, luma, blue_difference, red_difference
):
    expected = decibels(luma**2), decibels((blue_difference**2 + red_difference**2) / 2)
    assert psnr_luma_chroma(*changed(**error)) == pytest.approx(expected, abs=1e-9)
    assert psnr(*changed(**error)) == pytest.approx(decibels(100 / 3), abs=1e-9)


def test_pooled_chroma_is_a_mean_of_squares_and_not_of_decibels():
    a, b = changed()
    b = b.copy()
    b[:2, :, 2] += 10  # half of the rows
    (luma, chroma), (whole_luma, whole_chroma) = psnr_luma_chroma(a, b), psnr_luma_chroma(*changed(blue=10))
    assert luma - whole_luma == pytest.approx(10 * math.log10(2), abs=1e-9)
    assert chroma - whole_chroma == pytest.approx(10 * math.log10(2), abs=1e-9)


def test_equal_pictures_and_deep_ones():
    a, _ = changed()
    assert psnr_luma_chroma(a, a) == (math.inf, math.inf)
    luma, _ = psnr_luma_chroma(*changed(500, 500, 500, kind=np.uint16))
    assert luma == pytest.approx(decibels(500.0**2, 65535), abs=1e-9)


def test_pictures_without_colour_are_refused_with_the_cure():
    grey = np.zeros((4, 4), dtype=np.uint8)
    with pytest.raises(ShapeError, match="Use psnr for grey ones"):
        psnr_luma_chroma(grey, grey)
    with pytest.raises(ShapeError, match="one size and kind"):
        psnr_luma_chroma(np.zeros((4, 4, 3), dtype=np.uint8), np.zeros((4, 5, 3), dtype=np.uint8))


@pytest.mark.parametrize(("size", "bpp"), [(4283, 0.1212), (4004, 0.1133), (3986, 0.1128)])
def test_bits_per_pixel_of_the_lectures_three_files(tmp_path, capsys, size, bpp):
    """752 x 376 pixels, the size that agrees with all three."""
    contents = Contents(Header(Colour.RGB, 40, 752, 376, bytes(8)), tiles=[b""])
    contents.tiles = [bytes(4000)]
    contents.tiles = [bytes(4000 + size - len(serialise(contents)))]
    path = tmp_path / "lecture.rdae"
    path.write_bytes(serialise(contents))
    assert path.stat().st_size == size
    info([path], as_json=True)
    assert json.loads(capsys.readouterr().out)["bits_per_pixel"] == bpp
    assert int(bpp * 752 * 376 / 8) == size  # what a target of so many bits per pixel allows
