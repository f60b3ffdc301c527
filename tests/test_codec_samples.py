"""Codecs draw pictures: the law of tables and of random bits, files that hold the samples, no encoder, the command."""

from __future__ import annotations

import contextlib
import json
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import unchecked_writer as lies
from PIL import Image
from safetensors.numpy import load as load_arrays
from scipy.stats import chi2
from test_layers import run_without_torch

from rdae.cli.generating import _is_codec
from rdae.cli.main import main
from rdae.coding import coder as coder_module
from rdae.coding import model as model_module
from rdae.coding.codec import DRAWS_MAX, Codec, _checksum
from rdae.coding.container import MAX_SIDE, QUALITY_LEVELS
from rdae.coding.convolutional import UniversalCoder
from rdae.coding.model import Model, pack_model, shipped_models, unpack_model
from rdae.coding.rangecoder import (
    INTERVAL_BITS,
    CoderTables,
    RangeDecoder,
    SymbolReader,
    SymbolSource,
    SymbolWriter,
)
from rdae.coding.sampling import RANDOM_WORDS, RandomBits, TableSampler
from rdae.coding.tables import PRECISION, Tables, integer_table
from rdae.errors import FormatError, LimitError, ModelError, TargetError

GOLDEN = Path(__file__).parent / "golden" / "golden.codec"
RARE = 1e-4  # a right sampler fails a test of this level once in ten thousand seeds; the seeds are fixed
FAR = 8  # escapes are told apart up to this distance beyond the reach
ROUTES = pytest.mark.parametrize("route", [TableSampler, RandomBits])
TABLES = Tables(
    np.array([0, 1, 3, 20]),
    np.concatenate(
        [
            [20_000, 45_536],  # mostly escapes
            [16_000, 30_000, 16_000, 3_536],
            [1, 2, 3, 65_520, 4, 2, 3, 1],  # near certain
            integer_table(np.append(np.exp(-0.1 * np.abs(np.arange(-20, 21) - 4)), 0.5)),
        ]
    ),
)


