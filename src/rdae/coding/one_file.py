"""One file to another: a picture to its compressed file, and back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rdae.coding.codec import Codec
from rdae.coding.container import MAX_PIXELS
from rdae.coding.fidelity import psnr
from rdae.coding.files import Job, whole_file
from rdae.coding.picture import Picture
from rdae.coding.picture_reading import read_picture
from rdae.coding.picture_writing import write_picture
from rdae.coding.places import reaching, readable
from rdae.coding.registry import codec_for, load
from rdae.errors import FormatError, ModelError

__all__ = ["compress_file", "decompress_file"]


def compress_file(
    job: Job,
    *,
    model: str | Path = "photo",
    opened: Callable[..., Codec] = load,
    identity: bytes | None = None,
    threads: int = 0,
    verify: bool = False,
    strip: bool = False,
    max_pixels: int | None = MAX_PIXELS,
    **target: float | int | None,
) -> str:
    """Compresses one file; returns a line of report.

    Args:
        job: what to read and write.
        model: to compress with, as for `registry.load`.
        opened: gives its codec, of the model and `threads`; called for each file, so it should keep what it made.
        identity: of the model, where it has to be this very one.
        threads: of the networks; 0 takes all cores.
        verify: decode what is to be written, compare all that is kept without loss, and report the PSNR.
        strip: leave out ICC profile, EXIF and XMP.
        max_pixels: refuse larger images before memory is taken; None for no limit.
        target: quality, bpp, psnr or size, as for `Codec.compress`.

    Raises:
        ImageError: the file cannot be read as a picture.
        LimitError: larger than `max_pixels`.
        FormatError: verification failed; nothing was written.
        ModelError: no such model, or one of another identity.
    """
    codec = opened(model, threads=threads)
    if identity is not None and identity != codec.model.identity:
        raise ModelError(
            f"The model {model} is {codec.model.identity.hex()} here, but this run began with {identity.hex()}. "
            "Let every machine have the same version of rdae and the same codec file."
        )
    began = time.perf_counter()
    picture = read_picture(readable(job.source), max_pixels=max_pixels)
    if strip:
        picture.icc = picture.exif = picture.xmp = None
    result = codec.compress_picture(picture, **target)  # type: ignore[arg-type]
    seconds = time.perf_counter() - began
    height, width = picture.size
    report = (
        f"{width} x {height}, {len(result.data)} bytes, {8 * len(result.data) / (width * height):.3f} bpp, "
        f"quality {result.quality:g}, {seconds:.2f} s, {width * height / seconds / 1e6:.1f} MP/s"
    )
    if verify:
        shown = codec.decompress(result.data, name=str(job.target), max_pixels=None)
        _check_kept(picture, shown, job)
        report += f", verified, {psnr(picture.pixels, shown.pixels):.2f} dB"
    with whole_file(job.target) as file:
        file.write(result.data)
    return report + "".join(f", {note}" for note in result.notes)


def _check_kept(picture: Picture, shown: Picture, job: Job) -> None:
    """Everything but the colours must come back as it was."""
    same = {
        "size": picture.pixels.shape == shown.pixels.shape and picture.pixels.dtype == shown.pixels.dtype,
        "alpha": (picture.alpha is None) == (shown.alpha is None)
        and (picture.alpha is None or shown.alpha is None or np.array_equal(picture.alpha, shown.alpha)),
        "ICC profile": picture.icc == shown.icc,
        "EXIF": picture.exif == shown.exif,
        "XMP": picture.xmp == shown.xmp,
    }
    wrong = [name for name, equal in same.items() if not equal]
    if wrong:
        raise FormatError(
            f"{' and '.join(wrong)} of {job.source} did not come back as they were; {job.target} was not written. "
            "Please report it with the file."
        )


def decompress_file(
    job: Job, *, model: str | Path | None = None, threads: int = 0, max_pixels: int | None = MAX_PIXELS
) -> str:
    """Decompresses one file to the image format that the target's name says; returns a line of report."""
    began = time.perf_counter()
    with reaching(job.source, "read"):
        data = job.source.read_bytes()
    codec = codec_for(data, model, name=str(job.source), threads=threads)
    picture = codec.decompress(data, name=str(job.source), max_pixels=max_pixels)
    notes: list[str] = []
    with whole_file(job.target) as file:
        write_picture(picture, job.target, file, notes=notes)
    seconds = time.perf_counter() - began
    height, width = picture.size
    report = f"{width} x {height}, {seconds:.2f} s, {width * height / seconds / 1e6:.1f} MP/s"
    return report + "".join(f", {note}" for note in notes)
