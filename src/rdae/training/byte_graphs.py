"""Networks of bytes as ONNX graphs: one QLinearConv a layer, written down node by node.

Powers of two are exact in float32, so the scales of QLinearConv lose nothing, and every runtime that follows the
standard (sums in 32 bits, halves to even) gives the same bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from rdae.coding.network_bytes import SIGNED_ZERO
from rdae.networks.bytes import ByteBlock, ByteConv
from rdae.training.onnx_graphs import OPSET

__all__ = ["ByteGraph", "whole_bias"]


def whole_bias(layer: ByteConv) -> np.ndarray:
    """Biases of a layer in units of its steps, int32."""
    with torch.no_grad():
        _, bias, step = layer.quantised()
        return (bias / step).round().to(torch.int32).numpy()


def _in_steps(layer: ByteConv, unit: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whole weights of a layer, its steps in units of the output, whole biases."""
    with torch.no_grad():
        weight, _, step = layer.quantised()
        whole = (weight / step[:, None, None, None]).to(torch.int8)
    return whole.numpy(), (step / unit).numpy(), whole_bias(layer)


class ByteGraph:
    """A graph of bytes in the making; its methods add a node and return the name of what it computes."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._arrays: dict[str, np.ndarray] = {}
        self._inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, channels: int) -> str:
        """Bytes of any height and width, `(1, channels, h, w)`."""
        shape: list[str | int | None] = [1, channels, f"{name}_h", f"{name}_w"]
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.UINT8, shape))
        return name

    def state(self, name: str, channels: int) -> str:
        """Bytes that another graph left, `(1, h, w, channels)`: convolutions of bytes want channels last, and a
        runtime then has nothing to turn over. Their value has channels first, as all others."""
        shape: list[str | int | None] = [1, f"{name}_h", f"{name}_w", channels]
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.UINT8, shape))
        return self._add("Transpose", [name], perm=[0, 3, 1, 2])

    def told(self, name: str, count: int) -> str:
        """Bytes that are the same everywhere in a picture, `(1, count, 1, 1)`."""
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.UINT8, [1, count, 1, 1]))
        return name

    def signed(self, name: str, channels: int) -> str:
        """Float32 numbers, `(1, channels, h, w)`, as signed bytes: clipped to [-128, 127] and rounded."""
        shape: list[str | int | None] = [1, channels, f"{name}_h", f"{name}_w"]
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return self._add("QuantizeLinear", [name, self._constant(np.float32(1)), self._constant(np.uint8(SIGNED_ZERO))])

    def planes(self, told: str, like: str) -> str:
        """Constant planes of such bytes, of the height and width of another value."""
        size = self._add("Shape", [like], start=2)
        return self._add(
            "Expand", [told, self._add("Concat", [self._constant(np.ones(2, dtype=np.int64)), size], axis=0)]
        )

    def conv(self, x: str, layer: ByteConv, *, zero: int = 0, zero_in: int = 0) -> str:
        """A layer; its output is `round(sum * step) + zero`, clipped to a byte.

        Args:
            x: its input.
            layer: its weights.
            zero: the byte that stands for 0 in what it computes.
            zero_in: the same of what it reads.
        """
        return self.convs(x, [(layer, 1.0)], zero=zero, zero_in=zero_in)

    def convs(self, x: str, layers: list[tuple[ByteConv, float]], *, zero: int = 0, zero_in: int = 0) -> str:
        """Layers of one kernel size side by side, each with the unit of its output, a power of two."""
        parts = [_in_steps(layer, unit) for layer, unit in layers]
        whole, steps, bias = (np.concatenate(part) for part in zip(*parts, strict=True))
        kernel, padding = layers[0][0].kernel, layers[0][0].padding
        return self._add(
            "QLinearConv",
            [
                x, self._constant(np.float32(1)), self._constant(np.uint8(zero_in)),
                self._array(whole), self._array(steps), self._constant(np.zeros(len(whole), dtype=np.int8)),
                self._constant(np.float32(1)), self._constant(np.uint8(zero)), self._array(bias),
            ],
            kernel_shape=[kernel] * 2, pads=[padding] * 4,
        )  # fmt: skip

    def block(self, h: str, block: ByteBlock, *more: str) -> str:
        """`ByteBlock`."""
        mixed = self.conv(self.concat(h, *more), block.mix)
        return self.add(h, self.conv(mixed, block.change, zero=SIGNED_ZERO))

    def add(self, h: str, change: str, *, zero: int = 0) -> str:
        """`h + change` for a signed change, clipped to a byte; `zero` is the byte that stands for 0 in h."""
        one, none = self._constant(np.float32(1)), self._constant(np.uint8(0))
        middle, own = self._constant(np.uint8(SIGNED_ZERO)), self._constant(np.uint8(zero))
        return self._add("QLinearAdd", [h, one, own, change, one, middle, one, none], domain="com.microsoft")

    def concat(self, *parts: str) -> str:
        """Channels of all parts, joined with channels last: a state lies so already, and so convolutions read it."""
        if len(parts) == 1:
            return parts[0]
        turned = [self._add("Transpose", [part], perm=[0, 2, 3, 1]) for part in parts]
        return self._add("Transpose", [self._add("Concat", turned, axis=3)], perm=[0, 3, 1, 2])

    def depth_to_space(self, x: str, channels: int) -> str:
        """`networks.shuffle.depth_to_space`, to so many channels, moved together: channels last, like a state.

        Several times as fast as the operator of that name, which moves one byte at a time.
        """
        count = np.array(channels, dtype=np.int64)
        phases = np.arange(4 * channels).reshape(channels, 4).T.ravel()  # those of a phase together
        x = self._add("Transpose", [self._add("Gather", [x, self._constant(phases)], axis=1)], perm=[0, 2, 3, 1])
        sides = self._add("Shape", [x], start=1, end=3)
        apart = self._add("Reshape", [x, self._constant(np.array([0, 0, 0, 2, 2, channels]))])
        apart = self._add("Transpose", [apart], perm=[0, 1, 3, 2, 4, 5])
        double = self._add("Mul", [sides, self._constant(np.array(2))])
        one = self._constant(np.ones(1, dtype=np.int64))
        size = self._add("Concat", [one, double, self._constant(count[None])], axis=0)
        return self._add("Transpose", [self._add("Reshape", [apart, size])], perm=[0, 3, 1, 2])

    def floats(self, x: str, unit: float, zero: int) -> str:
        """Bytes as float32 numbers, `unit * (x - zero)`."""
        return self._add("DequantizeLinear", [x, self._constant(np.float32(unit)), self._constant(np.uint8(zero))])

    def finish(
        self, outputs: dict[str, str], *, state: str | None = None, floats: dict[str, str] | None = None
    ) -> bytes:
        """The graph.

        Args:
            outputs: which computed value each output is.
            state: a value for the graphs that follow, the first output, `next`: channels last, see `state`.
            floats: further outputs, of float32.
        """
        nodes, values = list(self._nodes), []
        if state:
            nodes.append(helper.make_node("Transpose", [state], ["next"], perm=[0, 2, 3, 1]))
            values.append(helper.make_tensor_value_info("next", TensorProto.UINT8, [1, "next_h", "next_w", None]))
        for kind, named in ((TensorProto.UINT8, outputs), (TensorProto.FLOAT, floats or {})):
            nodes += [helper.make_node("Identity", [value], [name]) for name, value in named.items()]
            shapes = {name: [1, None, f"{name}_h", f"{name}_w"] for name in named}
            values += [helper.make_tensor_value_info(name, kind, shape) for name, shape in shapes.items()]
        arrays = [numpy_helper.from_array(array, name) for name, array in self._arrays.items()]
        graph = helper.make_graph(nodes, "bytes", self._inputs, values, arrays)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="rdae", ir_version=8)
        return model.SerializeToString(deterministic=True)

    def _add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def _constant(self, array: np.ndarray | np.generic) -> str:
        """An array that nothing is learned of; the same one for all that are equal."""
        array = np.asarray(array)
        for name, known in self._arrays.items():
            if name.startswith("c") and known.dtype == array.dtype and np.array_equal(known, array):
                return name
        return self._array(array, kind="c")

    def _array(self, array: np.ndarray, kind: str = "k") -> str:
        name = f"{kind}{len(self._arrays)}"
        self._arrays[name] = array
        return name
