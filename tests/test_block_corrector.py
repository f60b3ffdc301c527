"""The corrector of decoded pixels: what it sees, what it may say."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from rdae.networks.block_corrector import BLOCK, SAMPLES, BlockCorrector, contrast
from rdae.networks.bytes import SIGNED_MAX


def blocks(seed: int, rows: int = 6, columns: int = 5) -> torch.Tensor:
    """Eighths, so that sums and means of 16 are exact."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-40, 40, (2, SAMPLES, rows, columns), generator=generator) / 8


def scattered(told: int = 12, planes: int = 4) -> BlockCorrector:
    torch.manual_seed(0)
    corrector = BlockCorrector(told, planes, width=8, blocks=1)
    torch.nn.init.normal_(corrector.write.weight, 0, 0.1)
    return corrector


def test_contrast_is_the_difference_to_the_mean_of_nine_blocks() -> None:
    x = blocks(1)
    seen = contrast(x)
    for colour, row, column in ((0, 2, 2), (1, 3, 1), (2, 1, 3)):
        near = x[0, 16 * colour : 16 * colour + 16, row - 1 : row + 2, column - 1 : column + 2]
        for pixel in (0, 7, 15):
            channel = BLOCK**2 * colour + pixel
            wanted = 16 * (x[0, channel, row, column] - near.mean())
            torch.testing.assert_close(seen[0, channel, row, column], wanted)


def test_contrast_at_a_corner_is_to_the_mean_of_the_four_blocks_there() -> None:
    x = blocks(2)
    wanted = 16 * (x[1, 20, 0, 0] - x[1, 16:32, :2, :2].mean())
    torch.testing.assert_close(contrast(x)[1, 20, 0, 0], wanted)


def test_a_brighter_picture_is_corrected_alike() -> None:
    x, told = blocks(3), torch.randint(0, 256, (2, 12, 6, 5)).float()
    corrector = scattered()
    brighter = x + 64.0  # a whole number of steps, exact in float32
    with torch.no_grad():
        found = corrector(contrast(x), told)
        assert found.abs().max() > 0
        assert torch.equal(
            corrector(contrast(brighter).round(decimals=3), told), corrector(contrast(x).round(decimals=3), told)
        )


def test_corrections_are_whole_and_bounded() -> None:
    corrector = scattered()
    with torch.no_grad():
        corrector.write.weight *= 100
        found = corrector(100 * contrast(blocks(4)), torch.full((2, 12, 6, 5), 255.0))
    assert torch.equal(found, found.round())
    assert found.abs().max() in (SIGNED_MAX, SIGNED_MAX + 1)


def test_a_new_corrector_changes_nothing() -> None:
    found = BlockCorrector(12, 4, width=8)(contrast(blocks(5)), torch.zeros(2, 12, 6, 5))
    assert not found.any()
