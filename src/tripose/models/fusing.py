"""Any detector's keypoints, before any rig, through the fusion network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Num, Shaped
from torch import Tensor

from tripose.cameras import Cameras
from tripose.geometry.ray_fusion import RayBundle
from tripose.geometry.triangulate import Triangulation, assess, triangulate
from tripose.models.fusion import Fused, FusionTriangulation
from tripose.models.fusion_certainty import covariance_factor
from tripose.models.fusion_joints import Layout, known, layout_of

# People side by side: so many fit into the caches of a core.
_CHUNK = 128


def fuse(
    model: FusionTriangulation,
    cameras: Cameras,
    points_px: Num[Tensor | np.ndarray, "*batch view joint 2"],
    confidence: Shaped[Tensor | np.ndarray, "*batch view joint"] | None,
    joints: Sequence[str],
    *,
    scale_px: float | None = None,
) -> Triangulation:
    """Positions of all joints of every person that two views see, with what is known of human bodies.

    Computed in float64 but for the network; no gradients. Joints that the network does not know, as of hands, are
    triangulated without it ("ransac").

    Args:
        model: with its weights.
        cameras: one rig.
        points_px: raw pixels; NaN where a view does not see the joint.
        confidence: scores of the detector, 0..1; 0 or NaN removes an observation. None: all ones.
        joints: their names.
        scale_px: see `tripose.geometry.triangulate`; says which views agree.

    Returns:
        As of `triangulate`, with `prior_share` and `view_share`; NaN for people that fewer than two views see. The
        covariance is calibrated on simulated people; for regions see ``model.freedom`` and
        `tripose.models.fusion_certainty.radius`.

    Raises:
        TriposeError: no human body, or shapes that do not fit.
    """
    points, score = torch.as_tensor(points_px).double(), confidence
    score = torch.ones_like(points[..., 0]) if score is None else torch.as_tensor(score).double()
    without = triangulate(cameras, points, score, method="ransac", scale_px=scale_px)
    assert without.covariance_mm2 is not None
    found, ours = _fused(model, cameras, points, score, joints)
    position, covariance = without.position_mm.clone(), without.covariance_mm2.clone()
    share = torch.zeros_like(position[..., 0])
    position[..., ours, :], covariance[..., ours, :, :] = found.position, found.covariance
    share[..., ours] = prior_share(found)
    views = without.inlier.double() / without.n_views.clamp(min=1)[..., None, :]
    views[..., ours] = found.weight / found.weight.sum(-2, keepdim=True).clamp(min=1e-30)
    judged = assess(cameras, position, points, score, scale_px=scale_px)
    share = torch.where(position[..., 0].isnan(), torch.nan, share)
    return replace(judged, covariance_mm2=covariance, prior_share=share, view_share=views)


def fused_positions(
    model: FusionTriangulation,
    cameras: Cameras,
    points_px: Num[Tensor | np.ndarray, "*batch view joint 2"],
    confidence: Shaped[Tensor | np.ndarray, "*batch view joint"],
    joints: Sequence[str],
) -> Float[Tensor, "*batch joint 3"]:
    """The positions of `fuse` alone, mm, also of a rig for each person; NaN for joints that it does not know."""
    points, score = torch.as_tensor(points_px).double(), torch.as_tensor(confidence).double()
    found, ours = _fused(model, cameras, points, score, joints)
    position = points.new_full((*points.shape[:-3], len(joints), 3), torch.nan)
    position[..., ours, :] = found.position
    return position


def _fused(
    model: FusionTriangulation,
    cameras: Cameras,
    points_px: Float[Tensor, "*batch view joint 2"],
    score: Float[Tensor, "*batch view joint"],
    joints: Sequence[str],
) -> tuple[Fused, list[int]]:
    """What the network says of the joints that it knows, and which these are."""
    ours = [i for i, joint in enumerate(joints) if known(joint)]
    layout = layout_of([joints[i] for i in ours])
    rays, seen = _rays(cameras, points_px[..., ours, :], score[..., ours])
    flat = _run(model, rays, layout, seen)
    shape = points_px.shape[:-3]
    return Fused(*(part.unflatten(0, shape) if shape else part[0] for part in flat)), ours


def prior_share(found: Fused) -> Float[Tensor, "batch joint"]:
    """How much of a position the network's expectation decided and not the rays, in the direction where it is most.

    0: the rays alone; 1: nothing but what bodies usually look like.
    """
    normal = found.precision + found.information
    lower = torch.linalg.cholesky(normal)
    half = torch.linalg.solve_triangular(lower, found.precision, upper=False)
    whole = torch.linalg.solve_triangular(lower, half.mT, upper=False)
    share: Tensor = torch.linalg.eigvalsh((whole + whole.mT) / 2)[..., -1]
    return share.clamp(0, 1)


def calibrated(model: FusionTriangulation, found: Fused, rays: RayBundle) -> Fused:
    """With covariances instead of scale matrices, as calibrated for the number of views that see a person."""
    scale = model.covariance_scale.double() * covariance_factor(model.freedom.double())
    views = (rays.score.amax(-1) > 0).sum(-1).clamp(max=len(scale) - 1)
    return found._replace(covariance=found.covariance * scale[views][:, None, None, None])


def _rays(
    cameras: Cameras, points_px: Float[Tensor, "*batch view joint 2"], score: Float[Tensor, "*batch view joint"]
) -> tuple[RayBundle, Bool[Tensor, " person"]]:
    """All people side by side, and which of them two views or more see; those who are not become harmless."""
    with torch.no_grad(), torch.autocast(points_px.device.type, enabled=False):
        shape, joints = points_px.shape[:-3], points_px.shape[-2]
        if cameras.K.ndim == 3:  # one rig for all: more points of the same views
            side_by_side = cameras.to(torch.float64).rays(points_px.movedim(-3, 0).flatten(1, -2))
            direction = side_by_side.unflatten(1, (*shape, joints)).movedim(0, -3)
        else:
            direction = cameras.to(torch.float64).rays(points_px)
        usable = (score > 0) & torch.isfinite(score) & direction.isfinite().all(-1)
        score = torch.where(usable, score.clamp(max=1.0), 0.0).flatten(0, -3)
        direction = torch.where(usable[..., None], direction, direction.new_tensor([0.0, 0.0, 1.0])).flatten(0, -4)
        origin = cameras.centers_mm.double()
        origin = origin.expand(*direction.shape[:-3], *origin.shape[-2:]) if origin.ndim == 2 else origin.flatten(0, -3)
    return RayBundle(origin, direction, score), (score.amax(-1) > 0).sum(-1) > 1


def _run(model: FusionTriangulation, rays: RayBundle, layout: Layout, seen: Bool[Tensor, " person"]) -> Fused:
    """The network's answers, NaN for who is not seen by two views, with calibrated covariances."""
    parts = []
    with torch.inference_mode():
        for start in range(0, max(len(seen), 1), _CHUNK):
            some = slice(start, start + _CHUNK)
            part = RayBundle(rays.origin[some], rays.direction[some], rays.score[some])
            parts.append(calibrated(model, model(part, layout).second, part))
    joined = Fused(*(torch.cat(field) for field in zip(*parts, strict=True)))
    hidden = ~seen
    return joined._replace(
        position=joined.position.masked_fill(hidden[:, None, None], torch.nan),
        covariance=joined.covariance.masked_fill(hidden[:, None, None, None], torch.nan),
    )
