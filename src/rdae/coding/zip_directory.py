"""The directory of a zip file, believed only after it was compared with the bytes of the file.

Members are stored as they are, side by side, each once, under a name that all systems read alike; how many there are is
bounded before a single one is listed.
"""

from __future__ import annotations

import struct
import zipfile
from typing import BinaryIO

from rdae.errors import FormatError, LimitError

__all__ = ["DAMAGED", "MEMBERS_MAX", "open_zip"]

MEMBERS_MAX = 65_000  # a zip counts to 65,535 without extensions
OWN_MEMBERS = 2  # beside those of the user: manifest and delta
DIRECTORY_MAX = 1 << 25
DAMAGED = "The archive is damaged or was not written by rdae: copy it again."

END, END_SIGNATURE = struct.Struct("<4s4H2IH"), b"PK\x05\x06"
LOCATOR, LOCATOR_SIGNATURE = struct.Struct("<4sIQI"), b"PK\x06\x07"
END64, END64_SIGNATURE = struct.Struct("<4sQ2H2I4Q"), b"PK\x06\x06"
ENTRY, ENTRY_SIGNATURE = struct.Struct("<4s6H3I5H2I"), b"PK\x01\x02"
LOCAL_HEAD = 30


def open_zip(file: BinaryIO, name: str) -> tuple[dict[str, zipfile.ZipInfo], zipfile.ZipFile]:
    """Entries of the directory, by name, once it is known to be of bounded size, with stored members side by side.

    Args:
        file: open for reading.
        name: for messages.

    Raises:
        FormatError: no zip, cut short, or made to harm.
        LimitError: it claims more members than an archive holds.
    """
    start = _check_directory(file, name)
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, struct.error) as error:
        raise FormatError(f"{name} cannot be read as an archive ({error}). {DAMAGED}") from error
    entries: dict[str, zipfile.ZipInfo] = {}
    end = 0
    for entry in sorted(archive.infolist(), key=lambda entry: entry.header_offset):
        label = f"{name}: {entry.orig_filename!r:.80}"
        if entry.filename in entries:
            raise FormatError(f"{label} occurs twice. {DAMAGED}")
        if entry.filename != entry.orig_filename:
            raise FormatError(f"{label} has a name that some systems read otherwise. {DAMAGED}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size or entry.flag_bits & 1:
            raise FormatError(f"{label} is compressed or encrypted; members are stored as they are. {DAMAGED}")
        if entry.header_offset < end:
            raise FormatError(f"{label} lies within another member. {DAMAGED}")
        end = entry.header_offset + LOCAL_HEAD + entry.file_size
        entries[entry.filename] = entry
    if end > start:
        raise FormatError(f"{name}: a member reaches beyond the end. {DAMAGED}")
    return entries, archive


def _check_directory(file: BinaryIO, name: str) -> int:
    """Where the directory begins, after its claims were compared with its bytes, before anything is made of it."""
    count, size, start, end = _end_record(file, name)
    if count > MEMBERS_MAX + OWN_MEMBERS or size > DIRECTORY_MAX:
        raise LimitError(
            f"{name} claims {count} members in a directory of {size} bytes; an archive has at most {MEMBERS_MAX}. "
            "If you trust it, unpack it with a zip program."
        )
    if start + size != end:
        raise FormatError(f"{name}: its directory is not where it should be. {DAMAGED}")
    file.seek(start)
    directory, at = file.read(size), 0
    for _ in range(count):
        if len(directory) - at < ENTRY.size or directory[at : at + 4] != ENTRY_SIGNATURE:
            raise FormatError(f"{name}: its directory should name {count} members. {DAMAGED}")
        fields = ENTRY.unpack_from(directory, at)
        at += ENTRY.size + sum(fields[10:13])
    if at != size:
        raise FormatError(f"{name}: its directory names more than {count} members. {DAMAGED}")
    return start


def _end_record(file: BinaryIO, name: str) -> tuple[int, int, int, int]:
    """Number of entries, bytes and start of the directory, and where it should end."""
    total = file.seek(0, 2)
    tail = max(0, total - END.size - LOCATOR.size)
    file.seek(tail)
    data = file.read()
    if len(data) < END.size or data[-END.size :][:4] != END_SIGNATURE:
        raise FormatError(f"{name} is no archive of rdae, or is cut short: it does not end as one. Copy it again.")
    *_, count, size, start, _ = END.unpack(data[-END.size :])
    end = total - END.size
    if data[: LOCATOR.size][:4] == LOCATOR_SIGNATURE and len(data) == END.size + LOCATOR.size:
        *_, end, _ = LOCATOR.unpack(data[: LOCATOR.size])
        if end != tail - END64.size:
            raise FormatError(f"{name}: its directory is not where it should be. {DAMAGED}")
        file.seek(end)
        fields = END64.unpack(file.read(END64.size))
        if fields[0] != END64_SIGNATURE:
            raise FormatError(f"{name}: the end of its directory cannot be read. {DAMAGED}")
        count, size, start = fields[-3:]
    return count, size, start, end
