"""Every kind of image goes in; what comes out has its size, depth, alpha and metadata."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import unchecked_writer as lies
from conftest import photograph
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin

from rdae.coding.container import Tag, parse
from rdae.coding.picture import Picture, from_array, to_array
from rdae.coding.picture_reading import read_picture
from rdae.coding.picture_writing import write_picture
from rdae.coding.pil_images import from_pil, to_pil
from rdae.errors import ImageError, LimitError

RGB = photograph(37, 51, 11)
GREY = photograph(37, 51, 12, channels=1)[..., 0]
ALPHA = np.add.outer(np.arange(37), 4 * np.arange(51)).astype(np.uint8)
NEAR = 4.0  # mean absolute difference in grey levels that quality 90 stays well below on these pictures


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def through(codec, image, quality=90):
    """The array that comes back."""
    return to_array(codec.decompress(codec.compress(image, quality)))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    assert a.dtype == b.dtype
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).mean())


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (63, 65), (64, 64), (65, 63)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_comes_back(codec, shape, channels):
    image = photograph(*shape, 3, channels=channels)
    image = image[..., 0] if channels == 1 else image
    assert distance(through(codec, image), image) < NEAR


def test_grey_stays_grey(codec):
    back = codec.decompress(codec.compress(GREY, 90))
    assert back.pixels.shape == (37, 51, 1)
    assert to_pil(back).mode == "L"
    assert distance(back.pixels[..., 0], GREY) < NEAR


def test_grey_with_a_channel_axis_is_the_same_image(codec):
    assert codec.compress(GREY[..., None], 50) == codec.compress(GREY, 50) == codec.compress(Image.fromarray(GREY), 50)


@pytest.mark.parametrize("colour", [GREY[..., None], RGB])
@pytest.mark.parametrize("quality", [0, 90])
def test_alpha_is_exact(codec, colour, quality):
    image = np.concatenate([colour, ALPHA[..., None]], 2)
    back = through(codec, image, quality)
    np.testing.assert_array_equal(back[..., -1], ALPHA)
    assert back.shape == image.shape
    picture = to_pil(codec.decompress(codec.compress(Image.fromarray(image), quality)))
    assert picture.mode == {2: "LA", 4: "RGBA"}[image.shape[2]]
    np.testing.assert_array_equal(np.asarray(picture)[..., -1], ALPHA)


def test_a_palette_becomes_colour(codec):
    image = Image.fromarray(RGB).quantize(16)
    picture = from_pil(image)
    np.testing.assert_array_equal(picture.pixels, np.asarray(image.convert("RGB")))
    assert distance(through(codec, image), np.asarray(image.convert("RGB"))) < NEAR


@pytest.mark.parametrize("transparency", [3, bytes([255, 128, 0, 7])])
def test_a_palette_with_transparency_keeps_it(codec, transparency):
    image = Image.fromarray(RGB).quantize(16)
    data = saved(image, "PNG", transparency=transparency)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    assert expected[..., 3].min() < 255
    back = through(codec, data)
    np.testing.assert_array_equal(back[..., 3], expected[..., 3])


def test_a_palette_of_four_channels_keeps_its_alpha():
    image = Image.fromarray(np.dstack([RGB, np.where(ALPHA > 99, 255, 0).astype(np.uint8)])).quantize(16)
    assert image.mode == "P"
    assert "transparency" not in image.info
    picture = from_pil(image)
    np.testing.assert_array_equal(to_array(picture), np.asarray(image.convert("RGBA")))
    assert picture.alpha.min() < 255


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_an_animation_loses_all_frames_but_one_and_says_so(kind):
    frames = [Image.fromarray(np.roll(RGB, shift, 0)) for shift in (0, 9)]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    assert any("one frame was kept" in note for note in read_picture(data).notes)
    assert any("one frame was kept" in note for note in from_pil(Image.open(io.BytesIO(data))).notes)
    assert read_picture(saved(frames[0], kind)).notes == []


def test_a_bitmap_becomes_grey(codec):
    image = Image.fromarray(GREY).convert("1")
    picture = from_pil(image)
    assert set(np.unique(picture.pixels)) == {0, 255}
    np.testing.assert_array_equal(picture.pixels[..., 0] > 0, np.asarray(image))
    assert through(codec, image).shape == (37, 51)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "I;16"])
def test_a_colour_that_stands_for_transparent_becomes_alpha(mode):
    if mode == "I;16":
        image, clear = Image.fromarray(257 * GREY.astype(np.uint16)), 257 * int(GREY[5, 5])
    else:
        image = Image.fromarray(RGB).convert(mode)
        clear = image.getpixel((5, 5))
    data = saved(image, "PNG", transparency=clear)
    picture = read_picture(data)
    values = np.asarray(image).astype(int)
    expected = (
        (values == np.array(clear)).all(2) if mode == "RGB" else values == int(bool(clear) if mode == "1" else clear)
    )
    assert expected.any()
    np.testing.assert_array_equal(picture.alpha == 0, expected)
    assert picture.alpha.dtype == picture.pixels.dtype


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV"])
def test_other_colour_spaces_are_converted_and_noted(codec, mode):
    image = Image.fromarray(RGB).convert(mode)
    compressed = codec.compress_picture(from_pil(image))
    assert compressed.notes == [f"converted from {mode} to RGB"]
    expected = np.asarray(image.convert("RGB"))
    assert distance(codec.decompress(codec.compress(image, 90)).pixels, expected) < NEAR


def test_a_profile_of_another_colour_space_is_dropped():
    image = Image.fromarray(RGB).convert("CMYK")
    image.info["icc_profile"] = b"a CMYK profile"
    assert from_pil(image).icc is None


def recorded_error(data: bytes) -> int:
    return struct.unpack("<H", parse(data).find(Tag.ERROR))[0]


@pytest.mark.parametrize("quality", [0, 50, 100])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_come_back_within_the_bound_that_the_file_states(codec, quality, channels):
    fine = np.random.default_rng(1).integers(0, 257, size=(37, 51, channels))
    image = (photograph(37, 51, 5, channels=channels).astype(np.int64) * 256 + fine).clip(0, 65535).astype(np.uint16)
    image = image[..., 0] if channels == 1 else image
    data = codec.compress(image, quality)
    back = to_array(codec.decompress(data))
    assert (back.dtype, back.shape) == (image.dtype, image.shape)
    worst = int(np.abs(back.astype(int) - image.astype(int)).max())
    # the synthesis is float32, whose 24 bits leave an error below one level at 65535: the bound may be off by that
    assert abs(recorded_error(data) - worst) <= 1
    assert distance(back, image) < 257 * (40 if quality == 0 else 8)


def test_16_bits_keep_more_than_8_bits_do(codec):
    """A ramp too shallow for 8 bits survives."""
    image = (30_000 + np.add.outer(np.arange(64), np.arange(64))).astype(np.uint16)
    back = through(codec, image, 100)
    assert len(np.unique(np.round(image / 257))) == 1  # 8 bits make a constant of it, and leave all of its variance
    assert np.square(back.astype(float) - image).mean() < image.var() / 2
    assert distance(back, image) < 64


def test_16_bit_alpha_is_exact(codec):
    deep = (257 * np.concatenate([RGB, ALPHA[..., None]], 2).astype(np.uint16)) ^ 3
    np.testing.assert_array_equal(through(codec, deep)[..., 3], deep[..., 3])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_files_keep_their_depth(codec, kind):
    deep = 257 * GREY.astype(np.uint16)
    picture = read_picture(saved(Image.fromarray(deep), kind))
    np.testing.assert_array_equal(picture.pixels[..., 0], deep)
    assert to_pil(codec.decompress(codec.compress(Image.fromarray(deep)))).mode.startswith("I;16")


def deep_png(values: np.ndarray, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG of 16-bit values, (H, W, 2 to 4), by the writer that shares nothing with ours."""
    rows = b"".join(b"\x00" + row.astype(">u2").tobytes() for row in values)
    return lies.png(values.shape[1], values.shape[0], 16, {2: 4, 3: 2, 4: 6}[values.shape[2]], rows, *extra)


