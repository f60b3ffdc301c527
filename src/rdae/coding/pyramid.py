"""The coding of one tile of a wavelet pyramid, in the order that `pyramid_order.py` lays out.

`priors/subbands.py` trains what this file runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import numpy as np

from rdae.coding.blending import NOTHING, Blending, unpack_blend
from rdae.coding.coder import SYMBOL_LIMIT, Run, fitting
from rdae.coding.low_band import LowBandTables, walk_low
from rdae.coding.model import TABLES_MAX, Model
from rdae.coding.network_bytes import SIGNED_ZERO, NetworkBytes
from rdae.coding.pyramid_order import BANDS, COLOURS, groups_of_level, network_of_level
from rdae.coding.rangecoder import CoderTables, SymbolReader, SymbolSource, SymbolWriter
from rdae.coding.scale_shifts import (
    Members,
    best_shift,
    pack_shifts,
    packed_size,
    shifted_numbers,
    unpack_shifts,
)
from rdae.coding.tables import SKIPPED_MAX, Tables
from rdae.errors import FormatError, ModelError, TableError

__all__ = ["COARSE", "LOWEST", "REANALYSIS", "PyramidCoder", "PyramidTables", "seen_samples"]

MARGIN = 2  # sub-band samples beyond the picture's edge that its pixels still depend on
RDO_CLIP = 64  # larger symbols are rounded to the nearest
COARSE = "coarse"  # the graph of what the synthesis makes of all symbols but the finest
REANALYSIS = "reanalysis"  # the graph of a second look, see `second_look.py`
# after a second look errors weigh 4/3 of what they do in training, for latents then say what the decoder fills in
# itself; at quality 0 as in training, so that it reaches as low a rate
LOWEST = 3 / 4
LOW_LEVELS = 20  # of quality, below which a model's rounding may lean to lower rates
LEVELS_MAX = 10  # tiles are padded to 2048 pixels then


class PyramidTables(NamedTuple):
    """The integers of a pyramid codec."""

    details: Tables  # number skews * index + |skew|; a negative skew mirrors the symbol
    skews: int  # magnitudes of skew
    low: LowBandTables
    levels: int
    certain: int = 0  # largest scale index of near-certain zeros

    @property
    def scales(self) -> int:
        """Number of scale indices."""
        return len(self.details) // self.skews


class PyramidCoder:
    """Codes the latents of one tile.

    Args:
        tables: integer tables of the model.
        numbers: what its networks read and write.
        run: `(graph name, inputs) -> outputs`, networks of the codec file.
        distortion_weight: cost of squared error, in nats per squared step, when the encoder rounds.
        lowest: share of that weight at quality 0, rising to all of it at quality 10.
        blending: of what its synthesis can blend, if it can.
        beside: like `run`, for a graph that runs while another thread runs others; None where there is one core.
    """

    def __init__(
        self,
        tables: PyramidTables,
        numbers: NetworkBytes,
        run: Run,
        distortion_weight: float,
        lowest: float = 1.0,
        blending: Blending | None = None,
        beside: Run | None = None,
    ) -> None:
        self.tables, self._numbers, self._run, self._beside = tables, numbers, run, beside
        levels = tables.levels
        self.unit = 2 ** (levels + 1)
        self.latents = {"low": 2**levels} | {f"detail{level}": 2 ** (level + 1) for level in range(levels, 0, -1)}
        self._weight, self._lowest, self.blending = distortion_weight, lowest, blending
        self._details, self._low = CoderTables(tables.details), CoderTables(tables.low.tables)
        self._nats: np.ndarray | None = None

    @classmethod
    def of(cls, model: Model) -> PyramidCoder:
        """The coder of a codec file.

        Raises:
            ModelError: the file lacks something, or its numbers do not fit together.
        """
        details, low = model.tables("details"), LowBandTables.of(model)
        levels, weight = model.whole("levels", 1, LEVELS_MAX), model.weight("distortion_weight")
        skews, numbers = model.whole("skews", 1, SIGNED_ZERO), NetworkBytes.of(model, levels)
        if not 0 < len(details) <= TABLES_MAX or len(details) % skews:
            raise ModelError(f"Model {model.name!r} names tables that it does not hold. Fetch the codec file again.")
        if not model.has(f"graph.{COARSE}"):
            raise ModelError(
                f"Model {model.name!r} has no array 'graph.{COARSE}': an earlier build of rdae exported it, or it is "
                "damaged. Export it again, or fetch it again."
            )
        certain = model.whole("certain", 0, SIGNED_ZERO - 1) if "certain" in model.card else 0
        tables = PyramidTables(details, skews, low, levels, certain)
        lowest = LOWEST if model.has(f"graph.{REANALYSIS}") else 1.0
        beside = partial(model.run, alone=False) if model.cores > 1 else None
        return cls(tables, numbers, model.run, weight, lowest, Blending.of(model), beside)

    def synthesis_inputs(self, symbols: list[np.ndarray], level: int) -> dict[str, np.ndarray]:
        """Inputs of the synthesis graph: what `coarse` makes of all symbols but the finest, and these."""
        seen = [self._numbers.symbols(q) for q in symbols[-1 - self._numbers.corrected :]]
        return self._coarse(_Walked(symbols[:-1], seen[:-1]), level, self._run) | self._finest(symbols, seen, level)

    def _finest(self, symbols: list[np.ndarray], seen: list[np.ndarray], level: int) -> dict[str, np.ndarray]:
        """The other inputs of the synthesis graph."""
        name = list(self.latents)[-1]
        return {name: symbols[-1][None], f"g.{name}": seen[-1]} | self._numbers.quality(level)

    def _coarse(self, known: _Walked, level: int, run: Run) -> dict[str, np.ndarray]:
        """Inputs of the synthesis graph that need all symbols but the finest; `known` are those."""
        names, corrected = list(self.latents)[:-1], self._numbers.corrected
        inputs = {name: q[None] for name, q in zip(names, known.symbols, strict=True)} | self._numbers.quality(level)
        for name, g in zip(names[-corrected:], known.seen[-corrected:], strict=True):
            inputs[f"g.{name}"] = g
        return dict(zip(("handed", "half"), _outputs(run, COARSE, inputs, 2), strict=True))

    def maps(self, blend: np.ndarray) -> dict[str, np.ndarray]:
        """What the synthesis graph is told of a blend, if it can blend."""
        return {} if self.blending is None else {"maps": self.blending.maps(blend)}

    def shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """Shapes of the symbols of a tile of `height x width` pixels (multiples of `2**(levels + 1)`)."""
        levels = self.tables.levels
        details = [(4 * BANDS, height >> level + 1, width >> level + 1) for level in range(levels, 0, -1)]
        return [(COLOURS, height >> levels, width >> levels), *details]

    def weight(self, level: int) -> float:
        """What a squared step weighs, in nats, when symbols of a quality level are rounded."""
        return self._weight * (self._lowest + (1 - self._lowest) * min(1.0, level / LOW_LEVELS))

    def encode(
        self,
        latents: list[np.ndarray],
        level: int,
        visible: tuple[int, int],
        *,
        blend: np.ndarray = NOTHING,
        chosen: bool = False,
    ) -> tuple[bytes, list[np.ndarray]]:
        """Rounds and codes the latents of a tile.

        Args:
            latents: float32, shapes as `shapes` says, in units of the step.
            level: quality level.
            visible: height and width of the tile before padding.
            blend: to be told to the synthesis.
            chosen: the latents are whole numbers, to be sent as they are.

        Returns:
            `(stream, symbols)`; the first bytes of the stream say which passes leave out near-certain zeros.
        """
        writer = _Encoding(self, latents, self.weight(level), chosen)
        symbols = self._walk(writer, level, latents[0].shape[1:], visible).symbols
        return writer.finish(blend), symbols

    def decode(self, stream: bytes, level: int, size: tuple[int, int], visible: tuple[int, int]) -> list[np.ndarray]:
        """Symbols of a tile of `size` pixels (padded), of which `visible` are seen.

        Raises:
            FormatError: the stream is damaged.
        """
        head = self._head(stream)
        return self._read(SymbolReader(head.rest), head.passes, level, size, visible).symbols

    def decode_ahead(
        self, stream: bytes, level: int, size: tuple[int, int], visible: tuple[int, int]
    ) -> tuple[list[np.ndarray], dict[str, np.ndarray] | None]:
        """Symbols as `decode` gives them, and what `synthesis_inputs` makes of them: most of it another thread works
        out while the finest symbols are read, which leaves a core idle. None where no other thread is to be had.

        Raises:
            FormatError: the stream is damaged.
            ModelError: the parts of the codec file do not fit together.
        """
        beside = self._beside
        if beside is None:
            return self.decode(stream, level, size, visible), None
        begun: list[Future[dict[str, np.ndarray]]] = []
        with ThreadPoolExecutor(1) as other:

            def ahead(so_far: _Walked) -> None:
                with suppress(RuntimeError):  # the system has no more threads, or the interpreter is shutting down
                    begun.append(other.submit(self._coarse, so_far, level, beside))

            head = self._head(stream)
            symbols, seen = self._read(SymbolReader(head.rest), head.passes, level, size, visible, ahead)
        if not begun:
            return symbols, None
        return symbols, begun[0].result() | self._finest(symbols, seen, level)

    def blend(self, stream: bytes) -> np.ndarray:
        """What a stream tells the synthesis to blend.

        Raises:
            FormatError: the stream is damaged.
        """
        return self._head(stream).blend

    def _head(self, stream: bytes) -> _Head:
        head, rest = stream[: self.flag_bytes], stream[self.flag_bytes :]
        flags = int.from_bytes(head, "little")
        if len(head) < self.flag_bytes or flags >> self.passes + self._options:
            raise FormatError(f"A tile begins with {head.hex()}, which no encoder writes. The file is damaged.")
        shifts, blend = [0] * self.passes, NOTHING
        if flags >> self.passes & 1:
            packed, rest = rest[: packed_size(self.passes)], rest[packed_size(self.passes) :]
            shifts = unpack_shifts(packed, self.passes)
        if flags >> self.passes + 1:
            assert self.blending is not None
            blend, rest = unpack_blend(rest[: self.blending.ways], self.blending.ways), rest[self.blending.ways :]
        return _Head([(bool(flags >> k & 1), shift) for k, shift in enumerate(shifts)], blend, rest)

    def sample(
        self, source: SymbolSource, level: int, size: tuple[int, int], visible: tuple[int, int]
    ) -> list[np.ndarray]:
        """Symbols of a tile, every one from a source: near-certain zeros too, none of which is left out.

        Raises:
            FormatError: a symbol is larger than any that is kept.
        """
        return self._read(source, [(False, 0)] * self.passes, level, size, visible).symbols

    @property
    def passes(self) -> int:
        """Passes of all levels."""
        return sum(len(groups_of_level(level)) for level in range(1, self.tables.levels + 1))

    @property
    def flag_bytes(self) -> int:
        """Bytes at the head of a stream: one bit a pass, one that says whether shifts of scales follow, and where the
        synthesis can blend one that says whether a blend does."""
        return (self.passes + self._options + 7) // 8

    @property
    def _options(self) -> int:
        return 1 if self.blending is None else 2

    def nats(self) -> np.ndarray:
        """Code lengths of detail symbols in nats, `(tables, 2 * RDO_CLIP + 1)`."""
        if self._nats is None:
            self._nats = self.tables.details.bits(RDO_CLIP) * np.float32(np.log(2))
        return self._nats

    def _read(
        self,
        source: SymbolSource,
        passes: list[tuple[bool, int]],
        level: int,
        size: tuple[int, int],
        visible: tuple[int, int],
        ahead: Callable[[_Walked], None] | None = None,
    ) -> _Walked:
        low = size[0] >> self.tables.levels, size[1] >> self.tables.levels
        return self._walk(_Decoding(self, source, passes), level, low, visible, ahead)

    def _walk(
        self,
        side: _Encoding | _Decoding,
        quality_level: int,
        low_size: tuple[int, ...],
        visible: tuple[int, int],
        ahead: Callable[[_Walked], None] | None = None,
    ) -> _Walked:
        """A tile, folded, `shapes` says how: the low band of `low_size`, then level after level.

        What is known so far goes through the networks, which name the tables of the next group; `side` reads or
        writes it. `ahead` is told what is known before the finest level.
        """
        low, residual = walk_low(side, self.tables.low, low_size)
        symbols = [low]
        seen_bytes: list[np.ndarray] = []
        state = None
        for level in range(self.tables.levels, 0, -1):
            if level == 1 and ahead is not None:
                ahead(_Walked(list(symbols), list(seen_bytes)))
            net = network_of_level(level)
            told = self._numbers.told(level, quality_level)
            if state is None:
                (h,) = _outputs(self._run, "low", {"residual": self._numbers.symbols(_fold(residual)), **told}, 1)
            else:
                (h,) = _outputs(self._run, f"entry{net}", {"state": state, "parents": seen_bytes[-1], **told}, 1)
            h, named = _outputs(self._run, f"level{net}.start", {"h": h}, 2)
            height, width = (side << self.tables.levels >> level + 1 for side in low_size)
            here = np.zeros((4 * BANDS, height, width), dtype=np.int16)
            # bytes of the finest level are of use to the synthesis only
            kept = np.zeros((2, *here.shape), dtype=np.uint8) if level > 1 or ahead is not None else None
            seen = seen_samples(level, (height, width), visible)
            groups = groups_of_level(level)
            for k, group in enumerate(groups):
                q = side.group(
                    level, group, self._members(named, (len(group), height, width)), seen[[c % 4 for c in group]]
                )
                here[list(group)] = q
                last = k + 1 == len(groups)
                if kept is None and last:
                    break
                g = self._numbers.symbols(q)
                if kept is not None:
                    kept[:, list(group)] = g.reshape(2, *q.shape)
                if not (last and level == 1):
                    inputs = {"h": h, "g": g}
                    if last:
                        (h,) = _outputs(self._run, f"level{net}.finish", inputs, 1)
                    else:
                        h, named = _outputs(self._run, f"level{net}.pass{k + 1}", inputs, 2)
            state = h
            symbols.append(here)
            if kept is not None:
                seen_bytes.append(kept.reshape(1, -1, height, width))
        return _Walked(symbols, seen_bytes)

    def _members(self, named: np.ndarray, shape: tuple[int, int, int]) -> Members:
        """The densities that a network named for a group: scale indices, then skews."""
        count, *sides = shape
        if named.shape != (1, 2 * count, *sides) or named.dtype != np.uint8:
            raise ModelError(
                f"A network answers {named.shape} {named.dtype} where {(1, 2 * count, *sides)} uint8 are due: the "
                "parts of the codec file do not fit together. Fetch it again."
            )
        index, skew = self._numbers.signed(named[0]).reshape(2, *shape)
        skews, scales = self.tables.skews, self.tables.scales
        index, skew = np.clip(index, 0, min(scales, SIGNED_ZERO) - 1), np.clip(skew, 1 - skews, skews - 1)
        return Members(index, skew, skews, scales)


def _outputs(run: Run, graph: str, inputs: dict[str, np.ndarray], count: int) -> list[np.ndarray]:
    """So many outputs of a graph.

    Raises:
        ModelError: it has more or fewer, or fails.
    """
    outputs = run(graph, inputs)
    if len(outputs) != count:
        raise ModelError(f"The graph {graph!r} has {len(outputs)} outputs, not {count}. Fetch the codec file again.")
    return outputs


def _fold(x: np.ndarray) -> np.ndarray:
    """Space to depth: `(C, 2H, 2W)` to `(4C, H, W)`."""
    c, h, w = x.shape
    return x.reshape(c, h // 2, 2, w // 2, 2).transpose(0, 2, 4, 1, 3).reshape(4 * c, h // 2, w // 2)


def seen_samples(level: int, folded: tuple[int, int], visible: tuple[int, int]) -> np.ndarray:
    """Which samples of a level's sub-bands the picture depends on, `(4, H, W)` by phase; others are zero, not coded."""
    rows, columns = ((-(-side >> level)) + MARGIN for side in visible)
    row = 2 * np.arange(folded[0])[None, :, None] + np.array([0, 0, 1, 1])[:, None, None]
    column = 2 * np.arange(folded[1])[None, None, :] + np.array([0, 1, 0, 1])[:, None, None]
    return (row < rows) & (column < columns)