def widths(number: int) -> np.ndarray:
    """Probabilities of a table's places as docs/format.md has them: `e_k = floor(C_k (2**24 - n) / 2**16) + k`."""
    counts = TABLES[number].tolist()
    ends = [sum(counts[:k]) * (2**24 - len(counts)) // 2**16 + k for k in range(len(counts))] + [2**24]
    return np.diff(ends) / 2**24


def fits(observed: np.ndarray, probability: np.ndarray) -> bool:
    """Chi-square test of counts; cells that are expected fewer than five times are put together."""
    expected = probability * observed.sum()
    small = expected < 5
    if small.any():
        observed = np.append(observed[~small], observed[small].sum())
        expected = np.append(expected[~small], expected[small].sum())
    statistic = float(np.sum((observed - expected) ** 2 / expected))
    return chi2.sf(statistic, len(observed) - 1) > RARE


# --- the law of one table ------------------------------------------------------------------------------------------


def test_the_edges_are_those_of_the_coder():
    """A point of the range decoder just below an edge gives one symbol, and on the edge the next."""
    made, scale = CoderTables(TABLES), (2**64 - 1) >> INTERVAL_BITS

    def place(number: int, q: int) -> int:
        point = q * scale
        return int(
            RangeDecoder(np.array([point >> 32, point & 0xFFFFFFFF], dtype=np.uint32)).decode(made[number], 1)[0]
        )

    for number in range(len(TABLES)):
        edges = made.edges(number)
        np.testing.assert_array_equal(edges, np.round(2**24 * widths(number).cumsum()[:-1]))
        for k, edge in enumerate(edges.tolist()):
            assert (place(number, edge - 1), place(number, edge)) == (k, k + 1)
        inner = edges[:-1]  # on the last one the escape begins
        points = [*(inner - 1).tolist(), *inner.tolist()]
        sampler = TableSampler(Chosen(points))  # type: ignore[arg-type]
        symbols = sampler.read(np.full(len(points), number), made) + TABLES.reach[number]
        np.testing.assert_array_equal(symbols, [*range(inner.size), *range(1, inner.size + 1)])


@ROUTES
@pytest.mark.parametrize("number", range(len(TABLES)))
def test_symbols_have_the_law_of_their_table(route, number):
    count, reach = 60_000, int(TABLES.reach[number])
    source = route(np.random.default_rng(number))
    symbols = source.read(np.full(count, number), CoderTables(TABLES))
    own = widths(number)
    # beyond the reach: a sign, and a distance of n digits with probability 2**-(2 n - 1)
    beyond = np.array([0.5 ** (2 * m.bit_length() - 1) for m in range(1, FAR)])
    beyond = np.append(beyond, 1 - beyond.sum())
    law = np.concatenate([own[-1] / 2 * beyond[::-1], own[:-1], own[-1] / 2 * beyond])
    clipped = np.clip(symbols, -reach - FAR, reach + FAR)
    observed = np.bincount(clipped + reach + FAR, minlength=2 * (reach + FAR) + 1)
    assert fits(observed, law)


@ROUTES
def test_symbols_do_not_depend_on_those_before(route):
    """Pairs of neighbours, and across the tables of one call; symbols come in the order they were asked for."""
    count, source, made = 60_000, route(np.random.default_rng(7)), CoderTables(TABLES)
    places = np.clip(source.read(np.full(count, 1), made), -2, 2) + 2
    law = widths(1)
    law = np.array([law[-1] / 2, *law[:-1], law[-1] / 2])
    assert fits(np.bincount(5 * places[0::2] + places[1::2], minlength=25), np.outer(law, law).ravel())
    numbers = np.tile([1, 3], count // 2)
    mixed = source.read(numbers, made)
    assert fits(np.bincount(np.clip(mixed[0::2], -2, 2) + 2, minlength=5), law)
    assert np.abs(mixed[1::2]).max() > 20 > np.abs(TABLES.reach[1])


def test_random_bits_go_on_where_a_stream_would_be_damaged():
    """Their decoder meets points that no symbol owns; as a stream the same words are refused."""
    numbers, made = np.full(400_000, 3), CoderTables(TABLES)
    words = np.random.default_rng(3).integers(1 << 32, size=numbers.size, dtype=np.uint32)
    with pytest.raises(FormatError, match="cannot be decoded"):
        SymbolReader(words.astype("<u4").tobytes()).read(numbers, made)
    assert RandomBits(np.random.default_rng(3)).read(numbers, made).shape == numbers.shape


def test_random_bits_keep_what_stood_before_the_damage():
    """Symbols are those of the stream up to the place where it breaks, then those of new words from their start."""
    made, broken = CoderTables(TABLES), 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        decoders = [RangeDecoder(rng.integers(1 << 32, size=RANDOM_WORDS + 2, dtype=np.uint32)) for _ in range(2)]
        expected: list[int] = []
        with contextlib.suppress(AssertionError):
            while len(expected) < RANDOM_WORDS:
                expected.append(int(decoders[0].decode(made[3], 1)[0]))
        broken += len(expected) < RANDOM_WORDS
        expected += decoders[1].decode(made[3], 5).tolist()
        found = RandomBits(np.random.default_rng(seed))._decode(made[3], len(expected))
        np.testing.assert_array_equal(found, expected)
    assert broken


@ROUTES
def test_nothing_is_drawn_for_a_call_without_symbols(route):
    rng = np.random.default_rng(0)
    assert route(rng).read(np.zeros(0, dtype=int), CoderTables(TABLES)).shape == (0,)
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state


class Chosen:
    """In the place of a generator: the points that a test wants, and bits that are all 1."""

    def __init__(self, points: list[int]) -> None:
        self.points = points

    def integers(self, high: int, size: int | None = None) -> Any:
        return 1 if size is None else np.array(self.points)


def test_an_escape_that_never_ends_is_refused():
    with pytest.raises(FormatError, match="no encoder writes"):
        TableSampler(Chosen([2**INTERVAL_BITS - 1])).read(np.array([1]), CoderTables(TABLES))  # type: ignore[arg-type]


# --- codecs --------------------------------------------------------------------------------------------------------


class Drawn(Model):
    """A model whose graphs are functions; it knows no encoder."""

    def __init__(self, kind: str, tables: Tables, channels: int = 3) -> None:
        card = {"version": 1, "name": kind, "coder": kind, "tile": 32, "halo": [0, 0], "block": 4, "levels": 1}
        arrays = {
            "card": np.frombuffer(json.dumps({**card, "channels": channels}).encode(), dtype=np.uint8),
            "lam": np.linspace(1, 100, QUALITY_LEVELS),
            "bias": np.zeros((QUALITY_LEVELS, 2), dtype=np.int16),
            "shift": np.ones((QUALITY_LEVELS, channels), dtype=np.int16),
        }
        for name, width in (("latent", channels), ("summary", 2)):
            number = np.arange(QUALITY_LEVELS)[:, None] + np.arange(width)
            arrays[f"{name}.number"] = (number % len(tables)).astype(np.int32)
            arrays |= {f"{name}.reach": tables.reach, f"{name}.counts": tables.counts}
        super().__init__(arrays, bytes(8))
        self._tables = tables

    def run(self, graph: str, inputs: dict[str, Any], count: int | None = None, *, keep: bool = True) -> list[Any]:
        if graph == "synthesis":
            z = inputs["z"][0].transpose(1, 2, 0).repeat(4, 0).repeat(4, 1)
            return [(0.5 + np.resize(z, (*z.shape[:2], 3)) / 255).clip(0, 1).astype(np.float32)]
        assert graph == "hyper_synthesis"
        w = inputs["w"].repeat(2, 2).repeat(2, 3)
        numbers = np.stack([np.abs(w[:, k % 2] + k) % len(self._tables) for k in range(inputs["shift"].shape[1])], 1)
        return [numbers, 5 * (numbers - 1)]


def drawn(kind: str) -> Codec:
    """A codec of a kind that needs neither PyTorch nor a shipped model, and has no encoder."""
    if kind != "pyramid":
        return Codec(Drawn(kind, TABLES))
    arrays = load_arrays(GOLDEN.read_bytes())
    del arrays["graph.analysis"]
    card = json.loads(arrays.pop("card").tobytes())
    return Codec(unpack_model(pack_model(card, arrays), threads=1))


KINDS = pytest.mark.parametrize("kind", ["pyramid", "factorised", "hyperprior"])
BITS = pytest.mark.parametrize("bits", [False, True], ids=["tables", "bits"])
FLAGS = {"pyramid": bytes(3), "factorised": b"", "hyperprior": bytes(1)}  # before the stream: nothing is left out


class Recorder(SymbolSource):
    """Hands on the symbols of a source and keeps them."""

    def __init__(self, source: SymbolSource) -> None:
        self.source = source
        self.calls: list[tuple[np.ndarray, np.ndarray, CoderTables]] = []

    def read(self, numbers: np.ndarray, tables: CoderTables) -> np.ndarray:
        symbols = self.source.read(numbers, tables)
        self.calls.append((symbols, numbers, tables))
        return symbols

    def stream(self) -> bytes:
        writer = SymbolWriter()
        for call in self.calls:
            writer.write(*call)
        return writer.finish()

    _fill = _bit = None  # type: ignore[assignment]


def recorded(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Recorder, list[np.ndarray]]]:
    """Collects what each tile is made of, as the codec draws it."""
    tiles: list[tuple[Recorder, list[np.ndarray]]] = []
    sample: Callable = codec._coder.sample

    def listening(source: SymbolSource, *rest: Any) -> list[np.ndarray]:
        recorder = Recorder(source)
        symbols = sample(recorder, *rest)
        tiles.append((recorder, symbols))
        return symbols

    monkeypatch.setattr(codec._coder, "sample", listening)
    return tiles


@KINDS
@BITS
@pytest.mark.parametrize("quality", [0, 45.5, 100])
def test_a_sample_is_the_picture_of_a_file(kind, bits, quality, monkeypatch):
    """Its symbols, written as any tile is, make a file that decodes to the same symbols and the same pixels."""
    codec = drawn(kind)
    tiles = recorded(codec, monkeypatch)
    pixels = codec.sample(150, 137, quality, seed=5, bits=bits)
    assert (pixels.shape, pixels.dtype) == ((150, 137, 3), np.uint8)
    assert len(tiles) == (4 if kind == "pyramid" else 25)
    file = lies.header(model=codec.model.identity, height=150, width=137, level=codec.level(quality))
    for recorder, symbols in tiles:
        payload = struct.pack("<I", _checksum(symbols)) + FLAGS[kind] + recorder.stream()
        file += lies.chunk(lies.TILE, payload)
    np.testing.assert_array_equal(codec.decompress(file).pixels, pixels)


def information(number: int, tables: Tables) -> tuple[np.ndarray, float, float]:
    """Bits of each place of a table but for the digits of an escape; mean and variance of all the bits of a symbol.

    An escape has a sign and 2 n - 1 bits for n digits, n geometric: mean 2, variance 2. (n ends at 24: no difference.)
    """
    p = tables[number] / 2**PRECISION
    bits = -np.log2(p)
    mean = float(p @ bits) + p[-1] * 4
    square = float(p[:-1] @ bits[:-1] ** 2) + p[-1] * ((bits[-1] + 4) ** 2 + 4 * 2)
    return bits, mean, square - mean**2


@KINDS
@BITS
def test_the_code_length_of_a_sample_is_the_entropy_of_its_tables(kind, bits, monkeypatch):
    """Given the symbols before, a symbol's code length has the entropy of its table as mean: deviations add up like
    those of a fair game, and their sum over its standard deviation is a normal number."""
    codec = drawn(kind)
    tiles = recorded(codec, monkeypatch)
    for seed in range(6):
        codec.sample(128, 128, 60, seed=seed, bits=bits)
    deviation = variance = 0.0
    for recorder, _ in tiles:
        for symbols, numbers, made in recorder.calls:
            tables = made._tables
            for number in np.unique(numbers).tolist():
                own, reach = symbols[numbers == number].astype(int), int(tables.reach[number])
                length, mean, squared = information(number, tables)
                far = np.abs(own) > reach
                found = length[np.where(far, 2 * reach + 1, own + reach)]
                found[far] += [2 * m.bit_length() for m in (np.abs(own[far]) - reach).tolist()]
                deviation += float((found - mean).sum())
                variance += own.size * squared
    assert variance > 1000
    assert abs(deviation) < 4 * np.sqrt(variance)


@KINDS
@BITS
def test_the_seed_says_which_sample(kind, bits):
    codec = drawn(kind)
    first = codec.sample(70, 50, 50, seed=1, bits=bits)
    np.testing.assert_array_equal(codec.sample(70, 50, seed=1, bits=bits), first)
    assert (codec.sample(70, 50, seed=2, bits=bits) != first).any()
    assert (codec.sample(70, 50, seed=1, bits=not bits) != first).any()
    rng = np.random.default_rng(1)
    np.testing.assert_array_equal(codec.sample(70, 50, seed=rng, bits=bits), first)
    assert (codec.sample(70, 50, seed=rng, bits=bits) != first).any()  # a generator goes on


@KINDS
def test_the_encoder_has_no_part_in_a_sample(kind):
    codec = drawn(kind)
    with pytest.raises((ModelError, AssertionError)):
        codec.compress(np.zeros((8, 8, 3), dtype=np.uint8))
    assert codec.sample(8, 8).shape == (8, 8, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (129, 2)])