def deep_values(channels: int) -> np.ndarray:
    return np.random.default_rng(channels).integers(0, 1 << 16, size=(7, 5, channels), dtype=np.uint16)


def deep_tiff(values: np.ndarray, order: str, *, deflated: bool) -> bytes:
    """A TIFF of 16-bit RGB."""
    pixels = values.astype(order + "u2").tobytes()
    pixels = zlib.compress(pixels) if deflated else pixels
    height, width, channels = values.shape
    tags = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, 3, 200),
        (259, 3, 1, 8 if deflated else 1),
        (262, 3, 1, 2),
        (273, 4, 1, 208),
    ]
    tags += [(277, 3, 1, channels), (278, 3, 1, height), (279, 4, 1, len(pixels))]
    entries = b"".join(
        struct.pack(order + "HHI", *tag[:3])
        + (struct.pack(order + "HH", tag[3], 0) if tag[1] == 3 and tag[2] == 1 else struct.pack(order + "I", tag[3]))
        for tag in tags
    )
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 8)
    directory = struct.pack(order + "H", len(tags)) + entries + bytes(4)
    body = (head + directory).ljust(200, b"\0") + struct.pack(order + "HHHH", 16, 16, 16, 0)
    return body + pixels


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bit_colour_and_alpha_of_a_png_keep_their_depth(channels):
    """Pillow holds these as 8 bits."""
    picture = read_picture(deep_png(deep_values(channels)))
    np.testing.assert_array_equal(to_array(picture), deep_values(channels))
    assert picture.notes == []


