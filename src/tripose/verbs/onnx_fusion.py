"""``tripose onnx`` of a fusion model: rays of one skeleton in, positions and their covariances out."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

import tripose
from tripose.errors import TriposeError
from tripose.formats.writing import atomic
from tripose.geometry.ray_fusion import RayBundle
from tripose.models.fusing import calibrated
from tripose.models.fusion import FusionTriangulation
from tripose.models.fusion_joints import layout_of
from tripose.models.weights import load_fusion
from tripose.skeleton import Skeleton
from tripose.verbs.onnx import check_libraries, quiet

_INPUTS, _OUTPUTS = ("origin", "direction", "score"), ("position", "covariance", "weight")
_MEANING = {
    "origin": "[batch view 3] centres of the cameras, world, any unit of length",
    "direction": "[batch view joint 3] of the rays, world, of length one, also where the score is 0",
    "score": "[batch view joint] 0..1, of the detector; 0: no observation. Of people whom fewer than two views see "
    "the outputs mean nothing",
    "position": "[batch joint 3] world",
    "covariance": "[batch joint 3 3] of the error of the position, in the square of the unit",
    "weight": "[batch view joint] one over the variance that the network takes a ray to have",
}
_TRACED, _CHECKED = (2, 3), (5, 4)
# Positions of people of 1.75 m, in metres.
_ALLOWED_M, _ALLOWED = 5e-5, 1e-3


class FusionGraph(nn.Module):
    """What the file computes; all in float64 outside the network."""

    def __init__(self, model: FusionTriangulation, skeleton: Skeleton) -> None:
        super().__init__()
        self.model, self.layout = model, layout_of(skeleton.joints)

    def forward(
        self,
        origin: Float[Tensor, "batch view 3"],
        direction: Float[Tensor, "batch view joint 3"],
        score: Float[Tensor, "batch view joint"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The second stage's answer."""
        rays = RayBundle(origin, direction, score)
        found = calibrated(self.model, self.model(rays, self.layout), rays)
        return found.position, found.covariance, found.weight


def export_fusion(name: Path | str, skeleton: Skeleton, path: Path) -> float:
    """Write a fusion model for the joints of one skeleton; any number of people and views.

    Args:
        name: the model, see `load_fusion`.
        skeleton: order and names of the joints.
        path: the file; replaced at once when complete and right.

    Returns:
        The largest difference to torch, metres, of random people.

    Raises:
        TriposeError: an ONNX library is not installed, no such model, joints of no human body, the file cannot be
            written, or it differs from torch; then no file is left.
    """
    check_libraries()
    graph = FusionGraph(load_fusion(name), skeleton).eval()
    batch, view = torch.export.Dim("batch"), torch.export.Dim("view")
    with torch.no_grad(), quiet():
        program = torch.onnx.export(
            graph,
            kwargs=dict(zip(_INPUTS, _example(skeleton, *_TRACED), strict=True)),
            output_names=_OUTPUTS,
            dynamo=True,
            dynamic_shapes={name: {0: batch, 1: view} for name in _INPUTS},
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props.update(
        tripose_version=tripose.__version__,
        method="fusion",
        skeleton=skeleton.name,
        joints=json.dumps(skeleton.joints),
        config=json.dumps(asdict(graph.model.config)),
    )
    for value in (*program.model.graph.inputs, *program.model.graph.outputs):
        value.doc_string = _MEANING[str(value.name)]
    with atomic(path) as part:
        program.save(part, external_data=False)
        return _check(part, graph, skeleton, path)


def _check(file: Path, graph: FusionGraph, skeleton: Skeleton, path: Path) -> float:
    import onnxruntime

    rays = _example(skeleton, *_CHECKED)
    with torch.no_grad():
        ours = graph(*rays)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    inputs = {name: value.numpy() for name, value in zip(_INPUTS, rays, strict=True)}
    theirs = [torch.from_numpy(output) for output in session.run(list(_OUTPUTS), inputs)]
    apart = float((ours[0] - theirs[0]).abs().max())
    relative = max(float((a - b).norm() / a.norm()) for a, b in zip(ours[1:], theirs[1:], strict=True))
    if not (apart <= _ALLOWED_M and relative <= _ALLOWED):
        raise TriposeError(
            f"{path} is not written: its positions would differ from torch's by {apart:.2g} m and the rest by "
            f"{relative:.2g}, and {_ALLOWED_M:g} m and {_ALLOWED:g} are allowed; other versions of torch and "
            "onnxruntime may do better"
        )
    return apart


def _example(skeleton: Skeleton, batch: int, views: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points about the origin, seen from a ring of cameras, with errors and gaps."""
    random = torch.Generator().manual_seed(0)
    angle = torch.arange(views) * (2 * torch.pi / views)
    ring = torch.stack([4 * angle.cos(), 4 * angle.sin(), 1.5 + 0 * angle], -1).double()
    points = 0.4 * torch.randn(batch, 1, len(skeleton), 3, generator=random).double()
    noisy = points + 0.02 * torch.randn(batch, views, len(skeleton), 3, generator=random).double()
    direction = nn.functional.normalize(noisy - ring[None, :, None], dim=-1)
    score = torch.rand(batch, views, len(skeleton), generator=random).double()
    return ring.expand(batch, -1, -1).contiguous(), direction, torch.where(score < 0.1, 0.0, score)
