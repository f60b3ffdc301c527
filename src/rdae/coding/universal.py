"""A universal code for whole numbers: bits that need no model and no table.

A positive m is written as k zeros and then m in binary, k + 1 digits, k = floor(log2 m): Elias' gamma code,
`2k + 1` bits. A sequence of integers is written as the gamma code of 1 + the number of zeros before the next
non-zero n, the gamma code of |n|, a sign bit (1: negative), and so on; where zeros are left at the end, the gamma
code of 1 + their number closes the stream. Bits fill bytes from the most significant one; the last byte is padded
with zeros.
Source: Elias 1975, "Universal codeword sets and representations of the integers".
"""

from __future__ import annotations

from array import array

import numpy as np

from rdae.errors import FormatError, TableError

__all__ = ["DIGITS_MAX", "code_bits", "decode_integers", "encode_integers", "gamma_bits"]

DIGITS_MAX = 32  # no code word has more zeros in front
# a run of r - 1 zeros takes at most 2 r - 1 bits, the number below 2**31 that ends it 61 and a sign: 63 each if r = 1
NUMBER_BITS_MAX = 63


def _magnitude(m: np.ndarray) -> np.ndarray:
    """`floor(log2 m)` of positive integers."""
    return np.frexp(m.astype(np.float64))[1].astype(np.int64) - 1


def gamma_bits(m: np.ndarray) -> np.ndarray:
    """Length in bits of the gamma code of positive integers, `2 floor(log2 m) + 1`; int64, same shape.

    Raises:
        TableError: a number is not positive.
    """
    m = np.asarray(m, dtype=np.int64)
    if (m < 1).any():
        raise TableError(f"The gamma code has no word for {int(m.min())}. Map the numbers to 1, 2, 3, ... first.")
    return 2 * _magnitude(m) + 1


def _words(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Code words as integers and their lengths in bits."""
    values = np.asarray(values).astype(np.int64).ravel()
    at = np.flatnonzero(values)
    signed = values[at]
    runs = np.diff(at, prepend=-1)  # zeros before each, plus 1
    words, lengths = np.empty(2 * at.size, dtype=np.int64), np.empty(2 * at.size, dtype=np.int64)
    words[0::2], lengths[0::2] = runs, gamma_bits(runs)
    words[1::2], lengths[1::2] = 2 * np.abs(signed) + (signed < 0), gamma_bits(np.abs(signed)) + 1
    left = values.size - (int(at[-1]) + 1 if at.size else 0)
    if left:
        words, lengths = np.append(words, left + 1), np.append(lengths, gamma_bits(np.array(left + 1)))
    return words, lengths


def code_bits(values: np.ndarray) -> int:
    """Length in bits of the code of integers, in the order of their memory, before padding to whole bytes."""
    return int(_words(values)[1].sum())


def encode_integers(values: np.ndarray) -> bytes:
    """The code of integers of magnitude below 2**31."""
    words, lengths = _words(values)
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if ends.size else 0
    below = np.repeat(ends, lengths) - 1 - np.arange(total)  # binary place of each bit within its word
    bits = np.repeat(words, lengths) >> np.minimum(below, 62) & 1
    return np.packbits(bits.astype(np.uint8)).tobytes()


def decode_integers(data: bytes, count: int) -> np.ndarray:
    """The `count` integers in a code, int64. Time and memory are bounded by `count`, whatever `data` is.

    Raises:
        FormatError: the code is cut short, damaged, or holds another number of integers.
    """
    if 8 * len(data) > NUMBER_BITS_MAX * count + 7:
        raise FormatError(
            f"A universal code of {len(data)} bytes is too long for {count} numbers. The file is damaged."
        )
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8))
    starts, ones = _parse(bits, 2 * count)
    digits = ones - starts
    words = np.zeros(ones.size, dtype=np.int64)
    for place in range(int(digits.max()) + 1 if digits.size else 0):
        here = np.minimum(ones + place, bits.size - 1)
        words = np.where(place <= digits, 2 * words + bits[here], words)
    runs, sizes = words[0::2], words[1::2]
    signs = bits[(ones + digits + 1)[1::2]]
    at = np.cumsum(runs[: sizes.size]) - 1
    left = int(runs[-1]) - 1 if runs.size > sizes.size else 0
    held = (int(at[-1]) + 1 if at.size else 0) + left
    if held != count:
        raise FormatError(f"A universal code holds {held} numbers where {count} are due. The file is damaged.")
    values = np.zeros(count, dtype=np.int64)
    values[at] = np.where(signs == 1, -sizes, sizes)
    return values


def _parse(bits: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each code word starts, and where its first 1 is; at most `most` words."""
    text, size = bits.tobytes(), bits.size
    starts, ones = array("q"), array("q")
    position, signed = 0, 0
    while (one := text.find(1, position, position + DIGITS_MAX + 1)) >= 0:
        if len(starts) == most:
            raise FormatError("A universal code holds more numbers than are due. The file is damaged.")
        starts.append(position)
        ones.append(one)
        position = 2 * one - position + 1 + signed
        signed = 1 - signed
        if position > size:
            raise FormatError("A universal code ends within a number. The file is cut short or damaged.")
    if size - position > DIGITS_MAX:
        raise FormatError("A universal code holds a number that no encoder writes. The file is damaged.")
    if size - position > 7:
        raise FormatError("A universal code is followed by something else. The file is damaged.")
    return np.array(starts, dtype=np.int64), np.array(ones, dtype=np.int64)