@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_16_bit_colour_of_a_tiff_keeps_its_depth(order, deflated):
    picture = read_picture(deep_tiff(deep_values(3), order, deflated=deflated))
    np.testing.assert_array_equal(to_array(picture), deep_values(3))
    assert picture.notes == []


def test_a_16_bit_colour_that_stands_for_transparent_becomes_alpha():
    values = deep_values(3)
    picture = read_picture(deep_png(values, (b"tRNS", values[3, 2].astype(">u2").tobytes())))
    np.testing.assert_array_equal(picture.pixels, values)
    assert (picture.alpha == 0).sum() == 1
    assert picture.alpha[3, 2] == 0


def test_16_bit_colour_that_is_reduced_is_noted():
    """An open Pillow image is read once, and a PPM has no second order of bytes."""
    assert "16 to 8 bits" in from_pil(Image.open(io.BytesIO(deep_png(deep_values(3))))).notes[0]
    ppm = b"P6 5 7 65535\n" + deep_values(3).astype(">u2").tobytes()
    assert "16 to 8 bits" in read_picture(ppm).notes[0]
    assert read_picture(b"P6 1 1 255\nabc").notes == []
    assert read_picture(saved(Image.fromarray(RGB), "PNG")).notes == []
    assert read_picture(saved(Image.fromarray(257 * GREY.astype(np.uint16)), "PNG")).notes == []


def test_an_integer_image_beyond_16_bits_is_refused():
    with pytest.raises(ImageError, match="Scale it to 16 bits"):
        from_pil(Image.fromarray(np.array([[0, 70_000]], dtype=np.int32)))
    assert from_pil(Image.fromarray(np.array([[0, 60_000]], dtype=np.int32))).deep


def oriented() -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a test"
    return exif.tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_orientation_is_kept_as_metadata_and_pixels_stay_put(codec, kind):
    back = codec.decompress(codec.compress(saved(Image.fromarray(RGB), kind, exif=oriented()), 20))
    assert back.size == (37, 51)
    assert to_pil(back).getexif()[0x0112] == 6