def _kept(x: np.ndarray) -> np.ndarray:
    """Rounded latents as they are, refused where one is no symbol."""
    if not (x.max(initial=0) <= SYMBOL_LIMIT and x.min(initial=0) >= -SYMBOL_LIMIT):  # NaN is refused too
        raise TableError(
            f"A latent lies past {SYMBOL_LIMIT}, the largest symbol that is kept, or is no number. "
            "Use a lower quality, or check the model's weights for infinities."
        )
    return x


class _Head(NamedTuple):
    """What stands before the symbols of a tile."""

    passes: list[tuple[bool, int]]  # of each: are near-certain zeros left out, and the shift of its scales
    blend: np.ndarray
    rest: bytes


class _Walked(NamedTuple):
    """What is known of a tile, coarse to fine."""

    symbols: list[np.ndarray]  # the low band first
    seen: list[np.ndarray]  # of each level, what networks of bytes read of its symbols


class _Pass(NamedTuple):
    """The symbols of a pass, to be written when all are known."""

    left_out: bool  # are the near-certain zeros?
    values: np.ndarray
    numbers: np.ndarray  # of tables, without a shift
    shift: int = 0  # the best one
    gain: float = 0.0  # of it, nats


class _Encoding:
    """Rounds each group with its tables at hand; writes them all when the shifts are known."""

    misfit = TableError  # what a symbol beyond int16 means here

    def __init__(self, coder: PyramidCoder, latents: list[np.ndarray], weight: float, chosen: bool) -> None:
        self._coder, self._latents, self._weight, self._chosen = coder, latents, weight, chosen
        self._low = _kept(np.floor(latents[0] + np.float32(0.5))).astype(np.int32)
        self._stream = SymbolWriter()
        self._passes: list[_Pass] = []

    def low(self, where: tuple, guess: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        residual = self._low[where] - guess
        self._stream.write(residual.ravel(), numbers.ravel(), self._coder._low)
        return residual

    def group(self, level: int, group: tuple[int, ...], members: Members, seen: np.ndarray) -> np.ndarray:
        z = self._latents[self._coder.tables.levels + 1 - level][list(group)]
        q, now = self._pass(_kept(z).astype(np.int16) if self._chosen else self._round(z, members), members, seen)
        shift, gain = best_shift(now.values, now.numbers, members.skews, self._coder.nats())
        if shift and not self._chosen:  # other tables, other costs
            q, now = self._pass(self._round(z, members, shift), members, seen)
        self._passes.append(now._replace(shift=shift, gain=gain))
        return q

    def _pass(self, q: np.ndarray, members: Members, seen: np.ndarray) -> tuple[np.ndarray, _Pass]:
        """Symbols without those that are not sent, and the others as they are sent without a shift."""
        q[~seen] = 0
        certain = members.scale <= self._coder.tables.certain
        left_out = bool((np.abs(q[certain]) <= SKIPPED_MAX).all())
        if left_out:
            q[certain] = 0
            seen = seen & ~certain
        at = np.flatnonzero(seen)
        numbers, sign = members.at(at)
        return q, _Pass(left_out, q.ravel()[at] * sign, numbers)

    def finish(self, blend: np.ndarray) -> bytes:
        """The stream of the tile, with shifts if they save more than it takes to tell them, and a blend if any."""
        coder, skews, scales = self._coder, self._coder.tables.skews, self._coder.tables.scales
        shifted = sum(one.gain for one in self._passes) > 8 * math.log(2) * packed_size(coder.passes)
        flags = sum(1 << k for k, one in enumerate(self._passes) if one.left_out)
        flags += (shifted << coder.passes) + ((len(blend) > 0) << coder.passes + 1)
        for one in self._passes:
            numbers = shifted_numbers(one.numbers, one.shift, skews, scales) if shifted else one.numbers
            self._stream.write(one.values, numbers, coder._details)
        shifts = pack_shifts([one.shift for one in self._passes]) if shifted else b""
        return flags.to_bytes(coder.flag_bytes, "little") + shifts + blend.tobytes() + self._stream.finish()

    def _round(self, z: np.ndarray, members: Members, shift: int = 0) -> np.ndarray:
        """To the nearest integer, or the next toward zero where that costs less in all."""
        nearest = _kept(np.floor(np.abs(z) + np.float32(0.5)))
        near = np.flatnonzero((nearest > 0) & (nearest <= RDO_CLIP))
        numbers, sign = members.at(near, shift)
        signed, n = z.ravel()[near], nearest.ravel()[near].astype(np.int32)
        side = np.where(signed < 0, -sign, sign)  # of zero in its table
        nats = self._coder.nats().ravel()
        column = numbers * np.int32(2 * RDO_CLIP + 1) + RDO_CLIP + side * n
        gain = nats[column] - nats[column - side]
        short = n - np.abs(signed)  # (|z| - n + 1)**2 - (|z| - n)**2 = 1 - 2 (n - |z|)
        q = (np.sign(z) * nearest).astype(np.int16)
        down = near[self._weight * (1 - 2 * short) < gain]
        q.ravel()[down] -= np.sign(q.ravel()[down])
        return q


class _Decoding:
    """Reads each group."""

    misfit = FormatError

    def __init__(self, coder: PyramidCoder, source: SymbolSource, passes: list[tuple[bool, int]]) -> None:
        self._coder, self._source = coder, source
        self._passes = iter(passes)  # of each: are near-certain zeros left out, and the shift of its scales

    def low(self, where: tuple, guess: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        return self._source.read(numbers.ravel(), self._coder._low).reshape(guess.shape)

    def group(self, level: int, group: tuple[int, ...], members: Members, seen: np.ndarray) -> np.ndarray:
        left_out, shift = next(self._passes)
        if left_out:
            seen = seen & (members.scale > self._coder.tables.certain)
        at = np.flatnonzero(seen)
        numbers, sign = members.at(at, shift)
        values = fitting(self._source.read(numbers, self._coder._details), FormatError)
        q = np.zeros(members.scale.shape, dtype=np.int16)
        q.ravel()[at] = values * sign
        return q
