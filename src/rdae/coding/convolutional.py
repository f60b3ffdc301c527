"""Coders of the convolutional codecs: one latent, three ways to code it.

`FactorisedCoder` has a table per channel and quality, `HyperpriorCoder` sends a summary first and computes from it
which table each symbol takes, `UniversalCoder` needs no tables. Samples that lie wholly outside the picture
are zero and not coded. docs/format.md describes the streams.
"""

from __future__ import annotations

import numpy as np

from rdae.coding.blending import NOTHING
from rdae.coding.coder import SYMBOL_LIMIT, Run, fitting
from rdae.coding.model import Model
from rdae.coding.rangecoder import CoderTables, SymbolReader, SymbolSource, SymbolWriter
from rdae.coding.tables import SKIPPED_MAX, Tables
from rdae.coding.universal import decode_integers, encode_integers
from rdae.errors import FormatError, ModelError, TableError

__all__ = ["MEAN_UNIT", "SKIPPED_MAX", "FactorisedCoder", "HyperpriorCoder", "UniversalCoder"]

MEAN_UNIT = 16  # means, and the latents of a hyperprior, are counted in sixteenths of a step
BLOCK_MAX, LEVELS_MAX, CHANNELS_MAX = 256, 6, 1 << 16


def _numbers(model: Model, name: str, tables: Tables) -> np.ndarray:
    """Table numbers of each quality level and channel, `(levels, channels)`."""
    model.rows(name)
    return model.table_numbers(name, tables)


def _fitting_outputs(graph: str, outputs: list, shapes: tuple[tuple[int, ...], ...]) -> list[np.ndarray]:
    """Outputs of a graph for one example, without the axis of the batch; refused where they are of other shapes."""
    found = [np.shape(output) for output in outputs]
    if found != [(1, *shape) for shape in shapes]:
        raise ModelError(
            f"The graph {graph!r} gives {found} where {shapes} is due: the parts of the codec file do not fit "
            "together. Fetch it again."
        )
    return [np.asarray(output)[0] for output in outputs]


def _rounded(x: np.ndarray) -> np.ndarray:
    """`floor(x + 1/2)` as int64."""
    q = np.floor(x + np.float32(0.5))
    if not np.abs(q).max(initial=0) <= SYMBOL_LIMIT:  # NaN is refused too
        raise TableError(
            f"A latent reaches {float(np.abs(q).max())}, past the {SYMBOL_LIMIT} that a symbol can hold. "
            "Use a lower quality, or check the model's weights for infinities."
        )
    return q.astype(np.int64)


