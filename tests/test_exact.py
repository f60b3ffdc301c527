"""Streams decode everywhere: the entropy networks give the same integers whatever computes them.

The reference is integer arithmetic in NumPy (int64), written here from the description in `networks/bytes.py`.
Everything else must agree with it bit for bit: PyTorch with any number of threads, batch, memory layout, library and
instruction set, float64, and ONNX Runtime with any number of threads and any optimisation.
"""

from __future__ import annotations

import copy
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import photograph
from hypothesis import given
from hypothesis import strategies as st

from rdae.coding.codec import Codec
from rdae.coding.model import load_model, shipped_models, unpack_model
from rdae.coding.network_bytes import SIGNED_ZERO, NetworkBytes, compand
from rdae.coding.picture import from_array
from rdae.coding.pyramid_order import groups_of_level
from rdae.coding.tiles import tiles
from rdae.errors import ModelError

torch = pytest.importorskip("torch")

from rdae.networks import exact
from rdae.networks.bytes import ByteConv, split_signs, to_byte
from rdae.networks.exact import ACTIVATION_MAX, EXACT_LIMIT, SYMBOL_MAX, ExactConv, exact_relu
from rdae.networks.shuffle import depth_to_space
from rdae.priors.subbands import TOLD
from rdae.training.byte_graphs import whole_bias

# --- the reference -------------------------------------------------------------------------------------------------


def convolved(layer: ByteConv, x: np.ndarray, unit: float = 1.0) -> np.ndarray:
    """`round(sum * step / unit)`, halves to even, of bytes `(C, H, W)`: whole numbers throughout."""
    weight, _, step = (w.detach() for w in layer.quantised())
    weight = (weight / step[:, None, None, None]).numpy().astype(np.int64)
    pad = layer.padding
    _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    total = np.zeros((weight.shape[0], height, width), dtype=np.int64) + whole_bias(layer).astype(int)[:, None, None]
    for i, j in np.ndindex(layer.kernel, layer.kernel):
        total += np.einsum("oc,chw->ohw", weight[:, :, i, j], padded[:, i : i + height, j : j + width])
    shift = np.log2(step.numpy().astype(float) / unit).astype(int)[:, None, None]
    power = 1 << np.maximum(-shift, 0)
    down, rest = np.divmod(total << np.maximum(shift, 0), power)
    return down + ((2 * rest > power) | ((2 * rest == power) & (down % 2 == 1)))


def byte(x: np.ndarray) -> np.ndarray:
    return np.clip(x, 0, ACTIVATION_MAX)


def block(net, h: np.ndarray, *more: np.ndarray) -> np.ndarray:
    change = convolved(net.change, byte(convolved(net.mix, np.concatenate([h, *more]))))
    return byte(h + np.clip(change, -128, 127))


def head(net, h: np.ndarray) -> np.ndarray:
    """Scale indices and skews as bytes."""
    h = byte(convolved(net.hidden, h))
    index, skew = convolved(net.index, h, 1 / net.index_unit), convolved(net.skew, h, 1 / net.skew_unit)
    return byte(np.concatenate([index, skew]) + SIGNED_ZERO)


def unfolded(x: np.ndarray) -> np.ndarray:
    c, h, w = x.shape
    return x.reshape(c // 4, 2, 2, h, w).transpose(0, 3, 1, 4, 2).reshape(c // 4, 2 * h, 2 * w)


def joined(x: np.ndarray, told: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.broadcast_to(told, (len(told), *x.shape[1:]))])


