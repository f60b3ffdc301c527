"""Networks of bytes: their arithmetic against whole numbers, and their ONNX graphs against PyTorch, bit for bit."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from rdae.coding.network_bytes import SIGNED_ZERO
from rdae.errors import ModelError
from rdae.networks.bytes import WEIGHT_MAX, ByteBlock, ByteConv, split_signs, to_byte, to_signed
from rdae.networks.shuffle import depth_to_space
from rdae.networks.subbands import planes, quality_bytes
from rdae.training.byte_graphs import ByteGraph, whole_bias


def bytes_of(generator: torch.Generator, *shape: int) -> torch.Tensor:
    """Random bytes with many at both ends."""
    x = torch.randint(-200, 456, shape, generator=generator)
    return x.clamp(0, 255).float()


def in_whole_numbers(layer: ByteConv, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of a layer as int64, in units of the step, and the steps."""
    weight, _, step = layer.quantised()
    whole = (weight.detach() / step[:, None, None, None]).numpy().astype(np.int64)
    pad, kernel = layer.padding, layer.kernel
    x = np.pad(x.astype(np.int64), ((0, 0), (pad, pad), (pad, pad)))
    rows, columns = (side - kernel + 1 for side in x.shape[1:])
    sums = np.zeros((whole.shape[0], rows, columns), dtype=np.int64)
    for i in range(kernel):
        for j in range(kernel):
            part = x[:, i : i + rows, j : j + columns]
            sums += np.einsum("oc,chw->ohw", whole[:, :, i, j], part)
    return sums + whole_bias(layer)[:, None, None], step.numpy().astype(np.float64)


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_layer_is_whole_number_arithmetic(kernel: int) -> None:
    torch.manual_seed(kernel)
    layer = ByteConv(70, 9, kernel)
    torch.nn.init.normal_(layer.bias, 0, 4)
    x = bytes_of(torch.Generator().manual_seed(1), 1, 70, 8, 10)
    sums, step = in_whole_numbers(layer, x[0].numpy())
    expected = sums * step[:, None, None]
    with torch.no_grad():
        found = layer(x)[0].double().numpy()
    np.testing.assert_array_equal(found, expected)  # exact: not one bit is rounded away


def test_weights_have_seven_bits_and_powers_of_two() -> None:
    torch.manual_seed(0)
    layer = ByteConv(8, 5, 3)
    with torch.no_grad():
        layer.weight[2] *= 100
        layer.weight[3] = 0
    weight, _, step = layer.quantised()
    whole = weight / step[:, None, None, None]
    assert torch.equal(whole, whole.round())
    assert whole.abs().max() <= WEIGHT_MAX
    assert torch.equal(torch.log2(step), torch.log2(step).round())
    assert (whole.abs().flatten(1).amax(1)[[0, 1, 2, 4]] > WEIGHT_MAX / 2 - 1).all()  # no finer power would fit


def test_halves_go_to_even_and_ends_are_clipped() -> None:
    x = torch.tensor([-3.0, -0.5, 0.5, 1.5, 2.5, 254.5, 255.5, 300.0])
    assert to_byte(x).tolist() == [0, 0, 0, 2, 2, 254, 255, 255]
    assert to_signed(torch.tensor([-200.0, -128.5, -1.5, -0.5, 127.5, 126.5])).tolist() == [-128, -128, -2, 0, 127, 126]


def test_gradients_pass_straight_through_where_nothing_is_clipped() -> None:
    x = torch.tensor([-3.0, 0.7, 100.2, 254.4, 255.4, 300.0], requires_grad=True)
    to_byte(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 1, 0, 0]


def test_split_signs_keeps_all() -> None:
    g = torch.tensor([[[[3.0, -4.0, 0.0]], [[-1.0, 0.0, 2.0]]]])
    both = split_signs(g)
    assert both.min() >= 0
    assert torch.equal(both[:, :2] - both[:, 2:], g)


def test_a_layer_that_could_leave_the_exact_range_is_refused() -> None:
    layer = ByteConv(2000, 1)
    torch.nn.init.constant_(layer.weight, 63 / 64)
    with pytest.raises(ModelError, match="counts exactly"):
        layer.accumulator_bound()
    assert ByteConv(8, 8).accumulator_bound() < 8 * 255 * 63 + 1


