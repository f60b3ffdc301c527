"""Streams decode everywhere: the entropy networks give the same integers whatever computes them.

The reference is integer arithmetic in NumPy (int64, in units of 2**-20), written here from the description in
`priors/pyramid.py`. Everything else must agree with it bit for bit: PyTorch with any number of threads, batch, memory
layout, library and instruction set, float64, and ONNX Runtime with any number of threads and any optimisation.
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
from rdae.coding.image import from_array
from rdae.coding.model import load_model, shipped_models, unpack_model
from rdae.coding.pyramid import compand, groups_of_level
from rdae.coding.tiles import tiles
from rdae.errors import ModelError

torch = pytest.importorskip("torch")

from rdae.networks import exact
from rdae.networks.exact import ACTIVATION_MAX, EXACT_LIMIT, SYMBOL_MAX, ExactConv, exact_relu
from rdae.priors.density import SKEW_MAX
from rdae.training.export import _graphs, check_exact, freeze

BITS = 20  # the reference counts in units of 2**-20: a step is 2**-16 or more, and heads divide by up to 16
HALF = 1 << BITS - 1


# --- the reference -------------------------------------------------------------------------------------------------


def whole(x: torch.Tensor) -> np.ndarray:
    """Numbers in units of 2**-20, which they must be multiples of."""
    scaled = x.detach().double().numpy() * 2**BITS
    assert (scaled == np.floor(scaled)).all()
    return scaled.astype(np.int64)


def convolved(layer: ExactConv, x: np.ndarray) -> np.ndarray:
    """A convolution plus its bias and 1/2, of integers `(C, H, W)`."""
    weight, bias, _ = layer.quantised()
    weight, bias = whole(weight), whole(bias)
    if layer.groups == 1:
        return np.einsum("oi,ihw->ohw", weight[:, :, 0, 0], x) + bias[:, None, None]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    _, height, width = x.shape
    total = np.zeros_like(x) + bias[:, None, None]
    for i, j in np.ndindex(3, 3):
        total += weight[:, 0, i, j, None, None] * padded[:, i : i + height, j : j + width]
    return total


def relu(x: np.ndarray) -> np.ndarray:
    """Floor and clip."""
    return np.clip(x >> BITS, 0, ACTIVATION_MAX)


def features(g: np.ndarray) -> np.ndarray:
    return np.concatenate([g, np.abs(g)])


def block(net, h: np.ndarray) -> np.ndarray:
    return relu((h << BITS) + convolved(net.pointwise, relu(convolved(net.depthwise, h))))


def head(net, h: np.ndarray, scales: int) -> tuple[np.ndarray, np.ndarray]:
    index, skew = np.split(convolved(net.out, relu(convolved(net.hidden, h))), 2)
    index = np.clip((index // 8 + HALF) >> BITS, 0, scales - 1)
    return index, np.clip((skew // 16 + HALF) >> BITS, -SKEW_MAX, SKEW_MAX)


def update(net, h: np.ndarray, g: np.ndarray) -> np.ndarray:
    return block(net.block, relu((h << BITS) + convolved(net.read, features(g))))


def unfolded(x: np.ndarray) -> np.ndarray:
    c, h, w = x.shape
    return x.reshape(c // 4, 2, 2, h, w).transpose(0, 3, 1, 4, 2).reshape(c // 4, 2 * h, 2 * w)


def entry(net, state: np.ndarray, parents: np.ndarray, bias: np.ndarray) -> np.ndarray:
    up = unfolded(relu(convolved(net.up, state)))
    total = convolved(net.mix, up) + convolved(net.parents, features(unfolded(parents)))
    return relu(total - HALF + (bias << BITS))


def reference(prior, name: str, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs of a graph of the codec file for one example of int64 inputs, `(C, H, W)`."""
    scales = prior.density.scales
    if name == "low":
        net = prior.low_entry
        return [relu(convolved(net.read, features(inputs["residual"])) + (inputs["bias"] << BITS))]
    if name.startswith("entry"):
        return [entry(prior.entries[int(name[5:]) - 1], **inputs)]
    level, part = name.removeprefix("level").split(".")
    net = prior.nets[int(level) - 1]
    if part == "start":
        h = block(net.first, inputs["h"])
        return [h, *head(net.heads[0], h, scales)]
    if part == "finish":
        return [update(net.updates[-1], inputs["h"], inputs["g"])]
    k = int(part.removeprefix("pass"))
    h = update(net.updates[k - 1], inputs["h"], inputs["g"])
    return [h, *head(net.heads[k], h, scales)]


