"""Symbols and tables to bytes and back: inverse, length, pinned words, and streams that no encoder writes."""

from __future__ import annotations

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rdae.coding.rangecoder import ESCAPE_BITS_MAX, CoderTables, SymbolReader, SymbolWriter
from rdae.coding.tables import PRECISION, Tables, integer_table
from rdae.errors import FormatError, TableError

Uniform = constriction.stream.model.Uniform
FLUSH_BITS = 64  # the coder's state is two words


def random_tables(rng: np.random.Generator, number: int) -> Tables:
    reach = rng.integers(0, 40, size=number)
    sharp = rng.uniform(0.2, 6, size=number)
    return Tables(reach, np.concatenate([integer_table(rng.gamma(1 / s, size=2 * r + 2) + 1e-9) for r, s in
                                         zip(reach, sharp, strict=True)]))  # fmt: skip


def draw(rng: np.random.Generator, tables: Tables, numbers: np.ndarray) -> np.ndarray:
    """Symbols from the tables themselves; an escape becomes a distance of a random number of bits."""
    symbols = np.empty(numbers.size, dtype=np.int64)
    for i, number in enumerate(numbers):
        reach = int(tables.reach[number])
        code = rng.choice(2 * reach + 2, p=tables[number] / 2**PRECISION)
        far = reach + int(rng.integers(1, 1 << int(rng.integers(1, 16))))
        symbols[i] = code - reach if code <= 2 * reach else far * rng.choice([-1, 1])
    return symbols


def ideal_bits(tables: Tables, symbols: np.ndarray, numbers: np.ndarray) -> float:
    """Code length of the tables, escapes included: `-log2(count / 2**16)`, sign, Exp-Golomb."""
    bits = 0.0
    for q, number in zip(symbols.tolist(), numbers.tolist(), strict=True):
        reach, own = int(tables.reach[number]), tables[number]
        if abs(q) <= reach:
            bits += PRECISION - np.log2(own[q + reach])
        else:
            bits += PRECISION - np.log2(own[-1]) + 2 * (abs(q) - reach).bit_length()
    return bits


def encode(tables: Tables, calls: list[tuple[np.ndarray, np.ndarray]]) -> bytes:
    writer, made = SymbolWriter(), CoderTables(tables)
    for symbols, numbers in calls:
        writer.write(symbols, numbers, made)
    return writer.finish()


@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(0, 60), max_size=5))
@settings(max_examples=60, deadline=None)
def test_decoding_inverts_encoding(seed, sizes):
    rng = np.random.default_rng(seed)
    tables = random_tables(rng, int(rng.integers(1, 8)))
    calls = []
    for size in sizes:
        numbers = rng.integers(0, len(tables), size=size)
        calls.append((draw(rng, tables, numbers), numbers))
    reader, made = SymbolReader(encode(tables, calls)), CoderTables(tables)
    for symbols, numbers in calls:
        np.testing.assert_array_equal(reader.read(numbers, made), symbols)


@given(st.lists(st.integers(-(2**ESCAPE_BITS_MAX - 1), 2**ESCAPE_BITS_MAX - 1), max_size=50))
@settings(deadline=None)
def test_every_integer_of_the_escape_code_comes_back(symbols):
    tables = Tables(*(np.array([3]), integer_table(np.ones(8))))
    symbols, numbers = np.array(symbols, dtype=np.int64), np.zeros(len(symbols), dtype=int)
    data = encode(tables, [(symbols, numbers)])
    np.testing.assert_array_equal(SymbolReader(data).read(numbers, CoderTables(tables)), symbols)


@given(seed=st.integers(0, 2**32), size=st.integers(1, 400))
@settings(max_examples=40, deadline=None)
def test_the_stream_is_as_long_as_the_tables_say(seed, size):
    rng = np.random.default_rng(seed)
    tables = random_tables(rng, 5)
    numbers = rng.integers(0, len(tables), size=size)
    symbols = draw(rng, tables, numbers)
    ideal = ideal_bits(tables, symbols, numbers)
    excess = 8 * len(encode(tables, [(symbols, numbers)])) - ideal
    # Per coded symbol the coder's range, at least 2**32, is divided in 2**24 parts: cutting off the remainder loses at
    # most a share of 2**-8 of it. A probability of c / 2**16 becomes at least c / 2**16 (1 - n / 2**24) of the parts
    # and at most 2 parts more than c / 2**16 (one floor below, one above), c >= 1, so a share of 2 / 256.
    coded = size + sum(2 * max(0, abs(int(q)) - int(tables.reach[k])).bit_length()
                       for q, k in zip(symbols, numbers, strict=True))  # fmt: skip
    cut, wide = -np.log2(1 - 2.0**-8), -np.log2(1 - 82 * 2.0**-24)
    assert -32 - coded * np.log2(1 + 2 / 256) <= excess <= FLUSH_BITS + coded * (cut + wide)


def test_a_long_stream_is_within_a_thousandth_of_the_ideal():
    rng = np.random.default_rng(8)
    tables = random_tables(rng, 16)
    numbers = rng.integers(0, len(tables), size=20_000)
    symbols = draw(rng, tables, numbers)
    bits, ideal = 8 * len(encode(tables, [(symbols, numbers)])), ideal_bits(tables, symbols, numbers)
    assert abs(bits - ideal) < FLUSH_BITS + 1e-3 * ideal


