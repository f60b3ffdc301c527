"""The codec file: a trained rounding model packed for coding. One safetensors file holds

- `card`: JSON as UTF-8 bytes (name, version of the layout, kind of coder, tile, halos, training data and terms),
- `graph.NAME`: ONNX graphs, as bytes; each weight occurs once,
- `lam`: float64, the weight of distortion at each quality level,
- the integer tables of the entropy coder.

It contains no code and no pickle. The model's identity is the first 8 bytes of the SHA-256 of the whole file;
compressed files carry it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from rdae.coding.container import QUALITY_LEVELS
from rdae.coding.tables import Tables
from rdae.errors import ModelError, TableError

__all__ = [
    "CODEC_SUFFIX", "CODEC_VERSION", "Model", "load_model", "pack_model", "shipped_models", "unpack_model",
    "usable_cores",
]  # fmt: skip

CODEC_VERSION = 1
CODEC_SUFFIX = ".codec"
SHIPPED = Path(__file__).parent / "models"
DAMAGED = "The codec file is damaged: fetch it again."
TABLES_MAX = 1 << 16  # table numbers are kept as uint16
FILE_MAX = 1 << 28  # a codec file larger than 256 MiB is refused before it is read


class Model:
    """A codec file in memory.

    Args:
        arrays: what the file holds.
        identity: 8 bytes that name the model in compressed files.
        threads: of ONNX Runtime; 0 takes all cores.
        optimize: False switches graph optimisations off (results of the exact graphs do not change).
    """

    def __init__(
        self, arrays: dict[str, np.ndarray], identity: bytes, *, threads: int = 0, optimize: bool = True
    ) -> None:
        self._arrays = arrays
        self.identity = identity
        self.card: dict[str, Any] = _card(arrays)
        self.threads, self._optimize = threads, optimize
        self._sessions: dict[tuple[str, int], Any] = {}
        self._lock = threading.Lock()
        lam = self.lam
        if lam.shape != (QUALITY_LEVELS,) or lam.dtype.kind != "f" or not (np.diff(lam) > 0).all():
            raise ModelError(f"Model {self.name!r} lacks a rising lam for each of {QUALITY_LEVELS} quality levels.")
        if not (lam[0] > 0 and lam[-1] <= np.finfo(np.float32).max):  # graphs take it as float32
            raise ModelError(
                f"Model {self.name!r}: lam should be positive and within float32, not {lam[0]:g} to {lam[-1]:g}. "
                "The codec file is damaged: fetch it again."
            )

    @property
    def name(self) -> str:
        """Name of the model, as in `rdae models`."""
        return str(self.card["name"])

    @property
    def lam(self) -> np.ndarray:
        """Weight of distortion of each quality level; rises."""
        return self.array("lam")

    def array(self, name: str) -> np.ndarray:
        """An array of the codec file.

        Raises:
            ModelError: the file has none of that name.
        """
        if name not in self._arrays:
            raise ModelError(f"Model {self.name!r} has no array {name!r}. The codec file is damaged: fetch it again.")
        return self._arrays[name]

    def tables(self, name: str) -> Tables:
        """Integer tables of the codec file, from its arrays `NAME.reach` and `NAME.counts`.

        Raises:
            ModelError: there are none, or they are no tables.
        """
        try:
            return Tables(self.array(f"{name}.reach"), self.array(f"{name}.counts"))
        except TableError as error:
            raise ModelError(f"The tables {name!r} of model {self.name!r} are damaged: {error}") from error

    def whole(self, key: str, least: int, most: int) -> int:
        """A whole number of the card.

        Raises:
            ModelError: it is missing, no whole number, or not between `least` and `most`.
        """
        return self._whole(self.card.get(key), key, least, most)

    def pair(self, key: str, least: int, most: int) -> tuple[int, int]:
        """Two whole numbers of the card.

        Raises:
            ModelError: they are missing, not two whole numbers, or not between `least` and `most`.
        """
        value = self.card.get(key)
        if not isinstance(value, list) or len(value) != 2:
            raise ModelError(f"Model {self.name!r}: {key} should be two whole numbers, not {value!r}. {DAMAGED}")
        return self._whole(value[0], key, least, most), self._whole(value[1], key, least, most)

    def weight(self, key: str) -> float:
        """A number of the card that is finite and not negative.

        Raises:
            ModelError: it is missing or not such a number.
        """
        value = self.card.get(key)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < math.inf:
            raise ModelError(f"Model {self.name!r}: {key} should be a number from 0, not {value!r}. {DAMAGED}")
        return float(value)

    def rows(self, name: str, columns: int | None = None) -> np.ndarray:
        """An integer array with one row per quality level, `(levels, columns)` int64.

        Raises:
            ModelError: it is missing, of another shape, or holds no whole numbers.
        """
        array = self.array(name)
        if (
            array.ndim != 2
            or array.dtype.kind not in "iu"
            or 0 in array.shape
            or (array.shape != (len(self.lam), array.shape[1] if columns is None else columns))
        ):
            raise ModelError(
                f"Model {self.name!r}: array {name!r} is {array.dtype} {array.shape}, not whole numbers with a row for "
                f"each quality level. {DAMAGED}"
            )
        return array.astype(np.int64)

    def table_numbers(self, name: str, tables: Tables) -> np.ndarray:
        """An integer array of any shape that names tables, int64.

        Raises:
            ModelError: it is missing, or names a table that is not there.
        """
        array = self.array(name)
        inside = array.dtype.kind in "iu" and array.size and array.min() >= 0 and array.max() < len(tables)
        if not inside or len(tables) > TABLES_MAX:
            raise ModelError(f"Model {self.name!r} names tables that it does not hold. Fetch the codec file again.")
        return array.astype(np.int64)

    def _whole(self, value: Any, key: str, least: int, most: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ModelError(
                f"Model {self.name!r}: {key} should be a whole number from {least} to {most}, not {value!r}. {DAMAGED}"
            )
        return value

    @property
    def cores(self) -> int:
        """Threads that a graph may use."""
        return self.threads or usable_cores()

    def run(
        self, graph: str, inputs: dict[str, Any], count: int | None = None, *, keep: bool = True, alone: bool = True
    ) -> list[Any]:
        """Outputs of a graph, the first `count` or all of them, for arrays of the types that the graph declares.

        Args:
            graph: its name.
            inputs: by name.
            count: of outputs.
            keep: whether the runtime keeps the memory it worked in for the next time.
            alone: False for one that runs beside others, in whose way threads of its own would be.

        Raises:
            ModelError: the file has no such graph, or the runtime refuses it.
        """
        session = self._session(graph, self.cores if alone else 1)
        try:
            return session.run([output.name for output in session.get_outputs()[:count]], inputs, _options(keep))
        except Exception as error:  # the runtime raises classes of its own, all meaning that graph and inputs disagree
            raise ModelError(f"The graph {graph!r} of model {self.name!r} failed: {error}") from error

    def run_to(
        self, graph: str, inputs: dict[str, Any], shapes: Sequence[tuple[int, ...]], *, keep: bool = True
    ) -> list[np.ndarray]:
        """Like `run`, for a graph whose first outputs must be float32 and of these shapes.

        Raises:
            ModelError: as `run`, or they are not.
        """
        outputs = self.run(graph, inputs, len(shapes), keep=keep)
        found = [(np.shape(x), str(np.asarray(x).dtype)) for x in outputs]
        due = [(tuple(shape), "float32") for shape in shapes]
        if found != due:
            raise ModelError(
                f"The graph {graph!r} of model {self.name!r} gives {found} where {due} is due: the parts of the file "
                f"do not fit together. {DAMAGED}"
            )
        return outputs

    def lam_of(self, level: int) -> np.ndarray:
        """lam of a quality level as graphs take it, `(1,)` float32."""
        return self.lam[level : level + 1].astype(np.float32)

    def has(self, name: str) -> bool:
        """Whether the file holds an array of that name; a graph is `graph.NAME`."""
        return name in self._arrays

    def _session(self, graph: str, threads: int) -> Any:
        with self._lock:
            if (graph, threads) not in self._sessions:
                self._sessions[graph, threads] = self._open(graph, threads)
            return self._sessions[graph, threads]

    def _open(self, graph: str, threads: int) -> Any:
        import onnxruntime as ort  # a tenth of a second that `info` and `--help` need not pay

        data = self.array(f"graph.{graph}").tobytes()
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # each of twenty graphs has threads of its own: those of one must not spin while another works
        options.add_session_config_entry("session.force_spinning_stop", "1")
        # work is handed out in small pieces: a core that is busy elsewhere then holds up less
        options.add_session_config_entry("session.dynamic_block_base", "4")
        if not self._optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelError(f"The graph {graph!r} of a codec file cannot be loaded: {error}") from error


def _options(keep: bool) -> Any:
    """Of a run; None for the usual ones."""
    if keep:
        return None
    import onnxruntime as ort

    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def usable_cores() -> int:
    """Cores this process may use. The runtime's own default also ties its threads to cores, allowed or not."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _card(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    try:
        card = json.loads(arrays["card"].tobytes().decode("utf-8"))
        version = card["version"]
        card["coder"], card["tile"], card["halo"]
        if not isinstance(card["name"], str):
            raise TypeError(f"the name {card['name']!r} is no text")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ModelError(
            f"This is not a codec file ({error!r} in its card). Pass one that `rdae train` wrote."
        ) from error
    if version != CODEC_VERSION:
        raise ModelError(
            f"This codec file has layout version {version}, this package reads version {CODEC_VERSION}. "
            "Install the version of rdae that matches the file."
        )
    return card