def graphs(model) -> list[tuple[str, torch.nn.Module, list[str], dict[str, tuple[int, ...]]]]:
    """Name, module as exported, names of outputs and shapes of inputs of each exact graph."""
    frozen = copy.deepcopy(model)
    with torch.no_grad():
        freeze(frozen.prior)
        return [
            (name, module.eval(), outputs, {key: tuple(x.shape) for key, x in inputs.items()})
            for name, module, inputs, outputs in _graphs(frozen)
            if name not in ("analysis", "synthesis")
        ]


def random_inputs(shapes: dict[str, tuple[int, ...]], seed: int, batch: int, extreme: bool) -> dict[str, np.ndarray]:
    """Integers in the range that each input can have; `extreme`: at its ends."""
    rng = np.random.default_rng(seed)
    inputs = {}
    for name, shape in shapes.items():
        if name in ("h", "state"):
            low, high = 0, ACTIVATION_MAX
        elif name == "bias":
            low, high = -127, 127
        else:
            low, high = -SYMBOL_MAX, SYMBOL_MAX
        spatial = (1, 1) if name == "bias" else (shape[2] * 3, shape[3] * 3)
        size = (batch, shape[1], *spatial)
        ends = rng.choice(np.array([low, high]), size=size)
        inputs[name] = ends if extreme else rng.integers(low, high + 1, size=size)
    return inputs


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


def run_torch(module, inputs, dtype=torch.float32, channels_last=False) -> list[np.ndarray]:
    tensors = [torch.from_numpy(x).to(dtype) for x in inputs.values()]
    if channels_last:
        tensors = [x.contiguous(memory_format=torch.channels_last) for x in tensors]
    with torch.no_grad():
        out = module(*tensors)
    return [x.numpy() for x in (out if isinstance(out, tuple) else (out,))]


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
    for name, module, _, shapes in graphs(tiny.torch):
        for seed, extreme in CASES[:2]:
            one = random_inputs(shapes, seed, 1, extreme)
            wanted = expected(prior, name, one)
            for count in (1, 2):
                threads(count)
                for onednn in (False, True):
                    with torch.backends.mkldnn.flags(enabled=onednn):
                        assert_same(run_torch(module, one), wanted, f"{name}, {count} threads, oneDNN {onednn}")
            assert_same(run_torch(module, one, channels_last=True), wanted, f"{name}, channels last")


def test_a_batch_of_eight_agrees_with_each_alone(tiny):
    for name, module, _, shapes in graphs(tiny.torch):
        eight = random_inputs(shapes, 5, 8, False)
        together = run_torch(module, eight)
        assert_same(together, expected(tiny.torch.prior, name, eight), name)
        for i in range(8):
            alone = run_torch(module, {key: x[i : i + 1] for key, x in eight.items()})
            for a, b in zip(alone, together, strict=True):
                np.testing.assert_array_equal(a[0], b[i])


def test_float64_agrees(tiny):
    """Nothing is lost in float32 that float64 would keep."""
    for name, module, _, shapes in graphs(tiny.torch):
        module.double()
        inputs = random_inputs(shapes, 6, 1, True)
        assert_same(run_torch(module, inputs, torch.float64), expected(tiny.torch.prior, name, inputs), name)


VARIANTS = [{"threads": 1}, {"threads": 2}, {"threads": 1, "optimize": False}, {"threads": 2, "optimize": False}]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_onnx_runtime_agrees_with_integer_arithmetic(tiny, options):
    model = unpack_model(tiny.data, **options)
    for name, _, _, shapes in graphs(tiny.torch):
        for seed, extreme in CASES:
            inputs = random_inputs(shapes, seed, 1, extreme)
            found = model.run(name, {key: x.astype(np.float32) for key, x in inputs.items()})
            assert_same(found, expected(tiny.torch.prior, name, inputs), f"{name} {options}")