def test_every_size_is_drawn(size):
    assert drawn("pyramid").sample(*size).shape == (*size, 3)


# --- what cannot be drawn ------------------------------------------------------------------------------------------


@BITS
def test_a_sample_has_the_law_of_the_streams_that_fit_a_file(bits, monkeypatch):
    """A decoder refuses symbols past the limit: the law is that of the table, given that there are none."""
    monkeypatch.setattr(coder_module, "SYMBOL_LIMIT", 2)
    codec = Codec(Drawn("factorised", TABLES, channels=1))
    level = 1  # table 1: reach 1, so that a symbol of magnitude 2 is an escape, the nearest of all
    rng = np.random.default_rng(11)
    pixels = [int(codec.sample(4, 4, codec.quality(level), seed=rng, bits=bits)[0, 0, 0]) for _ in range(3000)]
    symbols = np.array(pixels) - int(127.5 + 0.5)
    own = widths(1)
    near = own[-1] / 4  # of an escape: a sign, and 1/2 for the distance 1
    law = np.array([near, *own[:-1], near])
    assert np.abs(symbols).max() <= 2
    assert fits(np.bincount(symbols + 2, minlength=5), law / law.sum())


def test_a_model_whose_symbols_never_fit_is_refused_in_the_end(monkeypatch):
    monkeypatch.setattr(coder_module, "SYMBOL_LIMIT", -1)
    codec, draws = Codec(Drawn("factorised", TABLES)), []
    sample = codec._coder.sample
    monkeypatch.setattr(codec._coder, "sample", lambda *rest: draws.append(1) or sample(*rest))
    with pytest.raises(ModelError, match="Train it longer"):
        codec.sample(4, 4)
    assert len(draws) == DRAWS_MAX


