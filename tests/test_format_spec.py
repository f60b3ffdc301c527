"""A second decoder, written from docs/format.md and from nothing else.

It shares no code with `rdae.coding`: the range coder works on Python integers, the entropy networks run in float64
(where a sum that float32 could not hold would show), the file is taken apart by hand. What it must agree with is
what the package writes.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from safetensors.numpy import load as load_arrays

from rdae.coding.codec import Codec
from rdae.coding.model import pack_model, shipped_models, unpack_model
from rdae.coding.rangecoder import CoderTables, RangeEncoder, SymbolReader, SymbolWriter
from rdae.coding.tables import Tables, integer_table
from rdae.errors import FormatError

PAGE = Path(__file__).parents[1] / "docs" / "format.md"


# -- "The range decoder" and "From counts to intervals" ----------------------------------------------------------------


def intervals(counts: list[int]) -> list[int]:
    """Left ends of the symbols' intervals on 0 ... 2**24, and 2**24."""
    n, before, ends = len(counts), 0, []
    for k, count in enumerate(counts):
        ends.append(before * (2**24 - n) // 2**16 + k)
        before += count
    return [*ends, 2**24]


class SpecDecoder:
    def __init__(self, data: bytes) -> None:
        assert len(data) % 4 == 0
        self.words = [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]
        self.point = self.next_word() << 32 | self.next_word()  # point minus lower, of the specification
        self.range = 2**64 - 1

    def next_word(self) -> int:
        return self.words.pop(0) if self.words else 0

    def symbol(self, ends: list[int]) -> int:
        scale = self.range >> 24
        quantile = self.point // scale
        assert quantile < 2**24, "damaged"
        k = int(np.searchsorted(ends, quantile, side="right")) - 1
        self.point -= scale * ends[k]
        self.range = scale * (ends[k + 1] - ends[k])
        if self.range < 2**32:
            self.range <<= 32
            self.point = self.point << 32 | self.next_word()
        return k

    def bit(self) -> int:
        return self.symbol([0, 2**23, 2**24])


class SpecTables:
    def __init__(self, reach: np.ndarray, counts: np.ndarray) -> None:
        self.reach, self.ends, at = [int(r) for r in reach], [], 0
        for r in self.reach:
            own = [int(c) for c in counts[at : at + 2 * r + 2]]
            assert min(own) >= 1
            assert sum(own) == 2**16
            self.ends.append(intervals(own))
            at += 2 * r + 2
        assert at == len(counts)


def read_call(decoder: SpecDecoder, numbers: list[int], tables: SpecTables) -> list[int]:
    """One call: symbols ordered by table number, then their escapes."""
    order = sorted(range(len(numbers)), key=lambda i: numbers[i])
    values = {i: decoder.symbol(tables.ends[numbers[i]]) - tables.reach[numbers[i]] for i in order}
    for i in order:
        reach = tables.reach[numbers[i]]
        if values[i] > reach:
            negative, length = decoder.bit(), 1
            while decoder.bit():
                length += 1
                assert length <= 24
            beyond = 1
            for _ in range(length - 1):
                beyond = 2 * beyond + decoder.bit()
            values[i] = -(reach + beyond) if negative else reach + beyond
    return [values[i] for i in range(len(numbers))]


def random_tables(rng: np.random.Generator, number: int) -> Tables:
    reach = rng.integers(0, 60, number)
    counts = []
    for r in reach:
        mass = rng.gamma(rng.choice([0.01, 0.3, 5.0]), size=2 * r + 2) + 1e-12
        counts.append(integer_table(mass))
    return Tables(reach, np.concatenate(counts))


@pytest.mark.parametrize("seed", range(12))
def test_streams_decode_by_the_rules_of_the_page(seed):
    rng = np.random.default_rng(seed)
    tables = random_tables(rng, 9)
    coder = CoderTables(tables)
    writer, calls = SymbolWriter(), []
    for size in rng.integers(0, 400, 6):
        numbers = rng.integers(0, len(tables), size)
        spread = 10.0 ** rng.uniform(-1, 2)
        symbols = np.rint(rng.standard_t(2, size) * spread).clip(-(2**20), 2**20).astype(np.int32)
        writer.write(symbols, numbers, coder)
        calls.append((symbols, numbers))
    decoder, spec = SpecDecoder(writer.finish()), SpecTables(tables.reach, tables.counts)
    for symbols, numbers in calls:
        assert read_call(decoder, numbers.tolist(), spec) == symbols.tolist()


def test_long_runs_of_likely_symbols_decode_past_the_last_word():
    counts = np.array([1, 65533, 1, 1])  # -1, 0, 1, escape: 0.00007 bits a symbol
    writer = SymbolWriter()
    writer.write(np.zeros(5000, int), np.zeros(5000, int), CoderTables(Tables(np.array([1]), counts)))
    stream = writer.finish()
    assert len(stream) == 4
    assert read_call(SpecDecoder(stream), [0] * 5000, SpecTables(np.array([1]), counts)) == [0] * 5000


def test_every_interval_is_the_one_of_the_page():
    """The coder's own state after one symbol tells its interval."""
    scale = (2**64 - 1) >> 24
    for seed in range(3):
        tables = random_tables(np.random.default_rng(100 + seed), 6)
        coder = CoderTables(tables)
        for number in range(len(tables)):
            ends = intervals(tables[number].tolist())
            for k, (left, right) in enumerate(pairwise(ends)):
                encoder = RangeEncoder()
                encoder.encode(np.array([k], dtype=np.int32), coder[number])
                words, (lower, width) = encoder.pos()
                shift = 32 * words
                assert width == scale * (right - left) << shift
                assert lower == (scale * left << shift) % 2**64


def test_any_stream_gives_the_same_symbols_or_the_same_refusal():
    rng = np.random.default_rng(7)
    refused = 0
    for trial in range(200):
        tables = random_tables(rng, 3)
        words = rng.integers(0, 2**32, rng.integers(0, 12), dtype=np.uint64)
        if trial % 2:  # at the very end of the range lies the gap that no writer uses
            words[: 1 + trial % 3] = 2**32 - 1
        stream = words.astype("<u4").tobytes()
        numbers = rng.integers(0, 3, 40)
        try:
            ours = SymbolReader(stream).read(numbers, CoderTables(tables)).tolist()
        except FormatError:
            ours = None
        try:
            theirs = read_call(SpecDecoder(stream), numbers.tolist(), SpecTables(tables.reach, tables.counts))
        except AssertionError:
            theirs = None
        assert ours == theirs
        refused += ours is None
    assert 0 < refused < 200


def test_no_symbols_give_no_words():
    assert SymbolWriter().finish() == b""


# -- "The file" --------------------------------------------------------------------------------------------------------


class SpecFile:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        assert self.take(8) == bytes.fromhex("89 52 44 41 45 0D 0A 1A")
        start = self.at
        end = self.at + 1 + self.take(1)[0]
        self.version, self.colour, self.level = self.take(3)
        self.width, self.height = self.varint(), self.varint()
        self.model = self.take(8)
        assert self.at == end
        self.check(start)
        self.chunks: list[tuple[int, bytes]] = []
        while self.at < len(data):
            start = self.at
            tag = self.take(1)[0]
            self.chunks.append((tag, self.take(self.varint())))
            self.check(start)

    def take(self, n: int) -> bytes:
        assert self.at + n <= len(self.data)
        self.at += n
        return self.data[self.at - n : self.at]

    def varint(self) -> int:
        value = 0
        for k in range(5):
            byte = self.take(1)[0]
            value += (byte & 127) << 7 * k
            if byte < 128:
                return value
        raise AssertionError("a number of more than five bytes")

    def check(self, start: int) -> None:
        covered = self.data[start : self.at]
        assert zlib.crc32(covered) == struct.unpack("<I", self.take(4))[0]


# -- "The entropy networks" --------------------------------------------------------------------------------------------


def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, groups: int) -> np.ndarray:
    """A 1 x 1 or depthwise 3 x 3 convolution in float64, checked to fit float32."""
    if weight.shape[2] == 1:
        out = np.einsum("bchw,oc->bohw", x, weight[:, :, 0, 0])
    else:
        assert groups == x.shape[1]
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        h, w = x.shape[2:]
        places = [(i, j) for i in range(3) for j in range(3)]
        out = sum(padded[:, :, i : i + h, j : j + w] * weight[:, 0, i, j, None, None] for i, j in places)
    out = out + bias[:, None, None]
    assert (out == out.astype(np.float32)).all(), "float32 would have rounded"
    return out


