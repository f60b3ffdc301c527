"""Shifts of scales: packed and back, the best one by brute force, and what they save on pictures unlike photographs."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import photograph
from hypothesis import given
from hypothesis import strategies as st

from rdae.coding import pyramid
from rdae.coding.container import parse
from rdae.coding.fidelity import psnr
from rdae.coding.scale_shifts import (
    SHIFT_MAX,
    Members,
    best_shift,
    pack_shifts,
    packed_size,
    shifted_numbers,
    shifted_scales,
    unpack_shifts,
)
from rdae.errors import FormatError

a_shift = st.integers(-SHIFT_MAX, SHIFT_MAX)


@given(st.lists(a_shift, min_size=1, max_size=45))
def test_shifts_come_back(shifts):
    packed = pack_shifts(shifts)
    assert len(packed) == packed_size(len(shifts))
    assert unpack_shifts(packed, len(shifts)) == shifts


def test_shifts_take_as_few_bytes_as_hold_them():
    assert [packed_size(n) for n in (1, 2, 3, 5, 19)] == [1, 1, 2, 2, 8]
    for passes in (1, 2, 19):
        assert 256 ** (packed_size(passes) - 1) <= 9**passes - 1 < 256 ** packed_size(passes)


def test_bytes_that_are_no_shifts_are_refused():
    assert unpack_shifts((9**19 - 1).to_bytes(8, "little"), 19) == [SHIFT_MAX] * 19
    for data in ((9**19).to_bytes(8, "little"), bytes(7), bytes(9)):
        with pytest.raises(FormatError, match="no encoder writes"):
            unpack_shifts(data, 19)


@given(a_shift, st.integers(1, 5), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_members_and_numbers_are_shifted_alike(shift, skews, scales, seed):
    rng = np.random.default_rng(seed)
    scale = rng.integers(0, scales, (2, 3, 4)).astype(np.int8)
    skew = rng.integers(1 - skews, skews, (2, 3, 4)).astype(np.int8)
    members, every = Members(scale, skew, skews, scales), np.arange(24)
    moved = shifted_scales(scale, shift, scales)
    assert moved.dtype == scale.dtype
    for i, j in zip(scale.ravel().tolist(), moved.ravel().tolist(), strict=True):
        assert j == (0 if i == 0 else min(max(i + shift, 0), scales - 1))
    numbers, sign = members.at(every)
    due, also = members.at(every, shift)
    assert np.array_equal(due, skews * moved.ravel().astype(int) + np.abs(skew.ravel()))
    assert np.array_equal(shifted_numbers(numbers, shift, skews, scales), due)
    assert np.array_equal(sign, also)


def laplacians(scales: int, skews: int, clip: int) -> np.ndarray:
    """Code lengths of two-sided geometric laws, wider with the scale, in nats; the skew moves them."""
    n = np.arange(-clip, clip + 1)
    rows = [-np.abs(n - skew / skews) / 1.3**scale for scale in range(scales) for skew in range(skews)]
    masses = np.exp(np.array(rows))
    return -np.log(masses / masses.sum(1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("wider", [-3, 0, 2])
def test_the_best_shift_is_that_of_brute_force(wider):
    """Symbols are drawn from laws some steps wider than the numbers say."""
    scales, skews, clip, count = 20, 3, 30, 4000
    rng, nats = np.random.default_rng(wider + 9), laplacians(scales, skews, clip)
    numbers = rng.integers(5 * skews, 15 * skews, count).astype(np.int32)
    numbers[:50] = 1  # of scale 0, which stays
    true = shifted_numbers(numbers, wider, skews, scales)
    values = np.array([rng.choice(2 * clip + 1, p=np.exp(-nats[k].astype(float)) / np.exp(-nats[k].astype(float)).sum())
                       for k in true]) - clip  # fmt: skip
    values[-1] = 4 * clip  # counted as the largest
    clipped = np.clip(values, -clip, clip) + clip
    costs = {s: float(nats[shifted_numbers(numbers, s, skews, scales), clipped].sum()) for s in range(-4, 5)}
    shift, gain = best_shift(values.astype(np.int16), numbers, skews, nats)
    assert shift == min(costs, key=costs.__getitem__) == wider
    assert gain == pytest.approx(costs[0] - costs[shift], rel=1e-4, abs=1e-2)
    assert best_shift(values[:100].astype(np.int16), numbers[:100], skews, nats) == (0, 0.0)


def drawing(height: int = 192, width: int = 256) -> np.ndarray:
    """Flat areas and straight edges, far from any photograph."""
    rng, picture = np.random.default_rng(3), np.full((height, width, 3), 240, np.uint8)
    for _ in range(40):
        top, left = rng.integers(0, height), rng.integers(0, width)
        picture[top : top + rng.integers(1, 60), left : left + rng.integers(1, 60)] = rng.integers(0, 256, 3)
    return picture


def has_shifts(codec, data: bytes) -> bool:
    return bool(int.from_bytes(parse(data).tiles[0][4:7], "little") >> codec._coder.passes & 1)


def test_shifts_save_bytes_on_a_drawing_and_change_no_decoder(codec, monkeypatch):
    data = codec.compress(drawing(), 30)
    assert has_shifts(codec, data)
    shown = codec.decompress(data).pixels
    monkeypatch.setattr(pyramid, "best_shift", lambda *_: (0, 0.0))
    plain = codec.compress(drawing(), 30)
    assert not has_shifts(codec, plain)
    assert len(data) < len(plain)
    assert np.array_equal(codec.decompress(data).pixels, shown)  # a decoder chooses nothing
    assert psnr(drawing(), shown) > psnr(drawing(), codec.decompress(plain).pixels) - 0.3


def test_a_small_picture_tells_no_shifts(codec):
    assert not has_shifts(codec, codec.compress(photograph(24, 20, 0), 50))