def test_a_universal_code_is_no_model_to_draw_from():
    with pytest.raises(ModelError, match="Sample from a codec with tables"):
        Codec(Drawn("universal", TABLES)).sample(8, 8)
    with pytest.raises(ModelError, match="no probabilities"):
        UniversalCoder(4, 3).sample(RandomBits(np.random.default_rng(0)), 0, (8, 8), (8, 8))


def test_wishes_out_of_range_are_refused():
    codec = Codec(Drawn("factorised", TABLES))
    for height, width in ((0, 5), (5, -1), (MAX_SIDE + 1, 1), (2**15, 2**15)):
        with pytest.raises(LimitError, match="all pixels at most"):
            codec.sample(height, width)
    with pytest.raises(TargetError, match="from 0"):
        codec.sample(8, 8, 101)


# --- the command ---------------------------------------------------------------------------------------------------


def rdae(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "rdae.cli.main", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Callable[..., int]:
    """The command within this process, in a folder of its own: exit codes."""

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["rdae", "sample", *map(str, arguments)])
        return main()

    monkeypatch.chdir(tmp_path)
    return run


SMALL = ("--height", 24, "--width", 33, "-q", 30, "--seed", 4)


def test_the_command_writes_a_picture(tmp_path):
    done = rdae("sample", GOLDEN, "-o", "noise.png", *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "noise.png: 1 examples\n"
    expected = drawn("pyramid").sample(24, 33, 30, seed=4)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "noise.png")), expected)