def test_the_words_of_one_stream_are_pinned():
    """These bytes must decode for ever: a change of coder or of its arithmetic shows here."""
    tables = Tables(np.array([1, 3]), np.array([16000, 30000, 16000, 3536, 1, 2, 3, 65520, 4, 2, 3, 1]))
    numbers = np.array([0, 1, 0, 1, 0, 0, 1, 1, 0, 1, 0, 0])
    symbols = np.array([1, 0, -1, 2, 0, 5, -3, 0, -1, -900, 1, 0])
    data = encode(tables, [(symbols, numbers), (symbols[::-1], numbers[::-1])])
    assert data.hex() == PINNED
    reader, made = SymbolReader(bytes.fromhex(PINNED)), CoderTables(tables)
    np.testing.assert_array_equal(reader.read(numbers, made), symbols)
    np.testing.assert_array_equal(reader.read(numbers[::-1], made), symbols[::-1])


PINNED = "23e619be89b6f8749a8937f4a4e9f00324d20c30a8309b3d"


def test_calls_without_symbols_leave_no_trace():
    rng = np.random.default_rng(2)
    tables = random_tables(rng, 3)
    numbers = rng.integers(0, 3, size=50)
    symbols = draw(rng, tables, numbers)
    nothing = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    data = encode(tables, [nothing, (symbols, numbers), nothing])
    assert data == encode(tables, [(symbols, numbers)])
    reader, made = SymbolReader(data), CoderTables(tables)
    assert reader.read(nothing[1], made).shape == (0,)
    np.testing.assert_array_equal(reader.read(numbers, made), symbols)
    assert encode(tables, [nothing]) == b""


def test_a_symbol_beyond_the_escape_code_is_refused():
    tables = Tables(np.array([3]), integer_table(np.ones(8)))
    far = 3 + 2**ESCAPE_BITS_MAX
    for q in (far, -far, 2**32, 2**32 + 1, -(2**63)):  # of the last three, 32 bits keep 0, 1 and 0
        with pytest.raises(TableError, match=r"too large to code\. Check the model's inputs"):
            encode(tables, [(np.array([q]), np.array([0]))])


def test_a_stream_of_broken_words_is_refused():
    with pytest.raises(FormatError, match="not a multiple of 4"):
        SymbolReader(bytes(7))


def giant_escape(tables: Tables, ones: int) -> bytes:
    """The escape of table 0 and then so many ones: a distance that no encoder writes."""
    coder, made = constriction.stream.queue.RangeEncoder(), CoderTables(tables)
    coder.encode(np.array([2 * tables.reach[0] + 1], dtype=np.int32), made[0])
    coder.encode(np.array([0] + [1] * ones, dtype=np.int32), Uniform(2))
    return coder.get_compressed().astype("<u4").tobytes()


@pytest.mark.parametrize("ones", [ESCAPE_BITS_MAX, 100, 10_000])
def test_a_giant_escape_is_refused(ones):
    tables = Tables(np.array([3]), integer_table(np.ones(8)))
    with pytest.raises(FormatError, match="no encoder writes"):
        SymbolReader(giant_escape(tables, ones)).read(np.array([0]), CoderTables(tables))


@given(words=st.lists(st.one_of(st.integers(0, 2**32 - 1), st.just(2**32 - 1)), max_size=8), seed=st.integers(0, 99))
@settings(deadline=None)
def test_garbage_gives_symbols_or_a_named_error(words, seed):
    rng = np.random.default_rng(seed)
    tables = random_tables(rng, 4)
    numbers = rng.integers(0, 4, size=200)
    try:
        symbols = SymbolReader(np.array(words, dtype="<u4").tobytes()).read(numbers, CoderTables(tables))
    except FormatError:
        return
    assert symbols.shape == (200,)
    assert (np.abs(symbols) < tables.reach[numbers] + 2**ESCAPE_BITS_MAX).all()


def test_an_invalid_word_inside_an_escape_is_a_format_error():
    """The bits of an escape are decoded one by one, and each can meet words that no encoder writes."""
    tables = Tables(np.array([0]), np.array([1, 2**PRECISION - 1]))  # nearly always an escape
    rng, numbers, refused = np.random.default_rng(0), np.zeros(3000, dtype=int), 0
    for _ in range(200):
        words = rng.integers(0, 2**32, size=4, dtype=np.uint32) | np.uint32(0xFFFF0000)
        try:
            SymbolReader(words.astype("<u4").tobytes()).read(numbers[: int(rng.integers(1, 50))], CoderTables(tables))
        except FormatError:
            refused += 1
    assert refused > 0


def test_order_within_a_table_is_kept_and_tables_are_sorted():
    """Docs/format.md promises: table by table, each in the order of the call, then the escapes in the same order."""
    tables = Tables(np.array([1, 1]), np.array([100, 65000, 400, 36] * 2))
    symbols, numbers = np.array([1, -1, 9, 0, 1, -7]), np.array([1, 0, 1, 0, 0, 0])
    order = np.argsort(numbers, kind="stable")
    assert encode(tables, [(symbols, numbers)]) == encode(tables, [(symbols[order], numbers[order])])
    coder, made = constriction.stream.queue.RangeEncoder(), CoderTables(tables)
    coder.encode(np.array([0, 1, 2, 3], dtype=np.int32), made[0])
    coder.encode(np.array([2, 3], dtype=np.int32), made[1])
    bits = [1, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0, 0, 0, 0]  # -7: sign, 110, then 10 of 6 = 110; 9: sign, 1110, 000 of 8
    coder.encode(np.array(bits, dtype=np.int32), Uniform(2))
    assert encode(tables, [(symbols, numbers)]) == coder.get_compressed().astype("<u4").tobytes()
