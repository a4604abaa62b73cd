"""``tripose onnx``: a learned model as one ONNX file, for any number of samples and views, checked against torch."""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

import tripose
from tripose.cameras import Cameras, Up
from tripose.errors import TriposeError, missing_extra
from tripose.formats.writing import atomic
from tripose.geometry.heatmaps import size_of
from tripose.geometry.volume import Cuboid, integrate_volumes, place_cuboid
from tripose.models.algebraic import AlgebraicTriangulation
from tripose.models.config import Algebraic, Volumetric
from tripose.models.evidence import EvidenceTriangulation
from tripose.models.inference import for_inference
from tripose.models.ransac import RansacTriangulation
from tripose.models.views import crop_projections
from tripose.models.volumetric import VolumetricTriangulation
from tripose.models.weights import load_model

# Samples and views of the example that is traced, and of the one that is checked. An exporter that takes a number for
# granted is found out because no number is the same.
_TRACED, _CHECKED = (2, 3), (1, 4)
_ALLOWED = {"keypoints_mm": 0.05, "keypoints_px": 1e-3, "confidence": 1e-4}

_MEANING = {
    "images": "[batch view 3 height width] crops, RGB in 0..1",
    "projections": "[batch view 3 4] projection matrices of the crops (ideal pinholes), world mm to crop px; the "
    "centre of the top-left pixel is (0, 0)",
    "center_mm": "[batch 3] where the cuboid stands in the world: the person's pelvis, or the middle of the hips",
    "world_up": "[3] the axis of the world that points up, for example (0, 0, 1) or (0, -1, 0); of any other "
    "direction the nearest axis is taken",
    "keypoints_mm": "[batch joint 3] world; NaN where the views do not determine a joint",
    "keypoints_px": "[batch view joint 2] x, y in the crops",
    "confidence": "[batch view joint] weight of every view in keypoints_mm; about one in sum over the views",
}