def test_the_shipped_graphs_agree_with_a_second_runtime(codec):
    """ONNX's reference evaluator sums in another order, in NumPy."""
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    for array in sorted(codec.model._arrays):
        name = array.removeprefix("graph.")
        if not array.startswith("graph.") or name in ("analysis", "synthesis"):
            continue
        proto = onnx.load_model_from_string(codec.model.array(array).tobytes())
        shapes = {x.name: tuple(d.dim_value or 2 for d in x.type.tensor_type.shape.dim) for x in proto.graph.input}
        inputs = {key: x.astype(np.float32) for key, x in random_inputs(shapes, 7, 1, False).items()}
        assert_same(codec.model.run(name, inputs), ReferenceEvaluator(proto).run(None, inputs), name)


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
            latents = made[0]._latents(from_array(image), tile, level)
            streams = {codec._coder.encode(latents, level, (100, 90))[0] for codec in made}
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
from test_exact import graphs, random_inputs, run_torch
model = build_tiny()
model.load_state_dict(torch.load(sys.argv[2], weights_only=True))
digest = hashlib.sha256()
for name, module, _, shapes in graphs(model.eval()):
    for x in run_torch(module, random_inputs(shapes, 9, 1, False)):
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
    for name, _, _, shapes in graphs(tiny.torch):
        for x in expected(tiny.torch.prior, name, random_inputs(shapes, 9, 1, False)):
            digest.update(x.astype("<f4").tobytes())
    assert found == digest.hexdigest(), f"with {used}"
    if capability == "default":
        assert used.strip().upper() in ("DEFAULT", "NO AVX")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_integer_arithmetic(tiny):
    for name, module, _, shapes in graphs(tiny.torch):
        module.cuda()
        for seed, extreme in CASES:
            inputs = random_inputs(shapes, seed, 8, extreme)
            with torch.no_grad():
                out = module(*(torch.from_numpy(x).float().cuda() for x in inputs.values()))
            found = [x.cpu().numpy() for x in (out if isinstance(out, tuple) else (out,))]
            assert_same(found, expected(tiny.torch.prior, name, inputs), name)


def test_the_inputs_reach_most_of_the_tables(tiny):
    """Agreement on one table would say little."""
    members = set()
    for name, _, outputs, shapes in graphs(tiny.torch):
        if "index" in outputs:
            _, index, skew = expected(tiny.torch.prior, name, random_inputs(shapes, 0, 1, True))
            members |= set(zip(index.ravel().tolist(), skew.ravel().tolist(), strict=True))
    assert len(members) > 100


# --- the bound -----------------------------------------------------------------------------------------------------


def test_the_bound_of_the_tiny_model_is_met_with_room(tiny):
    assert 0 < check_exact(tiny.torch.prior) < 0.5


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


@pytest.mark.parametrize("place", ["low_entry.read", "entries.0.up", "entries.2.mix", "nets.0.heads.1.out",
                                   "nets.1.first.depthwise", "nets.2.updates.0.read"])  # fmt: skip
def test_weights_beyond_the_bound_are_not_exported(tiny, place):
    """A channel with one huge bias, in units of its small step."""
    prior = copy.deepcopy(tiny.torch.prior)
    layer = prior.get_submodule(place)
    check_exact(prior)
    with torch.no_grad():
        layer.bias.fill_(1e5)
    with pytest.raises(ModelError, match=r"past the 16777216.*export again"):
        check_exact(prior)


def split_entry(tiny):
    """An entry whose two convolutions stay in range alone but not together: large weights in one, a fine step in the
    other. A library that adds the second convolution into the output of the first would round on the way."""
    prior = copy.deepcopy(tiny.torch.prior)
    net = prior.entries[0]
    with torch.no_grad():
        net.mix.weight.fill_(60.0)
        net.mix.bias.zero_()
        net.parents.weight.fill_(126 * 2.0**-12)
        net.parents.weight[:, 0] = 2.0**-12
        net.parents.bias.zero_()
    return prior, net


def test_two_convolutions_that_are_added_are_bounded_together(tiny):
    prior, net = split_entry(tiny)
    for layer in (net.mix, net.parents):
        layer.accumulator_bound(added=4.0 * ACTIVATION_MAX)  # each alone is in range
    with pytest.raises(ModelError, match="past the 16777216"):
        net.mix.accumulator_bound(net.parents, added=4.0 * ACTIVATION_MAX)
    with pytest.raises(ModelError, match="past the 16777216"):
        check_exact(prior)


# --- companding ----------------------------------------------------------------------------------------------------


def test_companding_agrees_in_both_halves():
    q = np.concatenate([np.arange(-300, 301), [-32768, 32767]]).astype(np.int16)
    ours = compand(q).astype(int)
    theirs = exact.compand(torch.from_numpy(q).float()).numpy()
    np.testing.assert_array_equal(ours, theirs)
    clip = [np.clip(q.astype(int), -k, k) for k in (1, 4, 16, 64)]
    np.testing.assert_array_equal(ours, 8 * clip[0] + 4 * clip[1] + 2 * clip[2] + clip[3])
    assert np.abs(ours).max() == SYMBOL_MAX
    assert (np.diff(ours[200:401]) >= 0).all()


@given(st.floats(-1e6, 1e6, width=32))
def test_rounding_clips_to_a_byte(x):
    found = exact_relu(torch.tensor(x)).item()
    assert found == min(max(np.floor(x), 0), ACTIVATION_MAX)


def test_groups_cover_each_channel_once():
    for level in range(1, 6):
        channels = [c for group in groups_of_level(level) for c in group]
        assert sorted(channels) == list(range(36))
