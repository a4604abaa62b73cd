"""A TensorFlow.js graph evaluated node by node in numpy (NHWC, float32): the slow reference for converted weights.

It shares no code with the networks it checks: convolutions are sums of shifted matrix products, and the graph's own
post-processing (peaks, people, boxes) runs too. Only the operations of the MoveNet graphs are here; another operation
is a `NotImplementedError` that names it.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Relu": lambda x: np.maximum(x, 0),
    "Relu6": lambda x: np.clip(x, 0, 6),
}
DTYPES = {"float32": np.float32, "int32": np.int32, "bool": np.bool_}
CAST = {"DT_FLOAT": np.float32, "DT_INT32": np.int64, "DT_BOOL": np.bool_}


@dataclass(frozen=True)
class Graph:
    """The nodes of a graph in order of evaluation, and its constants as stored (fp16 stays fp16)."""

    nodes: tuple[dict[str, Any], ...]
    constants: dict[str, np.ndarray]


def read_graph(model_json: bytes, weights: bytes) -> Graph:
    """The graph of a `model.json` and its one weight file."""
    model = json.loads(model_json)
    constants, start = {}, 0
    for entry in (entry for group in model["weightsManifest"] for entry in group["weights"]):
        stored = entry.get("quantization", {}).get("dtype", entry["dtype"])
        dtype = np.dtype(np.float16 if stored == "float16" else DTYPES[stored])
        count = int(np.prod(entry["shape"], dtype=int))
        constants[entry["name"]] = np.frombuffer(weights, dtype, count, start).reshape(entry["shape"])
        start += count * dtype.itemsize
    if start != len(weights):
        raise ValueError(f"the manifest describes {start} bytes of weights, the file has {len(weights)}")
    return Graph(tuple(_in_order(model["modelTopology"]["node"])), constants)


def run_graph(graph: Graph, inputs: Mapping[str, np.ndarray], wanted: Sequence[str]) -> list[np.ndarray]:
    """The values of the `wanted` nodes for the given placeholder values."""
    values: dict[str, Any] = dict(inputs)

    def value(name: str) -> Any:
        node, _, output = name.partition(":")
        result = values[node]
        return result[int(output or 0)] if isinstance(result, list) else result

    for node in graph.nodes:
        name = node["name"]
        if name in graph.constants:
            constant = graph.constants[name]
            values[name] = constant.astype(np.float32) if constant.dtype == np.float16 else constant
        elif node["op"] != "Placeholder":
            # ^name only says that the other node comes first.
            arguments = [value(i) for i in node.get("input", []) if not i.startswith("^")]
            values[name] = _evaluate(node["op"], node.get("attr", {}), arguments)
    return [value(name) for name in wanted]


def _in_order(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    waiting, done, order = list(nodes), set(), []
    while waiting:
        ready = [n for n in waiting if all(i.lstrip("^").split(":")[0] in done for i in n.get("input", []))]
        if not ready:
            raise ValueError("the graph has a cycle or a missing node")
        order += ready
        done |= {n["name"] for n in ready}
        waiting = [n for n in waiting if n["name"] not in done]
    return order


def _text(attribute: str) -> str:
    return base64.b64decode(attribute).decode()


def _ints(attributes: dict[str, Any], key: str) -> list[int]:
    return [int(i) for i in attributes.get(key, {}).get("list", {}).get("i", [])]


def _int(attributes: dict[str, Any], key: str) -> int:
    return int(attributes.get(key, {}).get("i", 0))


def _evaluate(op: str, attributes: dict[str, Any], x: list[Any]) -> Any:
    if op in ELEMENTWISE:
        return ELEMENTWISE[op](*x)
    if op in SHAPED:
        return SHAPED[op](attributes, x)
    if op in ("_FusedConv2D", "FusedDepthwiseConv2dNative", "Conv2D", "DepthwiseConv2dNative"):
        result = _convolve(x[0], x[1], attributes, "Depthwise" in op)
        fused = [_text(f) for f in attributes.get("fused_ops", {}).get("list", {}).get("s", [])]
        for name in fused:
            result = result + x[2] if name == "BiasAdd" else ACTIVATIONS[name](result)
        return result
    raise NotImplementedError(f"operation {op!r} is not among those of the MoveNet graphs")


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _windows(x: np.ndarray, kernel: Sequence[int], stride: int, same: bool, fill: float) -> list[np.ndarray]:
    """For each kernel cell, row by row, the input values that it meets (each in the shape of the output)."""
    if same:
        pads = [_same_padding(x.shape[axis], kernel[axis - 1], stride) for axis in (1, 2)]
        x = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=fill)
    rows, columns = ((x.shape[axis] - kernel[axis - 1]) // stride + 1 for axis in (1, 2))
    return [
        x[:, i : i + (rows - 1) * stride + 1 : stride, j : j + (columns - 1) * stride + 1 : stride]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]


def _convolve(x: np.ndarray, weight: np.ndarray, attributes: dict[str, Any], depthwise: bool) -> np.ndarray:
    if _ints(attributes, "dilations") not in ([], [1, 1, 1, 1]):
        raise NotImplementedError(f"dilated convolution {_ints(attributes, 'dilations')}")
    same = _text(attributes["padding"]["s"]) == "SAME"
    windows = _windows(x, weight.shape[:2], _ints(attributes, "strides")[1], same, 0.0)
    cells = weight.reshape(-1, *weight.shape[2:])
    if depthwise:
        return sum(window * cell[:, 0] for window, cell in zip(windows, cells, strict=True))
    return sum(window @ cell for window, cell in zip(windows, cells, strict=True))


def _max_pool(attributes: dict[str, Any], x: list[Any]) -> np.ndarray:
    same = _text(attributes["padding"]["s"]) == "SAME"
    kernel, stride = _ints(attributes, "ksize")[1:3], _ints(attributes, "strides")[1]
    return np.max(_windows(x[0], kernel, stride, same, -np.inf), axis=0)


def _resize_bilinear(attributes: dict[str, Any], x: list[Any]) -> np.ndarray:
    if not attributes["half_pixel_centers"]["b"]:
        raise NotImplementedError("ResizeBilinear without half_pixel_centers")
    result = x[0]
    for axis, size in zip((1, 2), x[1], strict=True):
        old = result.shape[axis]
        position = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1).astype(np.float32)
        low = position.astype(int)
        share = np.expand_dims(position - low, tuple(a for a in range(4) if a != axis))
        high = np.minimum(low + 1, old - 1)
        result = result.take(low, axis) * (1 - share) + result.take(high, axis) * share
    return result


def _strided_slice(attributes: dict[str, Any], x: list[Any]) -> np.ndarray:
    masks = [_int(attributes, f"{m}_mask") for m in ("begin", "end", "shrink_axis", "new_axis", "ellipsis")]
    index: list[Any] = []
    for d, (begin, end, step) in enumerate(zip(*x[1:4], strict=True)):
        no_begin, no_end, shrink, new, ellipsis = (mask >> d & 1 for mask in masks)
        if ellipsis:
            index.append(Ellipsis)
        elif new:
            index.append(None)
        elif shrink:
            index.append(int(begin))
        else:
            index.append(slice(None if no_begin else int(begin), None if no_end else int(end), int(step)))
    return np.asarray(x[0])[tuple(index)]


def _top_k(attributes: dict[str, Any], x: list[Any]) -> list[np.ndarray]:
    index = np.argsort(-x[0], axis=-1, kind="stable")[..., : int(x[1])]
    return [np.take_along_axis(x[0], index, -1), index]


def _squeeze(attributes: dict[str, Any], x: list[Any]) -> np.ndarray:
    axes = _ints(attributes, "squeeze_dims") or _ints(attributes, "axis")
    return np.squeeze(x[0], tuple(axes) if axes else None)


def _unpack(attributes: dict[str, Any], x: list[Any]) -> list[np.ndarray]:
    axis = _int(attributes, "axis")
    return [np.take(x[0], i, axis) for i in range(x[0].shape[axis])]


ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "Identity": lambda x: x,
    "Add": np.add,
    "AddV2": np.add,
    "AddN": lambda *x: sum(x),
    "Sub": np.subtract,
    "Mul": np.multiply,
    "RealDiv": np.divide,
    "FloorDiv": np.floor_divide,
    "SquaredDifference": lambda a, b: (a - b) ** 2,
    "Reciprocal": lambda x: 1 / x,
    "Sqrt": np.sqrt,
    "Exp": np.exp,
    "Abs": np.abs,
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Less": np.less,
    "Greater": np.greater,
    "GreaterEqual": np.greater_equal,
    "Equal": np.equal,
    "LogicalAnd": np.logical_and,
    "Select": np.where,
    "ZerosLike": np.zeros_like,
    "Shape": lambda x: np.array(np.shape(x)),
    "Size": np.size,
    "Range": lambda start, end, step: np.arange(start, end, step, dtype=np.asarray(start).dtype),
    "Fill": np.full,
    "Tile": np.tile,
    "Reshape": np.reshape,
    "ExpandDims": lambda x, axis: np.expand_dims(x, int(axis)),
    "ArgMax": lambda x, axis: np.argmax(x, int(axis)),
    "GatherNd": lambda x, index: x[tuple(np.moveaxis(index.astype(int), -1, 0))],
    "ConcatV2": lambda *x: np.concatenate(x[:-1], int(x[-1])),
}
SHAPED: dict[str, Callable[[dict[str, Any], list[Any]], Any]] = {
    "Cast": lambda a, x: np.asarray(x[0]).astype(CAST[a["DstT"]["type"]]),
    "Squeeze": _squeeze,
    "Unpack": _unpack,
    "Pack": lambda a, x: np.stack(x, _int(a, "axis")),
    "Split": lambda a, x: np.split(x[1], _int(a, "num_split"), int(x[0])),
    "Max": lambda a, x: np.max(x[0], tuple(np.atleast_1d(x[1])), keepdims=bool(a.get("keep_dims", {}).get("b"))),
    "Sum": lambda a, x: np.sum(x[0], tuple(np.atleast_1d(x[1])), keepdims=bool(a.get("keep_dims", {}).get("b"))),
    "MaxPool": _max_pool,
    "ResizeBilinear": _resize_bilinear,
    "StridedSlice": _strided_slice,
    "TopKV2": _top_k,
}