def compand(q: np.ndarray) -> np.ndarray:
    """What the networks see of symbols, one at a time."""

    def one(n: int) -> int:
        return sum(factor * max(-limit, min(limit, n)) for factor, limit in ((8, 1), (4, 4), (2, 16), (1, 64)))

    return np.vectorize(one, otypes=[int])(q)


def half_octaves(x: int) -> int:
    """0, 1, 2, 3, 4 for numbers from 0, 1, 2, 3, 4, then 5 from 6, 6 from 8, 7 from 12, ... and 23 from 3072 on."""
    if x < 2:
        return x
    octave = x.bit_length() - 1
    return min(2 * octave + (2 * x >= 3 << octave), 23)


def by_sign(q: np.ndarray) -> np.ndarray:
    """Companded symbols as bytes."""
    seen = compand(q)
    return np.concatenate([np.maximum(seen, 0), np.maximum(-seen, 0)])


def byte_layer(x, weight, step, unit, zero, bias) -> np.ndarray:
    """A QLinearConv in whole numbers; the unit of its inputs is 1."""
    pad = weight.shape[2] // 2
    assert np.abs(weight).max(initial=0) <= 63
    h, w = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad))).astype(np.int64)
    places = [(i, j) for i in range(2 * pad + 1) for j in range(2 * pad + 1)]
    total = sum(np.einsum("bchw,oc->bohw", padded[:, :, i : i + h, j : j + w], weight[:, :, i, j].astype(np.int64))
                for i, j in places) + bias.astype(np.int64)[:, None, None]  # fmt: skip
    assert np.abs(total).max() < 2**24, "float32 would have rounded"
    power = step / unit
    assert (np.log2(power) == np.floor(np.log2(power))).all()
    return np.clip(np.rint(total * power[:, None, None]) + zero, 0, 255)


