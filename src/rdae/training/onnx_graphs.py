"""PyTorch modules as ONNX graphs, the same bytes for the same module."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

__all__ = ["OPSET", "TILE", "to_onnx"]

OPSET = 17
TILE = 1024  # pixels that graphs are given at a time in each direction


def _simplified(path: Path) -> Path:
    """The same graph with constants folded: standard operators, half the nodes, so half the time to load."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    simple = path.with_name("simple.onnx")
    options.optimized_model_filepath = str(simple)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return simple


def to_onnx(module: nn.Module, inputs: dict[str, Tensor], outputs: list[str]) -> bytes:
    """An ONNX graph of a module for inputs of any height and width; the same module gives the same bytes."""
    moving = {name: {2: f"{name}_h", 3: f"{name}_w"} for name, x in inputs.items() if x.ndim == 4 and x.shape[-1] > 1}
    moving |= {name: {0: f"{name}_h", 1: f"{name}_w"} for name, x in inputs.items() if x.ndim == 3}
    with torch.no_grad():
        made = module(*inputs.values())
    for name, x in zip(outputs, [made] if isinstance(made, Tensor) else made, strict=True):
        if x.ndim > 2:  # (B, C, H, W), or pixels (H, W, 3)
            moving[name] = {2: f"{name}_h", 3: f"{name}_w"} if x.ndim == 4 else {0: "height", 1: "width"}
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        path = Path(folder) / "graph.onnx"
        torch.onnx.export(
            module, tuple(inputs.values()), path, input_names=list(inputs), output_names=outputs,
            dynamic_axes=moving, opset_version=OPSET, dynamo=False,
        )  # fmt: skip
        graph = onnx.load_model(_simplified(path))
    del graph.metadata_props[:]
    graph.producer_name, graph.producer_version, graph.doc_string = "rdae", "", ""
    for node in graph.graph.node:
        node.doc_string = ""
    onnx.checker.check_model(graph)
    return graph.SerializeToString(deterministic=True)
