"""The log-magnitude penalty, why it is no code, and the universal code that stands in its files."""

from __future__ import annotations

import contextlib
import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from rdae.channels import UniformNoise
from rdae.coding.universal import code_bits, decode_integers, encode_integers, gamma_bits
from rdae.errors import FormatError, TableError
from rdae.priors.factorised import unit_bin_log_mass
from rdae.priors.magnitude import MagnitudePrior, magnitude_bits, penalty_gap, universal_bits

integers = st.lists(st.one_of(st.just(0), st.integers(-3, 3), st.integers(-(2**31) + 1, 2**31 - 1)), max_size=200)


def test_the_lectures_penalty():
    z = torch.tensor([[8.0, -8.0, 0.3]])
    assert_close(magnitude_bits(z), torch.tensor([6.0]))  # 3 + 3 + 0 bits
    smooth = 2 * math.log2(9) + math.log2(1.3)
    assert_close(magnitude_bits(z, smooth=True), torch.tensor([smooth]))


def test_the_penalty_is_even_and_grows_with_magnitude():
    z = torch.linspace(0, 40, 400)[:, None]
    for smooth in (False, True):
        bits = magnitude_bits(z, smooth=smooth)
        assert_close(bits, magnitude_bits(-z, smooth=smooth))
        assert (bits.diff() >= 0).all()
    assert (magnitude_bits(z, smooth=True).diff() > 0).all()


def test_only_the_smooth_penalty_pulls_at_small_latents():
    for smooth, pulled in ((False, False), (True, True)):
        z = torch.tensor([[0.4, -0.9]], requires_grad=True)
        magnitude_bits(z, smooth=smooth).sum().backward()
        assert bool((z.grad * z > 0).all()) == pulled
    z = torch.zeros(1, 3, requires_grad=True)
    magnitude_bits(z, smooth=True).sum().backward()
    assert torch.isfinite(z.grad).all()


def test_the_penalty_breaks_krafts_inequality_and_the_gamma_code_meets_it():
    """Lengths of a prefix code satisfy `sum 2**-length <= 1`. The penalty's sum over n grows like 2 ln n."""
    n = torch.arange(1, 2**16, dtype=torch.float64)[:, None]
    penalty = 1 + 2 * torch.exp2(-magnitude_bits(n)).cumsum(0)  # zero has 0 bits; both signs
    assert penalty[0] > 1
    assert_close(
        penalty[-1] - penalty[2**15 - 2], torch.tensor(2 * math.log(2), dtype=torch.float64), rtol=1e-4, atol=0
    )
    for digits in (1, 5, 16):
        lengths = gamma_bits(np.arange(1, 2**digits))
        assert np.exp2(-lengths.astype(float)).sum() == 1 - 2.0**-digits


def test_gamma_words_by_hand():
    assert gamma_bits(np.array([1, 2, 3, 4, 7, 8])).tolist() == [1, 3, 3, 5, 5, 7]
    # 0 0 -5: run of 2 -> gamma(3) = 011; gamma(5) = 00101; sign 1; nothing left
    assert encode_integers(np.array([0, 0, -5])) == bytes([0b01100101, 0b10000000])
    # 1 0: run of 0 -> 1; gamma(1) = 1; sign 0; one zero left -> gamma(2) = 010
    assert encode_integers(np.array([1, 0])) == bytes([0b11001000])
    assert encode_integers(np.zeros(0, dtype=int)) == b""


def test_the_gamma_code_has_no_word_for_zero():
    with pytest.raises(TableError, match="Map the numbers to 1, 2, 3"):
        gamma_bits(np.array([3, 0]))


@settings(deadline=None)
@given(integers)
def test_the_universal_code_is_decodable_and_as_long_as_it_says(values):
    array = np.array(values, dtype=np.int64)
    data = encode_integers(array)
    assert decode_integers(data, array.size).tolist() == values
    assert len(data) == -(-code_bits(array) // 8)


@settings(deadline=None)
@given(integers.filter(bool), st.data())
def test_damage_is_refused_or_decodes_to_as_many_numbers(values, data):
    code = bytearray(encode_integers(np.array(values, dtype=np.int64)))
    at = data.draw(st.integers(0, len(code) - 1))
    code[at] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(FormatError):
        assert decode_integers(bytes(code), len(values)).size == len(values)


@pytest.mark.parametrize("data", [b"\x00", b"\x00" * 9, b"\xff", b"\x00\x00\x00\x00\x00\x01" + b"\xff" * 12])
def test_bytes_no_writer_makes_are_refused(data):
    with pytest.raises(FormatError, match="damaged"):
        decode_integers(data, 3)


def test_truncation_is_refused():
    data = encode_integers(np.arange(-300, 300))
    for length in range(len(data)):
        with pytest.raises(FormatError):
            decode_integers(data[:length], 600)


def test_the_penalty_of_a_gaussian_falls_short_of_its_entropy():
    """N(0, 8**2): 2.23 bits on average against 5.05 bits of entropy; the universal code is above the entropy."""
    z = 8 * torch.randn(1, 200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gap = penalty_gap(z)
    count = z.numel()
    n = torch.arange(-100, 101, dtype=torch.float64)
    log_mass = unit_bin_log_mass(n, n.new_tensor(0.0), n.new_tensor(8.0), "gaussian")
    entropy = float(-(log_mass.exp() * log_mass).sum() / math.log(2))
    # log2|z|^+ has a standard deviation of 1.2: five standard errors are 0.014
    assert abs(float(gap.penalty_bits) / count - 2.23) < 0.02
    assert abs(entropy - 5.048) < 1e-3
    assert float(gap.code_bits) / count > entropy
    assert_close(gap.gap_bits, gap.code_bits - gap.penalty_bits)


def test_the_prior_charges_the_penalty_in_training_and_the_code_otherwise():
    torch.manual_seed(0)
    z, lam = 4 * torch.randn(3, 2, 4, 4), torch.ones(3)
    prior, channel = MagnitudePrior(smooth=False), UniformNoise()
    relaxed = prior.train()(z, channel.train(), lam)
    assert_close(relaxed.rate, magnitude_bits(z) * math.log(2))  # before the noise
    assert (relaxed.latent != z).any()
    rounded = prior.eval()(z, channel.eval(), lam)
    for b in range(3):
        data = encode_integers(rounded.latent[b].numpy())
        bits = float(rounded.rate[b]) / math.log(2)
        assert 0 <= 8 * len(data) - bits < 8
        assert decode_integers(data, z[b].numel()).reshape(z[b].shape).tolist() == rounded.latent[b].tolist()
    assert_close(universal_bits(rounded.latent) * math.log(2), rounded.rate)


@pytest.mark.parametrize("byte", [0x00, 0x01, 0x55, 0xFF])
def test_a_long_code_for_few_numbers_costs_neither_time_nor_memory(byte):
    data = bytes([byte]) * (1 << 20)
    tracemalloc.start()
    with pytest.raises(FormatError, match="damaged"):
        decode_integers(data, 64)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 16


def test_the_longest_code_of_so_many_numbers_is_read_and_no_longer_one():
    values = np.full(50, -(2**31) + 1)
    data = encode_integers(values)
    assert decode_integers(data, 50).tolist() == values.tolist()
    with pytest.raises(FormatError, match="too long"):
        decode_integers(data + b"\0", 50)
    with pytest.raises(FormatError, match="more numbers than are due"):
        decode_integers(encode_integers(np.ones(60, dtype=int)), 20)