def to_space(x: np.ndarray) -> np.ndarray:
    b, c, h, w = x.shape
    out = np.empty((b, c // 4, 2 * h, 2 * w), x.dtype)
    for a1 in (0, 1):
        for a2 in (0, 1):
            out[:, :, a1::2, a2::2] = x[:, 2 * a1 + a2 :: 4]
    return out


def evaluate(graph: onnx.GraphProto, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Runs an entropy network in float64."""
    known = {i.name: numpy_helper.to_array(i).astype(np.float64) for i in graph.initializer}
    known |= {name: np.asarray(x, np.float64) for name, x in inputs.items()}
    for node in graph.node:
        fields = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        x = [known[name] for name in node.input]
        match node.op_type:
            case "Constant":
                value = numpy_helper.to_array(fields["value"])
                y = value.astype(np.float64) if value.dtype == np.float32 else value
            case "QLinearConv":
                image, image_unit, image_zero, weight, step, weight_zero, unit, zero, bias = x
                assert (image_unit, image_zero, weight_zero.any()) == (1, 0, False)
                assert fields["pads"] == [weight.shape[2] // 2] * 4
                y = byte_layer(image, weight, step, unit, zero, bias)
            case "QLinearAdd":
                h, one, none, change, other_one, middle, last_one, last_none = x
                assert (one, none, other_one, middle, last_one, last_none) == (1, 0, 1, 128, 1, 0)
                y = np.clip(h + change - 128, 0, 255)
            case "Shape":
                y = np.array(x[0].shape[fields["start"] : fields.get("end")])
            case "Gather":
                y = np.take(x[0], x[1].astype(int), fields["axis"])
            case "Reshape":
                sides = x[1].astype(int)
                y = x[0].reshape([side or x[0].shape[place] for place, side in enumerate(sides)])
            case "Expand":
                y = np.broadcast_to(x[0], np.broadcast_shapes(x[0].shape, x[1].astype(int)))
            case "Conv":
                assert set(fields["strides"]) == {1}
                y = convolve(*x, groups=fields["group"])
            case "Clip":
                y = np.clip(*x)
            case "Floor":
                y = np.floor(x[0])
            case "Identity":
                y = x[0]
            case "Abs":
                y = np.abs(x[0])
            case "Add":
                y = x[0] + x[1]
            case "Sub":
                y = x[0] - x[1]
            case "Mul":
                y = x[0] * x[1]
            case "Cast":
                assert (x[0] == np.clip(np.floor(x[0]), -128, 127)).all(), "not whole"
                y = x[0]
            case "Div":
                y = x[0] / x[1]
            case "Concat":
                y = np.concatenate(x, fields["axis"])
            case "Transpose":
                y = x[0].transpose(fields["perm"])
            case "DepthToSpace":
                assert fields["mode"] == b"CRD"
                y = to_space(x[0])
            case other:
                raise AssertionError(f"{other} has no place in an entropy network")
        known[node.output[0]] = y
    return [known[output.name] for output in graph.output]


class QLinearAdd(OpRun):
    """The one operator that is not of ONNX itself."""

    op_domain = "com.microsoft"

    def _run(self, h, _one, zero, change, _one_too, middle, _last_one, _last_zero):
        return (np.clip(h.astype(int) - int(zero) + change - int(middle), 0, 255).astype(np.uint8),)


class DequantizeLinear(OpRun):
    """The evaluator knows it from a later operator set on only."""

    def _run(self, x, unit, zero, **_attributes):
        return ((x.astype(np.float32) - np.float32(zero)) * unit,)


# -- "Symbols of a tile" -----------------------------------------------------------------------------------------------


class SpecCodec:
    """What is common to all coders of the page: file bytes and codec file bytes in, symbols and pixels out."""

    unit: int
    units: list[int]  # pixels per sample of each array
    channels: list[int]

    def __init__(self, codec_file: bytes) -> None:
        self.arrays = load_arrays(codec_file)
        self.identity = sha256(codec_file).digest()[:8]
        self.card = json.loads(self.arrays["card"].tobytes())
        self.blend = np.zeros(len(self.arrays.get("ways", ())))  # of the tile that was read last
        self.tables = {name.removesuffix(".reach"): SpecTables(x, self.arrays[name.replace("reach", "counts")])
                       for name, x in self.arrays.items() if name.endswith(".reach")}  # fmt: skip
        self.graphs = {
            name.removeprefix("graph."): onnx.load_model_from_string(x.tobytes()).graph
            for name, x in self.arrays.items() if name.startswith("graph.")
        }  # fmt: skip

    def run(self, name: str, **inputs: np.ndarray) -> list[np.ndarray]:
        return evaluate(self.graphs[name], {k: np.asarray(x)[None] for k, x in inputs.items()})

    def up(self, side: int) -> int:
        return -(-side // self.unit) * self.unit

    def arrays_of(self, stream: bytes, level: int, height: int, width: int) -> list[np.ndarray]:
        raise NotImplementedError

    def synthesis_inputs(self, arrays: list[np.ndarray], level: int) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def tile_symbols(self, payload: bytes, level: int, height: int, width: int) -> list[np.ndarray]:
        arrays, crc = self.arrays_of(payload[4:], level, height, width), 0
        for x in arrays:
            crc = zlib.crc32(x.astype("<i2").tobytes(), crc)
        assert (crc,) == struct.unpack("<I", payload[:4])
        return arrays

    def symbols(self, file: SpecFile) -> list[np.ndarray]:
        """Symbols of the whole padded picture, tiles put together."""
        assert file.version == 1
        assert file.model == self.identity
        height, width, size = file.height, file.width, self.card["tile"]
        whole = [np.zeros((channels, self.up(height) // unit, self.up(width) // unit), int)
                 for channels, unit in zip(self.channels, self.units, strict=True)]  # fmt: skip
        payloads = iter([payload for tag, payload in file.chunks if tag == 1])
        self.blends: list[tuple[slice, slice, np.ndarray]] = []
        for top in range(0, height, size):
            for left in range(0, width, size):
                part = self.tile_symbols(next(payloads), file.level, min(size, height - top), min(size, width - left))
                self.blends.append((slice(top, top + size), slice(left, left + size), self.blend))
                for x, own, unit in zip(whole, part, self.units, strict=True):
                    i, j = top // unit, left // unit
                    x[:, i : i + own.shape[1], j : j + own.shape[2]] = own
        assert next(payloads, None) is None
        return whole

    def pixels(self, file: SpecFile) -> np.ndarray:
        inputs = self.synthesis_inputs(self.symbols(file), file.level)
        inputs["lam"] = self.arrays["lam"][file.level : file.level + 1].astype(np.float32)
        y = np.zeros((file.height, file.width, 3))
        for rows, columns, blend in self.blends:  # each tile is shown with its own
            if "ways" in self.arrays:
                inputs["maps"] = np.einsum("k,kio->io", blend, self.arrays["ways"] / 4096).astype(np.float32)
            graph = self.arrays["graph.synthesis"].tobytes()
            (shown,) = ReferenceEvaluator(graph, new_ops=[QLinearAdd, DequantizeLinear]).run(["pixels"], inputs)
            y[rows, columns] = shown[: file.height, : file.width][rows, columns]
        if file.colour & 1 == 0:
            y = y.mean(2, keepdims=True)
        peak = 65535 if file.colour & 4 else 255
        return np.floor(y * peak + 0.5).astype(int)


class SpecPyramid(SpecCodec):
    """Coder "pyramid"."""

    def __init__(self, codec_file: bytes) -> None:
        super().__init__(codec_file)
        self.levels = self.card["levels"]
        self.unit = 2 ** (self.levels + 1)
        self.units = [2**self.levels, *(2 ** (level + 1) for level in range(self.levels, 0, -1))]
        self.channels = [3] + [36] * self.levels
        self.details, self.low = self.tables["details"], self.tables["low"]

    def arrays_of(self, data: bytes, level: int, height: int, width: int) -> list[np.ndarray]:
        count = 4 * self.levels - 1  # four passes a level, three at the finest
        ways = len(self.arrays.get("ways", ()))
        head = -(-(count + 1 + (ways > 0)) // 8)
        flags = int.from_bytes(data[:head], "little")
        assert flags >> count < (4 if ways else 2)
        left_out = [bool(flags >> k & 1) for k in range(count)]
        self.shifts, size = [0] * count, 0
        if flags >> count & 1:
            size = next(n for n in range(1, count) if 256**n > 9**count - 1)
            number = int.from_bytes(data[head : head + size], "little")
            assert number < 9**count
            self.shifts = [number // 9**k % 9 - 4 for k in range(count)]
        self.blend = np.zeros(ways)
        if flags >> count + 1:
            self.blend = np.array(struct.unpack_from(f"<{ways}b", data, head + size)) / 32
            size += ways
        stream = SpecDecoder(data[head + size :])
        shifts = iter(self.shifts)
        low, residual = self.low_band(stream, self.up(height) >> self.levels, self.up(width) >> self.levels)
        arrays, h = [low], None
        for number in range(self.levels, 0, -1):
            net = min(number, 3)
            told = [*self.arrays["quality"][level], *(255 * (min(number, 5) - 2 == place) for place in range(4))]
            told = np.array(told)[:, None, None]
            if number == self.levels:
                (h,) = self.run("low", residual=by_sign(residual), told=told)
            else:
                (h,) = self.run(f"entry{net}", state=h[0], parents=by_sign(arrays[-1]), told=told)
            h, members = self.run(f"level{net}.start", h=h[0])
            here = np.zeros((36, *members.shape[2:]), int)
            passes = self.passes(number)
            for k, channels in enumerate(passes):
                q = self.one_pass(
                    stream, members[0] - 128, channels, (number, height, width), left_out.pop(0), next(shifts)
                )
                here[channels] = q
                if k + 1 < len(passes):
                    h, members = self.run(f"level{net}.pass{k + 1}", h=h[0], g=by_sign(q))
                elif number > 1:
                    (h,) = self.run(f"level{net}.finish", h=h[0], g=by_sign(q))
            arrays.append(here)
        return arrays

    @staticmethod
    def passes(level: int) -> list[list[int]]:
        luma, colour = [0, 1, 2], [3, 4, 5, 6, 7, 8]

        def channels(bands, phases):
            return [4 * band + phase for band in bands for phase in phases]

        if level == 1:
            return [channels(luma, [0, 3]), channels(luma, [1, 2]), channels(colour, [0, 1, 2, 3])]
        return [channels(bands, phases) for bands in (luma, colour) for phases in ([0, 3], [1, 2])]

    def one_pass(self, stream, members, channels, size, skip, shift) -> np.ndarray:
        skews = self.card["skews"]
        last = len(self.arrays["details.reach"]) // skews - 1
        index, skew = members[: len(channels)].clip(0, last), members[len(channels) :].clip(1 - skews, skews - 1)
        level, height, width = size
        rows, columns = -(-height // 2**level) + 2, -(-width // 2**level) + 2
        q = np.zeros(index.shape, int)
        places = []
        for c, channel in enumerate(channels):
            a, b = divmod(channel % 4, 2)
            for i in range(index.shape[1]):
                for j in range(index.shape[2]):
                    if (
                        2 * i + a < rows
                        and 2 * j + b < columns
                        and not (skip and index[c, i, j] <= self.card.get("certain", 0))
                    ):
                        places.append((c, i, j))
        scales = [int(index[place]) and min(max(int(index[place]) + shift, 0), last) for place in places]
        numbers = [skews * scale + abs(int(skew[place])) for scale, place in zip(scales, places, strict=True)]
        for place, value in zip(places, read_call(stream, numbers, self.details), strict=True):
            q[place] = -value if skew[place] < 0 else value
        return q

    def low_band(self, stream, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        q, residual = np.zeros((3, height, width), int), np.zeros((3, height, width), int)
        numbers = [int(n) for n in self.arrays["low.corner"]]
        q[:, 0, 0] = residual[:, 0, 0] = read_call(stream, numbers, self.low)
        strides = [2**d for d in range(32) if 2**d < max(height, width)]
        for depth in range(len(strides) - 1, -1, -1):
            s = strides[depth]
            for kind, top, left in ((0, s, s), (1, 0, s), (1, s, 0)):
                self.low_samples(stream, q, residual, min(depth, 4), kind, s, top, left)
        folded = np.empty((12, height // 2, width // 2), int)
        for c in range(3):
            for a1 in (0, 1):
                for a2 in (0, 1):
                    folded[4 * c + 2 * a1 + a2] = residual[c, a1::2, a2::2]
        return q, folded

    def low_samples(self, stream, q, residual, depth, kind, s, top, left) -> None:
        height, width = q.shape[1:]

        def at(x, c, i, di, j, dj):
            if not 0 <= i + di < height:
                di = -di
            if not 0 <= j + dj < width:
                dj = -dj
            return int(x[c, i + di, j + dj])

        if kind == 0:
            offsets = [(-s, -s), (-s, s), (s, -s), (s, s)]
        elif height <= s:
            offsets = [(0, -s), (0, s)] * 2
        elif width <= s:
            offsets = [(-s, 0), (s, 0)] * 2
        else:
            offsets = [(-s, 0), (s, 0), (0, -s), (0, s)]
        first, terms = self.arrays["low.index"], self.arrays["low.terms"]
        places = [(i, j) for i in range(top, height, 2 * s) for j in range(left, width, 2 * s)]
        near = {(c, i, j): [at(q, c, i, di, j, dj) for di, dj in offsets] for c in range(3) for i, j in places}
        off = {
            (c, i, j): sum(abs(at(residual, c, i, di, j, dj)) for di, dj in offsets)
            for c in range(3)
            for i, j in places
        }
        for c in range(3):
            numbers = []
            for i, j in places:
                known = [max(near[k, i, j]) - min(near[k, i, j]) for k in range(3)]
                known += [off[k, i, j] for k in range(3)] + [abs(int(residual[k, i, j])) for k in range(c)]
                total = int(first[depth, kind, c]) + sum(int(terms[c, k, half_octaves(x)]) for k, x in enumerate(known))
                numbers.append(min(max((total + 8) // 16, 0), len(self.low.reach) - 1))
            if not places:
                continue
            for (i, j), value in zip(places, read_call(stream, numbers, self.low), strict=True):
                residual[c, i, j], q[c, i, j] = value, (sum(near[c, i, j]) + 2) // 4 + value

    def synthesis_inputs(self, arrays: list[np.ndarray], level: int) -> dict[str, np.ndarray]:
        low, *details = arrays
        inputs = {"low": low[None].astype(np.int16), "quality": self.arrays["quality"][level][None, :, None, None]}
        for number, x in zip(range(self.levels, 0, -1), details, strict=True):
            inputs[f"detail{number}"] = x[None].astype(np.int16)
            if number <= self.card["corrected"] + 1:
                inputs[f"g.detail{number}"] = by_sign(x)[None].astype(np.uint8)
        finest = {name: inputs.pop(name) for name in ("detail1", "g.detail1")} | {"quality": inputs["quality"]}
        graph = self.arrays["graph.coarse"].tobytes()
        evaluator = ReferenceEvaluator(graph, new_ops=[QLinearAdd, DequantizeLinear])
        handed, half = evaluator.run(["next", "half"], inputs)
        return finest | {"handed": handed, "half": half}


class SpecFactorised(SpecCodec):
    """Coder "factorised"."""

    def __init__(self, codec_file: bytes) -> None:
        super().__init__(codec_file)
        self.unit = self.block = self.card["block"]
        self.units = [self.block]
        self.channels = [self.count()]

    def count(self) -> int:
        return self.arrays["latent.number"].shape[1]

    def seen(self, height: int, width: int, unit: int, channels: int) -> list[tuple[int, int, int]]:
        rows, columns = -(-height // unit), -(-width // unit)
        return [(c, i, j) for c in range(channels) for i in range(rows) for j in range(columns)]

    def put(self, places, values, height: int, width: int, unit: int, channels: int) -> np.ndarray:
        z = np.zeros((channels, self.up(height) // unit, self.up(width) // unit), int)
        for place, value in zip(places, values, strict=True):
            z[place] = value
        return z

    def arrays_of(self, data: bytes, level: int, height: int, width: int) -> list[np.ndarray]:
        places = self.seen(height, width, self.block, *self.channels)
        numbers = [int(self.arrays["latent.number"][level, c]) for c, _, _ in places]
        values = read_call(SpecDecoder(data), numbers, self.tables["latent"])
        return [self.put(places, values, height, width, self.block, *self.channels)]

    def synthesis_inputs(self, arrays: list[np.ndarray], level: int) -> dict[str, np.ndarray]:
        return {"z": arrays[0][None].astype(np.float32)}


class SpecHyperprior(SpecFactorised):
    """Coder "hyperprior"."""

    def __init__(self, codec_file: bytes) -> None:
        super().__init__(codec_file)
        self.unit = self.block * 2 ** self.card["levels"]

    def count(self) -> int:
        return self.arrays["shift"].shape[1]

    def arrays_of(self, data: bytes, level: int, height: int, width: int) -> list[np.ndarray]:
        assert data[0] in (0, 1)
        stream, summaries = SpecDecoder(data[1:]), self.arrays["summary.number"]
        places = self.seen(height, width, self.unit, summaries.shape[1])
        values = read_call(stream, [int(summaries[level, c]) for c, _, _ in places], self.tables["summary"])
        w = self.put(places, values, height, width, self.unit, summaries.shape[1])
        bias, shift = (self.arrays[name][level][:, None, None] for name in ("bias", "shift"))
        number, mean = (x[0].astype(int) for x in self.run("hyper_synthesis", w=w, bias=bias, shift=shift))
        places = self.seen(height, width, self.block, *self.channels)
        coded = [place for place in places if data[0] == 0 or number[place] != 0]
        q = dict(zip(coded, read_call(stream, [int(number[p]) for p in coded], self.tables["latent"]), strict=True))
        values = [16 * q.get(place, 0) + int(mean[place]) for place in places]
        return [self.put(places, values, height, width, self.block, *self.channels)]

    def synthesis_inputs(self, arrays: list[np.ndarray], level: int) -> dict[str, np.ndarray]:
        return {"z": arrays[0][None].astype(np.float32) / 16}


class SpecUniversal(SpecFactorised):
    """Coder "universal"."""

    def count(self) -> int:
        return self.card["channels"]

    def arrays_of(self, data: bytes, level: int, height: int, width: int) -> list[np.ndarray]:
        bits = iter("".join(f"{byte:08b}" for byte in data))

        def gamma() -> int:
            zeros = 0
            while next(bits) == "0":
                zeros += 1
            return int("1" + "".join(next(bits) for _ in range(zeros)), 2)

        places = self.seen(height, width, self.block, *self.channels)
        values: list[int] = []
        while len(values) < len(places):
            values += [0] * (gamma() - 1)
            if len(values) < len(places):
                size = gamma()
                values.append(-size if next(bits) == "1" else size)
        assert len(values) == len(places)
        rest = "".join(bits)
        assert len(rest) < 8
        assert "1" not in rest
        return [self.put(places, values, height, width, self.block, *self.channels)]


CODERS = {
    "pyramid": SpecPyramid,
    "factorised": SpecFactorised,
    "hyperprior": SpecHyperprior,
    "universal": SpecUniversal,
}


def spec_codec(codec_file: bytes) -> SpecCodec:
    card = json.loads(load_arrays(codec_file)["card"].tobytes())
    assert card["version"] == 1
    return CODERS[card["coder"]](codec_file)


@pytest.fixture(scope="module", params=[*shipped_models()] or [None])
def codec_file(request) -> bytes:
    """Each shipped model; an untrained one of the same shape where none is shipped."""
    if request.param is not None:
        return shipped_models()[request.param].read_bytes()
    from rdae.recipes.photo import photo
    from rdae.training.export_subbands import export_subbands

    torch.manual_seed(0)
    recipe = photo()
    return export_subbands(recipe.model(), recipe, {})


def small_tiles(codec_file: bytes) -> bytes:
    """The same codec with tiles of 64 pixels."""
    arrays = load_arrays(codec_file)
    card = json.loads(arrays.pop("card").tobytes())
    return pack_model({**card, "tile": 64}, arrays)


def picture(height: int, width: int, channels: int = 3, dtype=np.uint8) -> np.ndarray:
    """Edges, a gradient and noise: every kind of symbol occurs."""
    rng = np.random.default_rng(height * 1000 + width)
    i, j = np.mgrid[:height, :width]
    y = 0.2 + 0.5 * ((i + 2 * j) % 23 > 11) + 0.2 * j / width
    y = y[..., None] + rng.normal(0, 0.05, (height, width, channels)) * (j > width // 2)[..., None]
    return np.squeeze((y.clip(0, 1) * np.iinfo(dtype).max).astype(dtype))


CASES = [(1, 1, 50), (5, 3, 0), (33, 70, 15), (64, 64, 100), (130, 70, 40), (40, 200, 65)]


@pytest.mark.parametrize(("height", "width", "quality"), CASES)
@pytest.mark.parametrize("tiled", [False, True])
def test_files_decode_by_the_rules_of_the_page(codec_file, height, width, quality, tiled):
    chosen = small_tiles(codec_file) if tiled else codec_file
    ours = Codec(unpack_model(chosen))
    data = ours.compress(picture(height, width).reshape(height, width, 3), quality)
    theirs = spec_codec(chosen).pixels(SpecFile(data))
    # two implementations of the synthesis round their float32 sums in different orders: by one level, but for ties
    off = np.abs(theirs - ours.decompress(data).pixels.astype(int))
    assert off.max() <= 2
    assert (off > 1).mean() < 0.001


def test_grey_and_16_bit_files_decode_by_the_rules_of_the_page(codec_file):
    ours, spec = Codec(unpack_model(codec_file)), spec_codec(codec_file)
    grey = ours.compress(picture(20, 30, 1), 40)
    assert SpecFile(grey).colour == 0
    assert np.abs(spec.pixels(SpecFile(grey)) - ours.decompress(grey).pixels.astype(int)).max() <= 1
    y = picture(20, 30, 3, np.uint16)
    deep = SpecFile(ours.compress(y, 40))
    assert deep.colour == 5
    shown = ours.decompress(deep.data).pixels
    # float32 holds y in [0, 1] to 2**-24, a level is 2**-16: the sums may differ in their last dozen bits
    assert np.abs(spec.pixels(deep) - shown.astype(int)).max() <= 1
    (worst,) = struct.unpack("<H", dict(deep.chunks)[131])
    assert worst == np.abs(shown.astype(int) - y).max()


@pytest.fixture(scope="module", params=["factorised", "hyperprior", "universal"])
def convolutional_file(request) -> bytes:
    """An untrained convolutional codec, small, its tables scattered."""
    from rdae.autoencoder import RateDistortionAutoencoder
    from rdae.channels import UniformNoise
    from rdae.networks.convolutional import ConvolutionalDecoder, ConvolutionalEncoder, typical_spread
    from rdae.priors.factorised import FactorisedPrior
    from rdae.priors.hyperprior import Hyperprior
    from rdae.priors.magnitude import MagnitudePrior
    from rdae.recipes.photo import photo
    from rdae.training.export_convolutional import export_convolutional

    widths = (6, 8)
    spread = typical_spread(2 ** len(widths))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        prior = {
            "factorised": lambda: FactorisedPrior(spread),
            "hyperprior": lambda: Hyperprior(spread, width=16),
            "universal": MagnitudePrior,
        }[request.param]()
        model = RateDistortionAutoencoder(
            ConvolutionalEncoder(widths), prior, ConvolutionalDecoder(widths), UniformNoise()
        )
        if request.param == "hyperprior":
            with torch.no_grad():  # means and indices that differ from place to place
                prior.synthesis.mean.weight.mul_(20)
                prior.synthesis.index.weight.mul_(5)
        return export_convolutional(model, photo(), {})


@pytest.mark.parametrize(("height", "width", "quality"), [(1, 1, 50), (21, 37, 60), (70, 90, 20)])
@pytest.mark.parametrize("tiled", [False, True])
def test_convolutional_files_decode_by_the_rules_of_the_page(convolutional_file, height, width, quality, tiled):
    chosen = small_tiles(convolutional_file) if tiled else convolutional_file
    ours = Codec(unpack_model(chosen))
    data = ours.compress(picture(height, width).reshape(height, width, 3), quality)
    theirs = spec_codec(chosen).pixels(SpecFile(data))
    assert np.abs(theirs - ours.decompress(data).pixels.astype(int)).max() <= 1


# -- the example on the page -------------------------------------------------------------------------------------------


def test_the_example_of_the_page_is_a_file():
    block = re.search(r"<!-- example -->(.*)<!-- end of example -->", PAGE.read_text("utf-8"), re.DOTALL).group(1)
    rows = re.findall(r"^\| *(\d+) *\| *`([0-9A-F ]+)` *\|", block, re.MULTILINE)
    data = bytes.fromhex("".join(text for _, text in rows))
    at = 0
    for offset, text in rows:
        assert int(offset) == at
        at += len(bytes.fromhex(text))
    file = SpecFile(data)
    assert [tag for tag, _ in file.chunks] == [1]
    for path in shipped_models().values():  # where the model of the example is at hand, decode it too
        if sha256(path.read_bytes()).digest()[:8] == file.model:
            assert spec_codec(path.read_bytes()).pixels(file).shape == (file.height, file.width, 3)