class AlgebraicGraph(nn.Module):
    """What the file of an algebraic model computes; inputs and outputs are those of `_MEANING`."""

    outputs = ("keypoints_mm", "keypoints_px", "confidence")

    def __init__(self, model: AlgebraicTriangulation) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, images: Float[Tensor, "batch view 3 height width"], projections: Float[Tensor, "batch view 3 4"]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Float32 images, float64 projections: millimetres far from the origin need it."""
        heatmaps, confidence = (r.unflatten(0, images.shape[:2]) for r in self.model.encode(images.flatten(0, 1)))
        located = self.model.locate(heatmaps, confidence, projections, size_of(images))
        return located.keypoints_mm, located.keypoints_px, located.confidence


class VolumetricGraph(nn.Module):
    """What the file of a volumetric model computes.

    The cuboid has to stand upright as in training, and only the user knows the world, so its up-axis is an input.
    """

    outputs = ("keypoints_mm",)
    turns: Float[Tensor, "axis 3 3"]
    axes: Float[Tensor, "axis 3"]

    def __init__(self, model: VolumetricTriangulation) -> None:
        super().__init__()
        self.model = model
        config = model.config
        origin = torch.zeros(1, 3, dtype=torch.float64)
        turns = [
            place_cuboid(origin, config.side_mm, config.voxels, up=config.up, world_up=up).turn for up in get_args(Up)
        ]
        self.register_buffer("turns", torch.cat(turns))
        self.register_buffer("axes", torch.stack([_axis(up) for up in get_args(Up)]))

    def forward(
        self,
        images: Float[Tensor, "batch view 3 height width"],
        projections: Float[Tensor, "batch view 3 4"],
        center_mm: Float[Tensor, "batch 3"],
        world_up: Float[Tensor, 3],
    ) -> tuple[Tensor]:
        """Float32 images, the rest float64."""
        model, config = self.model, self.model.config
        turn = self.turns[(self.axes @ world_up).argmax()].expand(center_mm.shape[0], 3, 3)
        cuboid = Cuboid(center_mm, turn, config.side_mm, config.voxels)
        features, confidence = (r.unflatten(0, images.shape[:2]) for r in model.encode(images.flatten(0, 1)))
        volumes = model.volumes(features, confidence, projections, size_of(images), cuboid, chunk=None)
        return (integrate_volumes(volumes, cuboid, relu=not config.softmax),)


def export_onnx(folder: Path | str, path: Path | str) -> dict[str, float]:
    """Write an algebraic or volumetric model as one ONNX file, and check it with onnxruntime.

    Inputs, outputs and their units are described in the file, as are the joints and the model's configuration
    (``metadata_props``). The numbers of samples and views are free; the image size is the model's.

    Args:
        folder: the model, see `load_model`.
        path: the file; replaced at once when complete and right.

    Returns:
        For every output the largest difference to torch, on random images.

    Raises:
        TriposeError: an ONNX library is not installed, there is no such model, it is of a kind that has no such graph,
            the file cannot be written, or it differs from torch by more than 0.05 mm or 0.001 px (see `_check`); then
            no file is left.
    """
    check_libraries()
    folder, path = Path(folder), Path(path)
    model = load_model(folder)
    if isinstance(model, RansacTriangulation):
        raise TriposeError(
            f"{folder} is a RANSAC model, of which only the 2D network could be exported; "
            "export an algebraic model, or call tripose.triangulate on keypoints"
        )
    if isinstance(model, EvidenceTriangulation) or getattr(model.config, "confidences", None) == "evidence":
        raise TriposeError(
            f"{folder} weighs views by how far all pairs of them agree, which is no graph for any number of views; "
            "models with the published kinds of confidences can be exported"
        )
    graph = AlgebraicGraph(model) if isinstance(model, AlgebraicTriangulation) else VolumetricGraph(model)
    program = _trace(graph)
    _describe(program.model, model.config)
    with atomic(path) as part:
        program.save(part, external_data=False)
        return _check(part, model, path)


def check_libraries() -> None:
    """Refuse to begin without what is needed.

    Raises:
        TriposeError: naming the library and its extra.
    """
    for library in ("onnx", "onnxscript", "onnxruntime"):
        try:
            import_module(library)
        except ImportError:
            raise missing_extra(library, "onnx") from None


def _trace(graph: AlgebraicGraph | VolumetricGraph) -> Any:
    batch, view = torch.export.Dim("batch"), torch.export.Dim("view")
    free = {"images": {0: batch, 1: view}, "projections": {0: batch, 1: view}, "center_mm": {0: batch}, "world_up": {}}
    images, cameras, center_mm = _example(graph.model.config, *_TRACED)
    inputs = _inputs(graph.model.config, images, cameras, center_mm)
    with torch.no_grad(), quiet():
        return torch.onnx.export(
            graph.eval(),
            kwargs=inputs,
            output_names=graph.outputs,
            dynamo=True,
            dynamic_shapes={name: free[name] for name in inputs},
            verbose=False,
        )


def _describe(file: Any, config: Algebraic | Volumetric) -> None:
    file.metadata_props.update(
        tripose_version=tripose.__version__,
        method=config.method,
        skeleton=config.skeleton,
        joints=json.dumps(config.joints.joints),
        units="mm, px",
        legacy_alignment=json.dumps(config.legacy_alignment),
        config=json.dumps(asdict(config)),
    )
    for value in (*file.graph.inputs, *file.graph.outputs):
        value.doc_string = _MEANING[value.name]


def _check(file: Path, model: AlgebraicTriangulation | VolumetricTriangulation, path: Path) -> dict[str, float]:
    """Compare a file with the model itself, not with the graph made from it, and refuse one that differs.

    Args:
        file: where it is.
        model: what it should be.
        path: where it is going to be.
    """
    import onnxruntime

    images, cameras, center_mm = _example(model.config, *_CHECKED)
    with torch.no_grad():
        ours: dict[str, Any] = {**model(images, cameras, center_mm=center_mm)}
        folded: dict[str, Any] = {**for_inference(model, torch.float32)(images, cameras, center_mm=center_mm)}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    inputs = {name: value.numpy() for name, value in _inputs(model.config, images, cameras, center_mm).items()}
    theirs = dict(zip(names, session.run(names, inputs), strict=True))
    difference = {name: _distance(ours[name], torch.as_tensor(theirs[name])) for name in names}
    for name, found in difference.items():
        # Random images make maps with several peaks, between which rounding decides: folding the batch norms, as the
        # exporter does, moves such a joint in torch as well.
        rounding = float((ours[name] - folded[name]).abs().nan_to_num(0.0).max())
        allowed = min(_ALLOWED[name] + 2 * rounding, 10 * _ALLOWED[name])
        if found > allowed:
            raise TriposeError(
                f"{path} is not written: its {name} would differ from torch's by {found:.2g}, and {allowed:.2g} is "
                "allowed; other versions of torch and onnxruntime may do better"
            )
    return difference


def _distance(a: Tensor, b: Tensor) -> float:
    """Largest difference; NaN on one side only is infinitely far."""
    difference = torch.where(a.isnan() & b.isnan(), 0.0, (a - b).abs())
    return float(difference.nan_to_num(nan=math.inf).max())


def _inputs(config: Algebraic | Volumetric, images: Tensor, cameras: Cameras, center_mm: Tensor) -> dict[str, Tensor]:
    inputs = {"images": images, "projections": crop_projections(cameras, images, None).contiguous()}
    if isinstance(config, Volumetric):
        inputs |= {"center_mm": center_mm, "world_up": _axis(cameras.up or "z")}
    return inputs


def _example(config: Algebraic | Volumetric, batch: int, views: int) -> tuple[Tensor, Cameras, Tensor]:
    """Random images, a ring of cameras 4 m around a place in the world, and centres near it.

    The up-axis of the world is not that of the model, so that the cuboid has to turn.
    """
    # The rays of a joint that was found in random images do not meet. Through a long lens they come close, so that its
    # position is determined; the volumetric method has to see its cuboid.
    seen_mm = config.side_mm if isinstance(config, Volumetric) else 400.0
    random = torch.Generator().manual_seed(0)
    width, height = config.image_size_px
    images = torch.rand(batch, views, 3, height, width, generator=random)
    place_mm = torch.tensor([1000.0, 2000.0, 1000.0], dtype=torch.float64)
    center_mm = place_mm + 100 * torch.randn(batch, 3, generator=random, dtype=torch.float64)
    focal = 4000.0 / seen_mm * max(width, height)
    K = [[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]]
    angle = torch.arange(views, dtype=torch.float64) * (2 * math.pi / views)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    rows = (-sin, cos, zero), (zero, zero, zero - 1), (-cos, -sin, zero)
    R = torch.stack([torch.stack(row, -1) for row in rows], -2)
    cameras = Cameras.build(
        [str(view) for view in range(views)],
        [K] * views,
        R,
        torch.tensor([0.0, 0.0, 4000.0]) - R @ place_mm,
        [[width, height]] * views,
        up="-y" if isinstance(config, Volumetric) and config.up == "z" else "z",
    )
    return images, cameras, center_mm


def _axis(up: Up) -> Float[Tensor, 3]:
    axis = torch.zeros(3, dtype=torch.float64)
    axis["xyz".index(up[-1])] = -1.0 if up.startswith("-") else 1.0
    return axis


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporter's remarks about torchvision, axis names, empty attributes and its own deprecations."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