def test_quality_is_told_by_two_neighbouring_bytes() -> None:
    lam = torch.logspace(np.log10(14.0), np.log10(50_000.0), 50)
    told = quality_bytes(lam)
    assert ((told > 0).sum(1) <= 2).all()
    assert ((told.sum(1) - 255).abs() <= 1).all()
    slope = told @ torch.arange(8.0) / 255  # rises evenly with ln lam from the first to the last
    np.testing.assert_allclose(slope, np.linspace(0, 7, 50), atol=0.03)
    assert quality_bytes(torch.tensor([1.0, 1e9]))[:, [0, -1]].tolist() == [[255, 0], [0, 255]]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("optimised", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (33, 40)])
def test_graphs_compute_what_pytorch_computes(threads: int, optimised: bool, size: tuple[int, int]) -> None:
    """Every kind of node, with weights so large that outputs meet both ends."""
    torch.manual_seed(3)
    block, up, mix = ByteBlock(24, 6), ByteConv(24, 16), ByteConv(7, 7)
    first, second = ByteConv(7, 5, 3), ByteConv(7, 2, 3)
    layers = [block.mix, block.change, up, mix, first, second]
    with torch.no_grad():
        for layer in layers:
            layer.weight *= 3
            torch.nn.init.normal_(layer.bias, 0, 6)
    graph = ByteGraph()
    h, g, told = graph.state("h", 24), graph.input("g", 6), graph.told("told", 3)
    state = graph.block(h, block, g)
    wide = graph.depth_to_space(graph.conv(state, up), 4)
    low = graph.conv(graph.concat(wide, graph.planes(told, wide)), mix)
    last = graph.convs(low, [(first, 8.0), (second, 4.0)], zero=SIGNED_ZERO)
    data = graph.finish({"wide": wide, "last": last}, state=state)

    generator = torch.Generator().manual_seed(5)
    x, y = bytes_of(generator, 1, 24, *size), bytes_of(generator, 1, 6, *size)
    constant = bytes_of(generator, 1, 3, 1, 1)
    with torch.no_grad():
        expected = block(x, y)
        shown = depth_to_space(to_byte(up(expected)))
        lowered = to_byte(mix(torch.cat([shown, planes(constant[..., 0, 0], shown)], 1)))
        signed = torch.cat([to_signed(first(lowered) / 8), to_signed(second(lowered) / 4)], 1) + SIGNED_ZERO
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    inputs = {
        "h": x.permute(0, 2, 3, 1).numpy().astype(np.uint8),
        "g": y.numpy().astype(np.uint8),
        "told": constant.numpy().astype(np.uint8),
    }
    found = session.run(None, inputs)
    for mine, theirs in zip(found, (expected.permute(0, 2, 3, 1), shown, signed), strict=True):
        np.testing.assert_array_equal(mine, theirs.numpy())
    assert {0, 255} <= set(np.unique(found[0]))  # both ends were met


@pytest.mark.parametrize("level", ["ATEN_CPU_CAPABILITY=default", "ATEN_CPU_CAPABILITY=avx2"])
def test_pytorch_sums_are_exact_on_lesser_processors(level: str) -> None:
    """The same sums with instructions withheld, in a process of its own."""
    import os
    import subprocess
    import sys

    name, value = level.split("=")
    code = (
        "import torch; from rdae.networks.bytes import *; torch.manual_seed(0); b = ByteBlock(32, 8);"
        "torch.nn.init.normal_(b.mix.bias, 0, 5);"
        "x = torch.randint(0, 256, (2, 32, 19, 23)).float(); y = torch.randint(0, 256, (2, 8, 19, 23)).float();"
        "print(int((b(x, y).long() * torch.arange(1, 2 * 32 * 19 * 23 + 1).view(2, 32, 19, 23)).sum()))"
    )
    run = [sys.executable, "-c", code]
    usual, lesser = (
        subprocess.run(run, env=env, capture_output=True, text=True, check=True).stdout
        for env in (dict(os.environ), dict(os.environ) | {name: value})
    )
    assert usual == lesser
    assert int(usual) > 0