def reference(prior, name: str, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs of a graph of the codec file for one example of int64 inputs, `(C, H, W)`."""
    if name == "low":
        return [byte(convolved(prior.low_entry, joined(inputs["residual"], inputs["told"])))]
    if name.startswith("entry"):
        net = prior.entries[int(name[5:]) - 1]
        up = unfolded(byte(convolved(net.up, inputs["state"])))
        seen = np.concatenate([up, unfolded(inputs["parents"])])
        return [byte(convolved(net.mix, joined(seen, inputs["told"])))]
    level, part = name.removeprefix("level").split(".")
    net = prior.nets[int(level) - 1]
    if part == "start":
        h = block(net.first, inputs["h"])
        return [h, head(net.heads[0], h)]
    if part == "finish":
        return [block(net.updates[-1], inputs["h"], inputs["g"])]
    k = int(part.removeprefix("pass"))
    h = block(net.updates[k - 1], inputs["h"], inputs["g"])
    return [h, head(net.heads[k], h)]


def run_torch(prior, name: str, inputs: dict[str, torch.Tensor]) -> list[np.ndarray]:
    """The same outputs by the modules that are trained."""
    with torch.no_grad():
        if name == "low":
            size = inputs["residual"].shape[-2:]
            seen = torch.cat([inputs["residual"], inputs["told"].expand(-1, -1, *size)], 1)
            out = [to_byte(prior.low_entry(seen))]
        elif name.startswith("entry"):
            positive, negative = depth_to_space(inputs["parents"]).chunk(2, 1)
            net = prior.entries[int(name[5:]) - 1]
            out = [net(inputs["state"], positive - negative, inputs["told"][..., 0, 0])]
        else:
            level, part = name.removeprefix("level").split(".")
            net = prior.nets[int(level) - 1]
            k = 0 if part == "start" else len(net.updates) if part == "finish" else int(part.removeprefix("pass"))
            h = net.updates[k - 1](inputs["h"], inputs["g"]) if k else net.first(inputs["h"])
            out = [h]
            if part != "finish":
                out.append((torch.cat(net.heads[k](h), 1) + SIGNED_ZERO).clamp(0, ACTIVATION_MAX))
    return [x.cpu().numpy() for x in out]


def graphs(prior) -> list[tuple[str, dict[str, int]]]:
    """Name and channels of the inputs of each exact graph."""
    fine, middle, coarse = prior.channels
    found: list[tuple[str, dict[str, int]]] = [("low", {"residual": 24, "told": TOLD})]
    for net, (width, coarser) in enumerate([(fine, middle), (middle, coarse), (coarse, coarse)], start=1):
        sizes = [2 * len(group) for group in groups_of_level(net)]
        found.append((f"entry{net}", {"state": coarser, "parents": 72, "told": TOLD}))
        found.append((f"level{net}.start", {"h": width}))
        found += [(f"level{net}.pass{k}", {"h": width, "g": n}) for k, n in enumerate(sizes[:-1], start=1)]
        if net > 1:
            found.append((f"level{net}.finish", {"h": width, "g": sizes[-1]}))
    return found


def random_inputs(channels: dict[str, int], seed: int, batch: int, extreme: bool) -> dict[str, np.ndarray]:
    """Bytes in the range that each input can have; `extreme`: at its ends. Of two parts by sign one is zero."""
    rng = np.random.default_rng(seed)
    inputs = {}
    for name, count in channels.items():
        largest = ACTIVATION_MAX if name in ("h", "state", "told") else SYMBOL_MAX
        size = (batch, count, *((1, 1) if name == "told" else (6, 9)))
        x = largest * rng.integers(0, 2, size=size) if extreme else rng.integers(0, largest + 1, size=size)
        if name in ("g", "residual", "parents"):
            positive = rng.integers(0, 2, size=(batch, count // 2, 6, 9))
            x *= np.concatenate([positive, 1 - positive], 1)
        inputs[name] = x
    return inputs


def laid_out(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As graphs want them: bytes, states with channels last."""
    return {
        name: (x.transpose(0, 2, 3, 1) if name in ("h", "state") else x).astype(np.uint8) for name, x in inputs.items()
    }


CASES = [(seed, extreme) for seed in range(2) for extreme in (False, True)]


def expected(prior, name, inputs) -> list[np.ndarray]:
    batch = next(iter(inputs.values())).shape[0]
    rows = [reference(prior, name, {key: x[i] for key, x in inputs.items()}) for i in range(batch)]
    return [np.stack(parts) for parts in zip(*rows, strict=True)]


def assert_same(found, wanted, what: str) -> None:
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(np.asarray(ours).astype(np.int64), theirs, err_msg=what)
        assert (np.asarray(ours) == np.floor(np.asarray(ours))).all()


def tensors(inputs, dtype=torch.float32, channels_last=False) -> dict[str, torch.Tensor]:
    found = {name: torch.from_numpy(x).to(dtype) for name, x in inputs.items()}
    if channels_last:
        found = {name: x.contiguous(memory_format=torch.channels_last) for name, x in found.items()}
    return found


@pytest.fixture
def threads():
    """Restores PyTorch's number of threads."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


# --- agreement -----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_pytorch_agrees_with_integer_arithmetic(tiny, threads):
    prior = tiny.torch.prior
    for name, channels in graphs(prior):
        for seed, extreme in CASES[:2]:
            one = random_inputs(channels, seed, 1, extreme)
            wanted = expected(prior, name, one)
            for count in (1, 2):
                threads(count)
                for onednn in (False, True):
                    with torch.backends.mkldnn.flags(enabled=onednn):
                        found = run_torch(prior, name, tensors(one))
                        assert_same(found, wanted, f"{name}, {count} threads, oneDNN {onednn}")
            assert_same(run_torch(prior, name, tensors(one, channels_last=True)), wanted, f"{name}, channels last")


def test_a_batch_of_eight_agrees_with_each_alone(tiny):
    prior = tiny.torch.prior
    for name, channels in graphs(prior):
        eight = random_inputs(channels, 5, 8, False)
        together = run_torch(prior, name, tensors(eight))
        assert_same(together, expected(prior, name, eight), name)
        for i in range(8):
            alone = run_torch(prior, name, tensors({key: x[i : i + 1] for key, x in eight.items()}))
            for a, b in zip(alone, together, strict=True):
                np.testing.assert_array_equal(a[0], b[i])


def test_float64_agrees(tiny):
    """Nothing is lost in float32 that float64 would keep."""
    double = copy.deepcopy(tiny.torch.prior).double()
    for name, channels in graphs(double):
        inputs = random_inputs(channels, 6, 1, True)
        found = run_torch(double, name, tensors(inputs, torch.float64))
        assert_same(found, expected(tiny.torch.prior, name, inputs), name)


VARIANTS = [{"threads": 1}, {"threads": 2}, {"threads": 1, "optimize": False}, {"threads": 2, "optimize": False}]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_onnx_runtime_agrees_with_integer_arithmetic(tiny, options):
    model = unpack_model(tiny.data, **options)
    for name, channels in graphs(tiny.torch.prior):
        for seed, extreme in CASES:
            inputs = random_inputs(channels, seed, 1, extreme)
            state, *members = model.run(name, laid_out(inputs))
            found = [state.transpose(0, 3, 1, 2), *members]
            assert_same(found, expected(tiny.torch.prior, name, inputs), f"{name} {options}")


FLOATS = ("analysis", "coarse", "synthesis", "reanalysis", "moments", "pixels")  # graphs that need not be exact


def shipped_graphs(model) -> list[str]:
    """Exact graphs that a codec file holds."""
    names = [array.removeprefix("graph.") for array in sorted(model._arrays) if array.startswith("graph.")]
    return [name for name in names if name not in FLOATS]


def test_the_shipped_graphs_agree_with_integer_arithmetic(codec):
    """Node by node, from the file alone, in whole numbers."""
    onnx = pytest.importorskip("onnx")
    assert len(shipped_graphs(codec.model)) > 10
    for name in shipped_graphs(codec.model):
        proto = onnx.load_model_from_string(codec.model.array(f"graph.{name}").tobytes())
        shapes = {x.name: x.type.tensor_type.shape.dim for x in proto.graph.input}
        channels = {key: shape[3 if key in ("h", "state") else 1].dim_value for key, shape in shapes.items()}
        inputs = laid_out(random_inputs(channels, 7, 1, False))
        wide = {key: x.astype(np.int64) for key, x in inputs.items()}
        assert_same(codec.model.run(name, inputs), evaluated(proto.graph, wide), name)


def evaluated(graph, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs of a graph of bytes in int64 arithmetic."""
    from onnx import helper, numpy_helper

    values = {x.name: numpy_helper.to_array(x) for x in graph.initializer} | inputs
    for node in graph.node:
        x = [values[name] for name in node.input]
        more = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        values[node.output[0]] = NODES[node.op_type](*x, **more)
    return [values[x.name] for x in graph.output]


def qlinear_conv(x, x_unit, x_zero, weight, step, weight_zero, unit, zero, bias, kernel_shape, pads):
    assert (x_unit, x_zero, pads[0]) == (1, 0, kernel_shape[0] // 2)
    assert not weight_zero.any()
    pad = pads[0]
    padded = np.pad(x[0], ((0, 0), (pad, pad), (pad, pad)))
    height, width = x.shape[2:]
    total = np.zeros((len(weight), height, width), dtype=np.int64) + bias.astype(int)[:, None, None]
    for i, j in np.ndindex(*kernel_shape):
        part = padded[:, i : i + height, j : j + width]
        total += np.einsum("oc,chw->ohw", weight[:, :, i, j].astype(np.int64), part)
    scaled = total * (step.astype(float)[:, None, None] / float(unit))  # a power of two: exact
    return np.clip(np.rint(scaled).astype(np.int64) + int(zero), 0, 255)[None]


def padded_sides(x, sides) -> list[tuple[int, int]]:
    """Each side asked for, with that of x at its place, of which 0 says that it stays."""
    return list(zip([*x.shape, *[1] * (len(sides) - x.ndim)], map(int, sides), strict=False))


NODES = {
    "QLinearConv": qlinear_conv,
    "QLinearAdd": lambda h, _1, _2, change, _3, middle, _4, _5: np.clip(h + change - int(middle), 0, 255),
    "Concat": lambda *parts, axis: np.concatenate(parts, axis),
    "Gather": lambda x, at, axis: np.take(x, at, axis),
    "Reshape": lambda x, sides: x.reshape([own if side == 0 else side for own, side in padded_sides(x, sides)]),
    "Mul": lambda a, b: a * b,
    "Transpose": lambda x, perm: x.transpose(perm),
    "Identity": lambda x: x,
    "Shape": lambda x, start, end=None: np.array(x.shape[start:end]),
    "Expand": lambda x, shape: np.broadcast_to(x, [max(a, b) for a, b in zip(x.shape, shape, strict=True)]),
}


def sources(tiny) -> list[str]:
    shipped = [str(path) for path in shipped_models().values()]
    return [*shipped, "tiny"]


def test_files_are_the_same_whatever_computes_them(tiny):
    """Same latents, same bytes; same bytes, same symbols."""
    image = photograph(100, 90, 4)
    for source in sources(tiny):
        made = []
        for options in VARIANTS:
            model = unpack_model(tiny.data, **options) if source == "tiny" else load_model(source, **options)
            made.append(Codec(model))
        tile = tiles(100, 90, 2048)[0]
        for level in (0, 100, 200):
            latents, blend = made[0]._latents(from_array(image), tile, level)
            streams = {codec._coder.encode(latents, level, (100, 90), blend=blend)[0] for codec in made}
            assert len(streams) == 1
            decoded = [codec._coder.decode(next(iter(streams)), level, (128, 128), (100, 90)) for codec in made]
            for other in decoded[1:]:
                for a, b in zip(decoded[0], other, strict=True):
                    np.testing.assert_array_equal(a, b)
        data = made[0].compress(image)
        for codec in made:  # the synthesis is float: its pixels may differ in the last place, symbols may not
            difference = codec.decompress(data).pixels.astype(int) - made[0].decompress(data).pixels
            assert np.abs(difference).max() <= 1


SCRIPT = """
import hashlib, sys
import numpy as np, torch
sys.path.insert(0, sys.argv[1])
from conftest import build_tiny
from test_exact import graphs, random_inputs, run_torch, tensors
model = build_tiny()
model.load_state_dict(torch.load(sys.argv[2], weights_only=True))
digest = hashlib.sha256()
for name, channels in graphs(model.eval().prior):
    for x in run_torch(model.prior, name, tensors(random_inputs(channels, 9, 1, False))):
        digest.update(x.astype("<f4").tobytes())
print(digest.hexdigest(), torch.backends.cpu.get_cpu_capability())
"""


@pytest.mark.parametrize(
    ("capability", "onednn"), [("default", "SSE41"), ("avx2", "AVX2"), ("avx512", "DEFAULT")], ids=str
)
def test_every_instruction_set_gives_the_same_integers(tiny, tmp_path, capability, onednn):
    weights = tmp_path / "weights.pt"
    torch.save(tiny.torch.state_dict(), weights)
    environment = os.environ | {"ATEN_CPU_CAPABILITY": capability, "ONEDNN_MAX_CPU_ISA": onednn, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(weights)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found, used = done.stdout.split(maxsplit=1)
    digest = hashlib.sha256()
    for name, channels in graphs(tiny.torch.prior):
        for x in expected(tiny.torch.prior, name, random_inputs(channels, 9, 1, False)):
            digest.update(x.astype("<f4").tobytes())
    assert found == digest.hexdigest(), f"with {used}"
    if capability == "default":
        assert used.strip().upper() in ("DEFAULT", "NO AVX")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_integer_arithmetic(tiny):
    prior = copy.deepcopy(tiny.torch.prior).cuda()
    for name, channels in graphs(prior):
        for seed, extreme in CASES:
            inputs = random_inputs(channels, seed, 8, extreme)
            found = run_torch(prior, name, {key: x.cuda() for key, x in tensors(inputs).items()})
            assert_same(found, expected(tiny.torch.prior, name, inputs), name)


def test_the_inputs_reach_most_of_the_tables(tiny):
    """Agreement on one table would say little."""
    members = set()
    for name, channels in graphs(tiny.torch.prior):
        out = expected(tiny.torch.prior, name, random_inputs(channels, 0, 1, True))
        if len(out) == 2:
            index, skew = np.split(out[1] - SIGNED_ZERO, 2, axis=1)
            scales, largest = tiny.torch.prior.density.scales, tiny.torch.prior.density.skew_max
            pairs = zip(index.clip(0, scales - 1).ravel(), skew.clip(-largest, largest).ravel(), strict=True)
            members |= {(int(i), int(a)) for i, a in pairs}
    assert len(members) > 200


# --- the bound -----------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**20), st.integers(-20, 8), st.booleans())
def test_no_partial_sum_passes_the_bound(seed, power, depthwise):
    """The bound is compared with the worst input there is, in exact arithmetic."""
    generator = torch.Generator().manual_seed(seed)
    layer = ExactConv(6, 6, depthwise=depthwise, input_max=ACTIVATION_MAX)
    with torch.no_grad():
        layer.weight.copy_(2.0**power * torch.randn(layer.weight.shape, generator=generator))
        layer.bias.copy_(torch.randn(6, generator=generator))
    weight, bias, step = (x.detach() for x in layer.quantised())
    worst = (weight.double().abs().flatten(1).sum(1) * ACTIVATION_MAX + bias.double().abs() + 7) / step.clamp(max=0.5)
    try:
        assert layer.accumulator_bound(added=7.0) >= float(worst.max())
    except ModelError:
        assert float(worst.max()) > 0.9 * EXACT_LIMIT


def test_weights_steps_and_biases_fit_the_grid():
    for scale in (1e-9, 1e-3, 1.0, 300.0):
        layer = ExactConv(5, 7)
        with torch.no_grad():
            layer.weight.mul_(scale)
            layer.bias.normal_()
        weight, bias, step = layer.quantised()
        assert (torch.log2(step) == torch.log2(step).round()).all()
        units = weight / step[:, None, None, None]
        assert (units == units.round()).all()
        assert units.abs().max() <= 127
        assert ((bias - 0.5) / step == ((bias - 0.5) / step).round()).all()


# --- companding ----------------------------------------------------------------------------------------------------


def test_companding_agrees_in_both_halves():
    q = np.concatenate([np.arange(-300, 301), [-32768, 32767]]).astype(np.int16)
    ours = compand(q).astype(int)
    theirs = exact.compand(torch.from_numpy(q).float())
    np.testing.assert_array_equal(ours, theirs.numpy())
    clip = [np.clip(q.astype(int), -k, k) for k in (1, 4, 16, 64)]
    np.testing.assert_array_equal(ours, 8 * clip[0] + 4 * clip[1] + 2 * clip[2] + clip[3])
    assert np.abs(ours).max() == SYMBOL_MAX
    both = split_signs(theirs.view(1, 1, 1, -1))[0].numpy()
    np.testing.assert_array_equal(NetworkBytes(np.zeros((1, 8)), 1).symbols(q[None, None])[0], both)
    assert (np.diff(ours[200:401]) >= 0).all()


@given(st.floats(-1e6, 1e6, width=32))
def test_rounding_clips_to_a_byte(x):
    found = exact_relu(torch.tensor(x)).item()
    assert found == min(max(np.floor(x), 0), ACTIVATION_MAX)


def test_groups_cover_each_channel_once():
    for level in range(1, 6):
        channels = [c for group in groups_of_level(level) for c in group]
        assert sorted(channels) == list(range(36))