def pack_model(card: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
    """The bytes of a codec file; the same parts give the same bytes."""
    text = json.dumps({**card, "version": CODEC_VERSION}, sort_keys=True).encode("utf-8")
    return save_arrays({**arrays, "card": np.frombuffer(text, dtype=np.uint8)})


def unpack_model(data: bytes, **options: Any) -> Model:
    """A model from the bytes of a codec file; keyword arguments as for `Model`.

    Raises:
        ModelError: the bytes are no codec file of this version.
    """
    try:
        arrays = load_arrays(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"This is not a codec file ({error}). Pass one that `rdae train` wrote.") from error
    return Model(arrays, hashlib.sha256(data).digest()[:8], **options)


def shipped_models() -> dict[str, Path]:
    """Names and paths of the codec files inside the package."""
    return {path.stem: path for path in sorted(SHIPPED.glob(f"*{CODEC_SUFFIX}"), key=lambda path: path.stem)}


def load_model(name: str | Path, **options: Any) -> Model:
    """A model by the name of a shipped one, or by the path of a codec file.

    Args:
        name: of a shipped model, or a path.
        options: as for `Model`.

    Raises:
        ModelError: no such model or file, or the file is no codec file.
    """
    shipped = shipped_models()
    path = shipped.get(str(name), Path(name))
    try:
        size = path.stat().st_size
        if size > FILE_MAX:
            raise ModelError(f"{path} has {size} bytes; codec files have at most {FILE_MAX}. Is it a codec file?")
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"There is no model {str(name)!r}: neither shipped ({', '.join(shipped) or 'none'}) nor a readable file. "
            "`rdae models` lists the shipped ones."
        ) from error
    return unpack_model(data, **options)