def test_the_command_writes_a_grid_or_an_array(here):
    codec, rng = drawn("pyramid"), np.random.default_rng(4)
    expected = [codec.sample(24, 33, 30, seed=rng) for _ in range(3)]
    assert here(GOLDEN, "-o", "noise.npz", "-n", 3, *SMALL) == 0
    np.testing.assert_array_equal(np.load("noise.npz")["examples"], expected)
    assert here(GOLDEN, "-o", "grid.png", "-n", 3, *SMALL) == 0
    grid = np.asarray(Image.open("grid.png"))
    assert grid.shape == (2 * 24 + 2, 2 * 33 + 2, 3)
    for k, picture in enumerate(expected):
        top, left = 26 * (k // 2), 35 * (k % 2)
        np.testing.assert_array_equal(grid[top : top + 24, left : left + 33], picture)
    assert (grid[26:, 35:] == 255).all()

    assert here(GOLDEN, "-o", "bits.png", "--bits", *SMALL) == 0
    np.testing.assert_array_equal(np.asarray(Image.open("bits.png")), codec.sample(24, 33, 30, seed=4, bits=True))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((GOLDEN, "--temperature", 0), 2, "--temperature cannot be used here"),
        ((GOLDEN, "-q", 101), 2, "from 0 .smallest. to 100"),
        ((GOLDEN, "--seed", -1), 2, "a whole number from 0"),
        ((GOLDEN, "--height", MAX_SIDE + 1), 1, "cannot be drawn"),
        (("nowhere.codec",), 1, "rdae models"),
        (("run.model", "--quality", 0, "--bits"), 2, "--quality and --bits cannot be used here"),
        (("run.model", "--height", 9, "--width", 9), 2, "--height and --width cannot be used here"),
        ((GOLDEN, "-o", "x.xyz"), 1, "Use .png"),
    ],
)  # fmt: skip
def test_failures_say_what_to_do(here, tmp_path, capsys, arguments, code, message):
    assert here("-o", "x.png", *arguments) == code
    assert re.search(message, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_a_run_goes_before_a_shipped_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(model_module, "SHIPPED", tmp_path)
    (tmp_path / "photo.codec").write_bytes(b"")
    assert _is_codec(Path("photo"))
    assert _is_codec(Path("runs/photo.codec"))
    assert not _is_codec(Path("other"))
    Path("photo").mkdir()  # of photographs, perhaps
    assert _is_codec(Path("photo"))
    Path("photo/photo.model").write_bytes(b"")
    assert not _is_codec(Path("photo"))


def test_the_command_works_without_pytorch(tmp_path):
    code = f"""
from rdae.cli.main import main
sys.argv = ["rdae", "sample", {str(GOLDEN)!r}, "-o", {str(tmp_path / "noise.png")!r}, "--height", "40", "--width", "30"]
assert main() == 0
"""
    assert "1 examples" in run_without_torch(code)
    assert Image.open(tmp_path / "noise.png").size == (30, 40)


@pytest.mark.skipif("photo" not in shipped_models(), reason="the package ships no model yet")
def test_the_shipped_codec_is_sampled_by_its_name(here):
    assert here("photo", "-o", "noise.png", "--height", 64, "--width", 96) == 0
    picture = np.asarray(Image.open("noise.png"))
    assert picture.shape == (64, 96, 3)
    assert picture.std() > 0