def test_a_tiff_is_turned_once_not_twice(codec):
    """Pillow turns TIFFs upright while it reads them: the tag must then be gone."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(RGB), "TIFF", exif=exif)
    shown = ImageOps.exif_transpose(to_pil(codec.decompress(codec.compress(data, 90))))
    assert distance(np.asarray(shown), np.rot90(RGB, -1)) < NEAR


def test_metadata_comes_back_to_the_byte(codec):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">\xc3\xa9</x:xmpmeta>'
    data = saved(Image.fromarray(RGB), "JPEG", icc_profile=icc, exif=oriented(), xmp=xmp)
    back = codec.decompress(codec.compress(data, 20))
    assert back.icc == icc
    assert back.xmp == xmp
    assert back.exif == oriented().removeprefix(b"Exif\x00\x00")
    again = io.BytesIO()
    to_pil(back).save(again, "JPEG", **{k: to_pil(back).info[k] for k in ("icc_profile", "exif", "xmp")})
    info = Image.open(again).info
    assert (info["icc_profile"], info["xmp"]) == (icc, xmp)
    assert info["exif"].removeprefix(b"Exif\x00\x00") == back.exif


@given(icc=st.binary(min_size=1, max_size=99), exif=st.binary(min_size=1, max_size=99), xmp=st.binary(min_size=1))
@settings(max_examples=10, deadline=None)
def test_metadata_of_any_bytes_comes_back(codec, icc, exif, xmp):
    picture = Picture(np.zeros((3, 4, 3), np.uint8), None, icc, exif, xmp)
    back = codec.decompress(codec.compress_picture(picture, 0).data)
    assert (back.icc, back.exif, back.xmp) == (icc, exif, xmp)


def test_no_metadata_is_invented(codec):
    back = codec.decompress(codec.compress(RGB, 0))
    assert (back.icc, back.exif, back.xmp, back.alpha) == (None, None, None, None)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int64, bool, np.complex64])
def test_arrays_of_another_type_are_refused_with_a_cure(codec, dtype):
    with pytest.raises(ImageError, match=r"must be uint8 or uint16.*\.astype\('uint8'\)"):
        codec.compress(np.zeros((4, 4, 3), dtype))


def test_floating_point_images_are_refused_with_a_cure(codec):
    with pytest.raises(ImageError, match="Scale to 8 or 16 bits"):
        codec.compress(Image.new("F", (4, 4)))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0, 3), (4, 0, 4), (4, 4, 0)])
def test_an_image_without_pixels_is_refused(codec, shape):
    with pytest.raises(ImageError, match="needs 1 to"):
        codec.compress(np.zeros(shape, np.uint8))
    if 0 in shape[:2]:
        with pytest.raises(ImageError, match="needs 1 to"):
            codec.compress(Image.new("RGB", (shape[1], shape[0])))


def test_a_side_that_no_file_can_state_is_refused(codec):
    with pytest.raises(ImageError, match="Cut larger ones"):
        codec.compress(np.zeros((1, (1 << 20) + 1), np.uint8))


@pytest.mark.parametrize("shape", [(3, 8, 8), (4,), (2, 2, 2, 3), (4, 4, 5)])
def test_other_shapes_are_refused_with_a_cure(shape):
    with pytest.raises(ImageError, match="Move channels last"):
        from_array(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    "source", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + bytes(30), "/no/such/file.png", "/", None, 7]
)
def test_what_is_no_image_is_refused(codec, source):
    with pytest.raises(ImageError):
        codec.compress(source)


@pytest.mark.filterwarnings("ignore:.*(Corrupt EXIF|Truncated File).*")
def test_every_prefix_of_a_file_is_read_or_refused_by_name():
    for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"):
        data = saved(Image.fromarray(RGB[:9, :9]), kind)
        for length in range(0, len(data), 7):
            try:
                read_picture(data[:length])
            except ImageError:
                continue


def test_layout_in_memory_does_not_matter(codec):
    expected = codec.compress(RGB, 50)
    assert codec.compress(np.asfortranarray(RGB), 50) == expected
    assert codec.compress(np.repeat(RGB, 2, 1)[:, ::2], 50) == expected
    frozen = RGB.copy()
    frozen.flags.writeable = False
    assert codec.compress(frozen, 50) == expected


def test_compress_leaves_the_image_alone(codec):
    image = RGB.copy()
    codec.compress(image, 50)
    np.testing.assert_array_equal(image, RGB)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp", ".ppm"])
def test_pictures_are_written_in_the_format_of_the_name(tmp_path, suffix):
    path = tmp_path / f"picture{suffix}"
    with open(path, "wb") as file:
        write_picture(from_array(RGB), path, file)
    assert distance(np.asarray(Image.open(path).convert("RGB")), RGB) < 8


def test_what_a_format_cannot_hold_is_refused_with_a_cure(tmp_path):
    with_alpha = Picture(RGB, ALPHA)
    for picture, name, cure in (
        (with_alpha, "x.jpg", "Write a .png"),
        (from_array(RGB), "x.nothing", r"Use \.png"),
        (from_array(RGB), "x", r"Use \.png"),
    ):
        with pytest.raises(ImageError, match=cure):
            write_picture(picture, tmp_path / name, io.BytesIO())


def written(picture: Picture, name: str, notes: list[str] | None = None) -> bytes:
    file = io.BytesIO()
    write_picture(picture, Path(name), file, **({} if notes is None else {"notes": notes}))
    return file.getvalue()


def described(**tags) -> bytes:
    """EXIF with a description, an exposure time and a latitude."""
    exif = Image.Exif()
    exif[0x010E], exif[0x8769], exif[0x8825] = "a test", {33434: 0.5}, {1: "N"}
    for tag, value in tags.items():
        exif[int(tag[1:])] = value
    return exif.tobytes()


def upright(mode: str) -> Image.Image:
    image = Image.fromarray(RGB)
    return image.quantize(16) if mode == "P" else image.convert(mode)


@pytest.mark.parametrize("mode", ["CMYK", "P", "1", "L", "RGB", "RGBA"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_tiff_of_any_mode_comes_back_as_a_tiff(mode, compression):
    image = upright(mode)
    icc = b"a profile of some length " * 120
    picture = read_picture(saved(image, "TIFF", compression=compression, icc_profile=icc))
    assert picture.exif is None  # nothing is invented from the layout of the file
    again = written(picture, "x.tif")
    assert again.count(icc) == (mode != "CMYK")
    np.testing.assert_array_equal(to_array(read_picture(again)), to_array(picture))
    expected = image.convert({"CMYK": "RGB", "P": "RGB", "1": "L"}.get(mode, mode))
    np.testing.assert_array_equal(to_array(picture), np.asarray(expected))


def test_a_turned_tiff_comes_back_upright_and_whole():
    picture = read_picture(saved(Image.fromarray(RGB), "TIFF", exif=oriented()))
    np.testing.assert_array_equal(picture.pixels, np.rot90(RGB, -1))
    back = Image.open(io.BytesIO(written(picture, "x.tif")))
    back.load()
    np.testing.assert_array_equal(np.asarray(back), np.rot90(RGB, -1))
    assert back.getexif()[0x010E] == "a test"


def test_a_tiff_keeps_what_describes_it_and_drops_what_lays_it_out():
    exif = Image.Exif()
    picture = read_picture(saved(Image.fromarray(RGB), "TIFF", exif=described()))
    exif.load(picture.exif)
    assert set(exif) == {0x010E, 0x8769, 0x8825}
    assert exif.get_ifd(0x8769)[33434] == 0.5
    assert exif.get_ifd(0x8825)[1] == "N"


def test_layout_in_foreign_exif_does_not_reach_a_written_tiff():
    lying = Image.Exif()
    lying[256], lying[257], lying[258], lying[273], lying[0x010E] = 9, 9, 1, 7, "a test"
    back = read_picture(written(Picture(RGB, exif=lying.tobytes()[6:]), "x.tif"))
    np.testing.assert_array_equal(back.pixels, RGB)
    assert b"a test" in back.exif


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.tif", "x.webp", "x.avif", "deep.png"])
def test_each_kind_of_metadata_survives_each_format_that_has_a_place_for_it(name):
    if Image.registered_extensions().get(Path(name).suffix) not in Image.SAVE:
        pytest.skip("this Pillow was built without it")
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">\xc3\xa9</x:xmpmeta>'
    pixels = 257 * RGB.astype(np.uint16) if name == "deep.png" else RGB
    back = read_picture(written(Picture(pixels, None, icc, described()[6:], xmp), name))
    assert (back.icc, back.xmp) == (icc, xmp)
    exif = Image.Exif()
    exif.load(back.exif)
    assert exif[0x010E] == "a test"
    assert exif.get_ifd(0x8769)[33434] == 0.5
    assert exif.get_ifd(0x8825)[1] == "N"


@pytest.mark.parametrize("name", ["x.bmp", "x.ppm", "x.gif"])
def test_metadata_that_a_format_has_no_place_for_is_noted(name):
    notes: list[str] = []
    written(Picture(RGB, xmp=b"<x/>"), name, notes)
    assert any("keeps no ICC profile" in note for note in notes)


@pytest.mark.filterwarnings("ignore:.*Corrupt EXIF.*")
@pytest.mark.parametrize("exif", [b"rubbish", b"MM\x00*", b"II*\x00\x08\x00\x00\x00\xff\xff", b"\x00"])
@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.tif", "x.webp", "x.avif"])
def test_exif_that_is_none_never_costs_the_picture(name, exif):
    notes: list[str] = []
    back = read_picture(written(Picture(RGB, exif=exif), name, notes))
    assert back.size == (37, 51)
    if name in ("x.png", "x.webp"):
        assert back.exif == exif


def test_exif_that_can_be_read_but_not_written_costs_a_tiff_its_exif_only(monkeypatch):
    def refuse(*_):
        raise struct.error("argument out of range")

    monkeypatch.setattr(TiffImagePlugin.ImageFileDirectory_v2, "write_string", refuse)
    monkeypatch.setitem(TiffImagePlugin.ImageFileDirectory_v2._write_dispatch, 2, refuse)
    notes: list[str] = []
    exif = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x0e\x00\x02\x00\x00\x00\x02a\x00\x00\x00\x00\x00\x00\x00"
    np.testing.assert_array_equal(read_picture(written(Picture(RGB, exif=exif), "x.tif", notes)).pixels, RGB)
    assert any("left out" in note for note in notes)


def test_metadata_longer_than_a_format_allows_is_refused_with_a_cure():
    with pytest.raises(ImageError, match=r"Write a \.png"):
        written(Picture(RGB, exif=bytes(70_000)), "x.jpg")


def test_a_change_made_through_getexif_counts():
    image = Image.open(io.BytesIO(saved(Image.fromarray(RGB), "JPEG", exif=oriented())))
    assert from_pil(image).exif == oriented()[6:]
    image.getexif()[0x0112] = 1
    exif = Image.Exif()
    exif.load(from_pil(image).exif)
    assert exif[0x0112] == 1
    assert exif[0x010E] == "a test"


def test_orientation_in_xmp_alone_invents_no_exif():
    image = Image.fromarray(RGB)
    image.info["xmp"] = b'<x tiff:Orientation="6"/>'
    assert image.getexif()[0x0112] == 6
    assert from_pil(image).exif is None


class Broken(Image.Image):
    """An image whose pixels fail to load."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._size, self._mode, self.error = (4, 4), "RGB", error

    def load(self):
        raise self.error