class _LatentCoder:
    """What the three coders share: the geometry of one latent.

    Args:
        block: pixels per latent sample along a side.
        channels: of the latent.
        unit: tiles are padded to multiples of so many pixels.
    """

    def __init__(self, block: int, channels: int, unit: int) -> None:
        self.block, self.channels, self.unit = block, channels, unit
        self.latents = {"z": block}

    def shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """Shape of the symbols of `height x width` pixels, multiples of `unit`."""
        return [(self.channels, height // self.block, width // self.block)]

    def synthesis_inputs(self, symbols: list[np.ndarray], level: int) -> dict[str, np.ndarray]:
        """The latent of a window, in units of the step."""
        return {"z": symbols[0][None].astype(np.float32)}

    def blend(self, stream: bytes) -> np.ndarray:
        """Nothing: this synthesis blends nothing."""
        return NOTHING

    def maps(self, blend: np.ndarray) -> dict[str, np.ndarray]:
        """No input."""
        return {}

    def _seen(self, visible: tuple[int, int]) -> tuple[slice, slice, slice]:
        rows, columns = (slice(0, -(-side // self.block)) for side in visible)
        return slice(None), rows, columns

    def _filled(self, symbols: np.ndarray, size: tuple[int, int], visible: tuple[int, int]) -> list[np.ndarray]:
        """Symbols that are seen, with zeros around them."""
        whole = np.zeros(self.shapes(*size)[0], dtype=np.int16)
        whole[self._seen(visible)] = symbols
        return [whole]

    def _seen_shape(self, size: tuple[int, int], visible: tuple[int, int]) -> tuple[int, int, int]:
        return np.broadcast_to(np.int16(0), self.shapes(*size)[0])[self._seen(visible)].shape  # type: ignore[return-value]

    def _size(self, latents: list[np.ndarray]) -> tuple[int, int]:
        _, rows, columns = latents[0].shape
        return rows * self.block, columns * self.block


class FactorisedCoder(_LatentCoder):
    """A table for every channel and quality level; a stream is the range coder's.

    Args:
        tables: all tables.
        numbers: of the tables, `(quality levels, channels)`.
        block: pixels per latent sample along a side.
    """

    def __init__(self, tables: Tables, numbers: np.ndarray, block: int) -> None:
        super().__init__(block, numbers.shape[1], block)
        self._tables, self._number = CoderTables(tables), numbers

    @classmethod
    def of(cls, model: Model) -> FactorisedCoder:
        """The coder of a codec file.

        Raises:
            ModelError: the file lacks something, or its numbers do not fit together.
        """
        tables = model.tables("latent")
        return cls(tables, _numbers(model, "latent.number", tables), model.whole("block", 1, BLOCK_MAX))

    def encode(self, latents: list[np.ndarray], level: int, visible: tuple[int, int]) -> tuple[bytes, list[np.ndarray]]:
        """Rounds and codes the latent of a tile, `(channels, H, W)` float32.

        Raises:
            TableError: a latent is too large, or not finite.
        """
        q = _rounded(latents[0][self._seen(visible)])
        writer = SymbolWriter()
        writer.write(q.ravel(), self._spread(level, q.shape), self._tables)
        return writer.finish(), self._filled(q, self._size(latents), visible)

    def decode(self, stream: bytes, level: int, size: tuple[int, int], visible: tuple[int, int]) -> list[np.ndarray]:
        """Symbols of a tile of `size` pixels, of which `visible` are seen.

        Raises:
            FormatError: the stream is damaged.
        """
        return self.sample(SymbolReader(stream), level, size, visible)

    def sample(
        self, source: SymbolSource, level: int, size: tuple[int, int], visible: tuple[int, int]
    ) -> list[np.ndarray]:
        """Symbols of a tile, every one from a source.

        Raises:
            FormatError: a symbol is larger than any that is kept.
        """
        shape = self._seen_shape(size, visible)
        q = source.read(self._spread(level, shape), self._tables).reshape(shape)
        return self._filled(fitting(q, FormatError), size, visible)

    def _spread(self, level: int, shape: tuple[int, ...]) -> np.ndarray:
        return np.broadcast_to(self._number[level][:, None, None], shape).ravel()


class HyperpriorCoder(_LatentCoder):
    """A summary first, then the latent with tables and means that an exact network reads from it.

    Symbols handed to the caller are the latent in sixteenths of a step, `16 * symbol + mean`. A stream begins with a
    byte that says whether symbols of table 0, all but certain zeros, are left out; then the range coder's words: the
    summary, one call, and the latent, one call.

    Args:
        latent, summary: tables.
        numbers: table of each channel of the summary, `(quality levels, channels)`.
        told: `(bias, shift)` of each quality level, what the exact network is told of it.
        run: `(graph name, inputs) -> outputs`.
        block: pixels per latent sample along a side.
        levels: the summary is coarser by `2**levels`.
    """

    def __init__(
        self,
        latent: Tables,
        summary: Tables,
        numbers: np.ndarray,
        told: tuple[np.ndarray, np.ndarray],
        run: Run,
        block: int,
        levels: int,
    ) -> None:
        super().__init__(block, told[1].shape[1], block << levels)
        self._latent, self._summary, self._number = CoderTables(latent), CoderTables(summary), numbers
        self._told, self._run, self._count = told, run, len(latent)

    @classmethod
    def of(cls, model: Model) -> HyperpriorCoder:
        """The coder of a codec file.

        Raises:
            ModelError: the file lacks something, or its numbers do not fit together.
        """
        latent, summary = model.tables("latent"), model.tables("summary")
        numbers = _numbers(model, "summary.number", summary)
        told = model.rows("bias"), model.rows("shift")
        block, levels = model.whole("block", 1, BLOCK_MAX), model.whole("levels", 1, LEVELS_MAX)
        return cls(latent, summary, numbers, told, model.run, block, levels)

    def synthesis_inputs(self, symbols: list[np.ndarray], level: int) -> dict[str, np.ndarray]:
        """The latent of a window, in units of the step."""
        return {"z": symbols[0][None].astype(np.float32) / np.float32(MEAN_UNIT)}

    def encode(self, latents: list[np.ndarray], level: int, visible: tuple[int, int]) -> tuple[bytes, list[np.ndarray]]:
        """Rounds and codes the latent of a tile, `(channels, H, W)` float32.

        Raises:
            TableError: a latent is too large, or not finite.
        """
        size = self._size(latents)
        outputs = self._run("hyper_analysis", {"z": np.ascontiguousarray(latents[0][None])})
        (w,) = _fitting_outputs("hyper_analysis", outputs, (self._summary_shape(size),))
        w = _rounded(w[self._seen_summary(size, visible)])
        seen = self._seen(visible)
        numbers, means = self._tables_and_means(w, level, size, seen)
        q = _rounded(latents[0][seen] - means.astype(np.float32) / np.float32(MEAN_UNIT))
        certain = numbers == 0
        skip = int(np.abs(q[certain]).max(initial=0)) <= SKIPPED_MAX
        coded = ~certain if skip else np.ones_like(certain)
        q[~coded] = 0
        writer = SymbolWriter()
        writer.write(w.ravel(), self._spread(level, w.shape), self._summary)
        writer.write(q[coded], numbers[coded], self._latent)
        symbols = fitting(MEAN_UNIT * q + means, TableError)
        return bytes([skip]) + writer.finish(), self._filled(symbols, size, visible)

    def decode(self, stream: bytes, level: int, size: tuple[int, int], visible: tuple[int, int]) -> list[np.ndarray]:
        """Symbols of a tile of `size` pixels, of which `visible` are seen.

        Raises:
            FormatError: the stream is damaged.
        """
        if stream[:1] not in (b"\x00", b"\x01"):
            raise FormatError(f"A stream begins with {stream[:1]!r}, not 0 or 1. The file is damaged: copy it again.")
        return self._read(SymbolReader(stream[1:]), bool(stream[0]), level, size, visible)

    def sample(
        self, source: SymbolSource, level: int, size: tuple[int, int], visible: tuple[int, int]
    ) -> list[np.ndarray]:
        """Symbols of a tile, every one from a source: near-certain zeros too, none of which is left out.

        Raises:
            FormatError: a symbol is larger than any that is kept.
        """
        return self._read(source, False, level, size, visible)

    def _read(
        self, source: SymbolSource, skip: bool, level: int, size: tuple[int, int], visible: tuple[int, int]
    ) -> list[np.ndarray]:
        shape = np.broadcast_to(np.int16(0), self._summary_shape(size))[self._seen_summary(size, visible)].shape
        w = source.read(self._spread(level, shape), self._summary).reshape(shape)
        numbers, means = self._tables_and_means(w, level, size, self._seen(visible))
        coded = numbers != 0 if skip else np.ones(numbers.shape, dtype=bool)
        q = np.zeros(numbers.shape, dtype=np.int64)
        q[coded] = source.read(numbers[coded], self._latent)
        return self._filled(fitting(MEAN_UNIT * q + means, FormatError), size, visible)

    def _tables_and_means(
        self, w: np.ndarray, level: int, size: tuple[int, int], seen: tuple[slice, slice, slice]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Table number and mean in sixteenths of each symbol that is seen; what the networks' exactness is for."""
        whole = np.zeros((1, w.shape[0], size[0] // self.unit, size[1] // self.unit), dtype=np.float32)
        whole[0, :, : w.shape[1], : w.shape[2]] = w
        bias, shift = (rows[level][None, :, None, None].astype(np.float32) for rows in self._told)
        outputs = self._run("hyper_synthesis", {"w": whole, "bias": bias, "shift": shift})
        numbers, means = _fitting_outputs("hyper_synthesis", outputs, 2 * (self.shapes(*size)[0],))
        numbers = numbers[seen].astype(np.int64)
        if numbers.size and not (numbers.min() >= 0 and numbers.max() < self._count):
            raise ModelError("The hyperprior's network names a table that does not exist. Fetch the codec file again.")
        return numbers, means[seen].astype(np.int64)

    def _summary_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        return self._number.shape[1], size[0] // self.unit, size[1] // self.unit

    def _seen_summary(self, size: tuple[int, int], visible: tuple[int, int]) -> tuple[slice, slice, slice]:
        rows, columns = (slice(0, -(-side // self.unit)) for side in visible)
        return slice(None), rows, columns

    def _spread(self, level: int, shape: tuple[int, ...]) -> np.ndarray:
        return np.broadcast_to(self._number[level][:, None, None], shape).ravel()


class UniversalCoder(_LatentCoder):
    """The universal code of `coding.universal`: no tables, no probabilities; channel after channel, row after row.

    Args:
        block: pixels per latent sample along a side.
        channels: of the latent.
    """

    def __init__(self, block: int, channels: int) -> None:
        super().__init__(block, channels, block)

    @classmethod
    def of(cls, model: Model) -> UniversalCoder:
        """The coder of a codec file.

        Raises:
            ModelError: the card lacks block or channels.
        """
        return cls(model.whole("block", 1, BLOCK_MAX), model.whole("channels", 1, CHANNELS_MAX))

    def encode(self, latents: list[np.ndarray], level: int, visible: tuple[int, int]) -> tuple[bytes, list[np.ndarray]]:
        """Rounds and codes the latent of a tile, `(channels, H, W)` float32.

        Raises:
            TableError: a latent is too large, or not finite.
        """
        q = _rounded(latents[0][self._seen(visible)])
        return encode_integers(q), self._filled(q, self._size(latents), visible)

    def decode(self, stream: bytes, level: int, size: tuple[int, int], visible: tuple[int, int]) -> list[np.ndarray]:
        """Symbols of a tile of `size` pixels, of which `visible` are seen.

        Raises:
            FormatError: the stream is damaged.
        """
        shape = self._seen_shape(size, visible)
        q = decode_integers(stream, int(np.prod(shape))).reshape(shape)
        return self._filled(fitting(q, FormatError), size, visible)

    def sample(
        self, source: SymbolSource, level: int, size: tuple[int, int], visible: tuple[int, int]
    ) -> list[np.ndarray]:
        """Refuses: a code that suits every law stands for none.

        Raises:
            ModelError: always.
        """
        raise ModelError(
            "This codec has no probabilities to draw from: its coder 'universal' writes every channel and quality with "
            "one and the same code of the whole numbers. Sample from a codec with tables (coder pyramid, factorised or "
            "hyperprior)."
        )
