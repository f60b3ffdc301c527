"""The Pillow plugin: what `Image.open`, `verify` and `save` do with .rdae files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import unchecked_writer as lies
from conftest import photograph
from PIL import Image, ImageOps, UnidentifiedImageError

import rdae.pillow
from rdae.coding.codec import Codec
from rdae.coding.container import parse
from rdae.coding.picture import Picture
from rdae.coding.registry import load
from rdae.errors import ImageError

OWN = Path(__file__).parent / "golden" / "golden.codec"  # not shipped, as a codec of one's own
RGB = photograph(20, 30, 4)


@pytest.fixture
def known(monkeypatch):
    """The own model added, for one test."""
    monkeypatch.setattr(rdae.pillow, "_models", {})
    rdae.pillow.add_model(OWN)


@pytest.fixture
def never_decoded(monkeypatch):
    monkeypatch.setattr(Codec, "decompress", lambda *_, **__: pytest.fail("decoded"))


def oriented() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def file(**metadata: bytes) -> bytes:
    return load(OWN).compress_picture(Picture(RGB, **metadata), 50).data


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_metadata_is_there_on_opening(never_decoded):
    image = opened(file(icc=b"a profile" * 30, exif=oriented()[6:], xmp=b"<x/>"))
    assert (image.info["icc_profile"], image.info["exif"], image.info["xmp"]) == (
        b"a profile" * 30,
        oriented(),
        b"<x/>",
    )
    assert image.getexif()[0x0112] == 6


def test_an_image_is_turned_by_its_orientation(known):
    turned = ImageOps.exif_transpose(opened(file(exif=oriented()[6:])))
    assert turned.size == (20, 30)
    np.testing.assert_array_equal(np.asarray(turned), np.rot90(np.asarray(opened(file())), -1))


def test_metadata_behind_the_tiles_comes_with_the_pixels(known):
    image = opened(file() + lies.chunk(lies.EXIF, oriented()[6:]))
    assert not image.getexif()
    image.load()
    assert image.getexif()[0x0112] == 6


def test_a_change_made_before_loading_stays(known):
    image = opened(file(xmp=b"<x/>"))
    image.info["xmp"] = b"<y/>"
    image.load()
    assert image.info["xmp"] == b"<y/>"


@pytest.mark.parametrize("length", [1 << 34, 5000])
def test_a_length_that_is_a_lie_takes_no_memory(never_decoded, tmp_path, length):
    data = lies.header(width=30, height=20) + lies.chunk(lies.ICC, b"short", length=length)
    (tmp_path / "x.rdae").write_bytes(data)  # a file on disk allocates what it is asked to read
    with Image.open(tmp_path / "x.rdae") as image:
        assert image.size == (30, 20)
        assert "icc_profile" not in image.info


def test_a_damaged_chunk_of_metadata_is_not_believed(never_decoded):
    image = opened(lies.header() + lies.chunk(lies.ICC, b"profile", crc=1) + lies.chunk(lies.XMP, b"<x/>"))
    assert not image.info


def test_every_prefix_opens_or_is_refused(never_decoded):
    data = file(icc=b"a profile", exif=oriented()[6:])
    for length in range(120):
        try:
            opened(data[:length])
        except (OSError, SyntaxError):
            continue


@pytest.mark.parametrize("header", [lies.header(version=2), lies.header(crc=1)])
def test_a_file_that_is_ours_but_cannot_be_opened_says_why(header):
    with pytest.raises(OSError, match=r"Install a newer rdae|copy it again") as caught:
        opened(header)
    assert not isinstance(caught.value, UnidentifiedImageError)


def test_verify_finds_damage_without_decoding(never_decoded):
    data = bytearray(file())
    opened(bytes(data)).verify()
    data[-6] ^= 1
    with pytest.raises(OSError, match="damaged"):
        opened(bytes(data)).verify()
    with pytest.raises(OSError, match="cut short"):
        opened(file()[:-1]).verify()


def test_a_model_of_ones_own_is_found_once_it_is_added(monkeypatch, tmp_path):
    monkeypatch.setattr(rdae.pillow, "_models", {})
    path = tmp_path / "x.rdae"
    Image.fromarray(RGB).save(path, model=OWN, quality=80)
    with pytest.raises(OSError, match="Pass the codec file"):
        Image.open(path).load()
    rdae.pillow.add_model(OWN)
    expected = load(OWN).decompress(path.read_bytes()).pixels
    np.testing.assert_array_equal(np.asarray(Image.open(path)), expected)


def test_save_takes_metadata_as_pillow_does():
    target = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(target, "RDAE", model=OWN, xmp="<é/>", exif=exif, icc_profile=None)
    chunks = {chunk.tag: chunk.payload for chunk in parse(target.getvalue()).chunks}
    assert chunks == {lies.XMP: "<é/>".encode(), lies.EXIF: oriented()[6:]}
    with pytest.raises(ImageError, match="xmp must be bytes"):
        Image.fromarray(RGB).save(io.BytesIO(), "RDAE", model=OWN, xmp=7)


def test_what_saving_loses_is_said(caplog):
    Image.fromarray(RGB).convert("CMYK").save(io.BytesIO(), "RDAE", model=OWN)
    assert "converted from CMYK to RGB" in caplog.text