@pytest.mark.parametrize(
    "error",
    [EOFError(), struct.error("x"), RuntimeError("x"), SyntaxError("x"), OSError("x"), IndexError(), KeyError(1)],
)
def test_whatever_pillow_raises_is_an_image_error(monkeypatch, error):
    with pytest.raises(ImageError, match="convert it to PNG"):
        from_pil(Broken(error))
    monkeypatch.setattr(Image, "open", lambda *_: Broken(error))
    with pytest.raises(ImageError, match=r"data cannot be read: .+ convert it to PNG"):
        read_picture(b"anything")
    monkeypatch.setattr(Image.Image, "save", lambda *_, **__: Broken(error).load())
    with pytest.raises(ImageError, match=r"x\.tif cannot be written"):
        written(from_array(RGB), "x.tif")


def test_an_image_cut_short_or_closed_is_an_image_error(codec):
    data = saved(Image.fromarray(RGB), "PNG")
    with pytest.raises(ImageError, match="cannot be read"):
        codec.compress(Image.open(io.BytesIO(data[:-900])))
    closed = Image.open(io.BytesIO(data))
    closed.close()
    with pytest.raises(ImageError, match="cannot be read"):
        codec.compress(closed)


@given(kind=st.sampled_from(["PNG", "GIF", "TIFF", "AVIF", "WEBP", "JPEG"]), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_is_read_or_refused_by_name(kind, seed):
    Image.init()
    if kind not in Image.SAVE:
        return
    rng = np.random.default_rng(seed)
    data = bytearray(saved(Image.fromarray(RGB[:12, :12]), kind, exif=oriented()))
    for at in rng.integers(0, len(data), size=3):
        data[at] = rng.integers(0, 256)
    with contextlib.suppress(ImageError, LimitError):
        read_picture(bytes(data), max_pixels=1 << 16)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bit_colour_is_written_to_png_with_all_its_bits(channels):
    notes: list[str] = []
    data = written(from_array(deep_values(channels)), "x.png", notes)
    assert notes == []
    np.testing.assert_array_equal(to_array(read_picture(data)), deep_values(channels))
    with Image.open(io.BytesIO(data)) as image:  # Pillow as judge of every checksum, and of the high bytes
        high = (deep_values(channels) >> 8).astype(np.uint8)
        np.testing.assert_array_equal(np.asarray(image.convert({2: "LA", 3: "RGB", 4: "RGBA"}[channels])), high)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["x.jpg", "x.tif", "x.webp", "x.bmp", "x.ppm"])
def test_16_bits_that_become_8_are_noted(caplog, channels, name):
    picture = from_array(deep_values(channels))
    if channels in (2, 4) and name in ("x.jpg", "x.bmp", "x.ppm"):
        with pytest.raises(ImageError, match=r"no alpha channel.*Write a \.png"):
            written(picture, name)
        return
    notes: list[str] = []
    data = written(picture, name, notes)
    kept = channels == 1 and name in ("x.tif", "x.ppm")
    assert read_picture(data).deep == kept
    assert any("16 bits per channel became 8" in note for note in notes) != kept
    assert not caplog.records  # the caller has the notes
    write_picture(picture, Path(name), io.BytesIO())
    assert any("became 8" in record.message for record in caplog.records) != kept


def test_formats_lose_nothing_or_say_what():
    with_alpha = Picture(RGB, ALPHA)
    for name in ("x.png", "x.tif", "x.webp"):
        notes: list[str] = []
        np.testing.assert_array_equal(
            to_array(read_picture(written(with_alpha, name, notes))), np.dstack([RGB, ALPHA]), err_msg=name
        )
        assert notes == []
    for name, word in (("x.gif", "256 colours"), ("x.avif", "some loss")):
        notes = []
        if Image.registered_extensions().get(name[1:]) in Image.SAVE:
            written(from_array(RGB), name, notes)
            assert any(word in note for note in notes)


def test_our_limit_on_pixels_stands_in_place_of_pillows(monkeypatch):
    data = saved(Image.fromarray(RGB), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # far below half of the picture
    np.testing.assert_array_equal(read_picture(data).pixels, RGB)
    assert read_picture(io.BytesIO(data), max_pixels=RGB.size // 3).size == (37, 51)
    with pytest.raises(LimitError, match=r"51 x 37 pixels.*raise the limit \(max_pixels, --max-pixels\)"):
        read_picture(data, max_pixels=RGB.size // 3 - 1)
