"""Any detector's keypoints, before any rig, through the fusion network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Num, Shaped
from torch import Tensor

from tripose.cameras import Cameras
from tripose.errors import TriposeError
from tripose.geometry.ray_fusion import RayBundle, inverse_3x3, normal_equations
from tripose.geometry.triangulate import Triangulation, assess, check_points, triangulate
from tripose.models.fusion import Answers, FusionTriangulation
from tripose.models.fusion_certainty import covariance_factor, scaled
from tripose.models.fusion_joints import Layout, known, layout_of
from tripose.models.fusion_stage import Fused

# People side by side: so many fit into the caches of a core.
_CHUNK = 128
# Smaller scores are taken for this one: the network has never seen any.
_LEAST_SCORE = 1e-3
# Joints that two views see, from places that differ, which make a body; so many of them shoulders or hips.
_LEAST_JOINTS, _LEAST_TRUNK = 4, 2
# Determinant over the mean eigenvalue cubed of the normal matrix of rays that enclose a fifth of a degree.
_PARALLEL = 1e-5
# Keypoints of one person that lie closer together, rad, are no person.
_NARROW = 2e-3


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

    Computed in float64 but for the network; no gradients. What the network has no answer for, see `answerable`, is
    triangulated without it ("ransac"), and NaN where that finds nothing.

    Args:
        model: with its weights.
        cameras: one rig.
        points_px: raw pixels; NaN where a view does not see the joint.
        confidence: scores of the detector, 0..1; 0 or NaN removes an observation. None: all ones.
        joints: their names.
        scale_px: see `tripose.geometry.triangulate`; says which views agree.

    Returns:
        As of `triangulate`, with `prior_share` and `view_share`. The covariance is calibrated on simulated people; for
        regions see `tripose.models.fusion_certainty.radius`.

    Raises:
        TriposeError: no human body, or shapes that do not fit.
    """
    points = torch.as_tensor(points_px).double()
    score = torch.ones_like(points[..., 0]) if confidence is None else torch.as_tensor(confidence).double()
    check_points(cameras, points, score)
    if cameras.K.ndim > 3:
        raise TriposeError("fusion takes one rig for all people; these cameras have a batch axis")
    shape = points.shape[:-3]
    points, score = points.reshape(-1, *points.shape[-3:]), score.reshape(-1, *score.shape[-2:])
    found, answered = _fused(model, cameras, points, score, joints)
    position, covariance, share = found.position, found.covariance, prior_share(found)
    views = found.weight / found.weight.sum(-2, keepdim=True).clamp(min=1e-30)
    if not answered.all():
        rest = triangulate(cameras, points, score, method="ransac", scale_px=scale_px)
        assert rest.covariance_mm2 is not None
        position = torch.where(answered[..., None], position, rest.position_mm)
        covariance = torch.where(answered[..., None, None], covariance, rest.covariance_mm2)
        share = torch.where(answered, share, torch.where(position[..., 0].isnan(), torch.nan, 0.0))
        agreeing = rest.inlier.double() / rest.n_views.clamp(min=1)[..., None, :]
        views = torch.where(answered[..., None, :], views, agreeing)
    judged = assess(cameras, position, points, score, scale_px=scale_px)
    flat = replace(judged, covariance_mm2=covariance, prior_share=share, view_share=views)
    parts: dict[str, Any] = {name: part.reshape(*shape, *part.shape[1:]) for name, part in vars(flat).items()}
    return Triangulation(**parts)


def fused_positions(
    model: FusionTriangulation,
    cameras: Cameras,
    points_px: Num[Tensor | np.ndarray, "person view joint 2"],
    confidence: Shaped[Tensor | np.ndarray, "person view joint"],
    joints: Sequence[str],
) -> Float[Tensor, "person joint 3"]:
    """The positions of `fuse` alone, mm, also of a rig for each person; NaN where the network has no answer."""
    points, score = torch.as_tensor(points_px).double(), torch.as_tensor(confidence).double()
    found, answered = _fused(model, cameras, points, score, joints)
    return torch.where(answered[..., None], found.position, torch.nan)


def answerable(rays: RayBundle, joints: Sequence[str]) -> Bool[Tensor, "person joint"]:
    """For which joints the network may be asked.

    Two views from different places have to see four joints of a person, two of them shoulders or hips: of less nobody
    can tell how large somebody is and how they stand. Joints that fewer see are completed where a shoulder and a hip
    are among those; far from what is seen, the network is surer than it should be.

    Args:
        rays: of people.
        joints: all of them known to the network.
    """
    information, _ = normal_equations(rays, rays.seen)
    _, determinant = inverse_3x3(information)
    mean = information.diagonal(dim1=-2, dim2=-1).mean(-1)
    twice = determinant > _PARALLEL * mean**3
    middle = (rays.direction * rays.seen[..., None]).sum(2) / rays.seen.sum(2).clamp(min=1)[..., None]
    apart = (rays.direction - middle[:, :, None]).norm(dim=-1) * rays.seen
    wide = apart.amax((1, 2)) > _NARROW if len(twice) else twice.any(1)
    shoulders, hips = ([i for i, joint in enumerate(joints) if kind in joint] for kind in ("shoulder", "hip"))
    trunk = twice[:, shoulders].sum(1) + twice[:, hips].sum(1)
    body = (twice.sum(1) >= _LEAST_JOINTS) & (trunk >= _LEAST_TRUNK) & wide
    whole = twice[:, shoulders].any(1) & twice[:, hips].any(1)
    return body[:, None] & (twice | whole[:, None])


def prior_share(found: Fused) -> Float[Tensor, "batch joint"]:
    """How much of a position the network's expectation decided and not the rays, in the direction where it is most.

    0: the rays alone; 1: nothing but what bodies usually look like.
    """
    normal = found.precision + found.information
    lower, failed = torch.linalg.cholesky_ex(normal)
    half = torch.linalg.solve_triangular(lower, found.precision, upper=False)
    whole = torch.linalg.solve_triangular(lower, half.mT, upper=False)
    known_well = (failed == 0) & whole.isfinite().all((-2, -1))
    symmetric = torch.where(known_well[..., None, None], (whole + whole.mT) / 2, 1.0)
    share: Tensor = torch.linalg.eigvalsh(symmetric)[..., -1]
    return share.clamp(0, 1)


def calibrated(model: FusionTriangulation, answers: Answers, rays: RayBundle) -> Fused:
    """The result with covariances instead of scale matrices, as calibrated for as many views as see a person."""
    factor = model.covariance_scale.double() * covariance_factor(model.freedom.double())
    views = (rays.score.amax(-1) > 0).sum(-1).clamp(max=len(factor) - 1)
    found, power = answers.second, model.covariance_power.double()
    return found._replace(covariance=scaled(found.covariance, answers.unit, factor[views], power[views]))


def _fused(
    model: FusionTriangulation,
    cameras: Cameras,
    points_px: Float[Tensor, "person view joint 2"],
    score: Float[Tensor, "person view joint"],
    joints: Sequence[str],
) -> tuple[Fused, Bool[Tensor, "person joint"]]:
    """What the network says of all joints in their order, and where it is an answer; elsewhere it is anything."""
    if len(joints) != points_px.shape[-2]:
        raise TriposeError(f"the points have {points_px.shape[-2]} joints, and the skeleton has {len(joints)}")
    ours = [i for i, joint in enumerate(joints) if known(joint)]
    names = [joints[i] for i in ours]
    layout = layout_of(names)
    rays = _rays(cameras, points_px[:, :, ours], score[:, :, ours])
    order = [ours.index(i) if i in ours else 0 for i in range(len(joints))]
    answered = answerable(rays, names)[:, order] & torch.tensor([i in ours for i in range(len(joints))])
    found = _run(model, rays, layout)
    position, covariance, information, precision, weight = found
    of_joints = position[:, order], covariance[:, order], information[:, order], precision[:, order]
    return Fused(*of_joints, weight[:, :, order]), answered


def _rays(
    cameras: Cameras, points_px: Float[Tensor, "person view joint 2"], score: Float[Tensor, "person view joint"]
) -> RayBundle:
    with torch.no_grad(), torch.autocast(points_px.device.type, enabled=False):
        cameras = cameras.to(torch.float64)
        if cameras.K.ndim == 3:  # one rig for all: more points of the same views
            side_by_side = cameras.rays(points_px.movedim(1, 0).flatten(1, 2))
            direction = side_by_side.unflatten(1, (len(points_px), points_px.shape[2])).movedim(0, 1)
        else:
            direction = cameras.rays(points_px)
        usable = (score > 0) & torch.isfinite(score) & direction.isfinite().all(-1)
        score = torch.where(usable, score.clamp(_LEAST_SCORE, 1.0), 0.0)
        direction = torch.where(usable[..., None], direction, direction.new_tensor([0.0, 0.0, 1.0]))
        return RayBundle(cameras.centers_mm.expand(*score.shape[:2], 3), direction, score)


def _run(model: FusionTriangulation, rays: RayBundle, layout: Layout) -> Fused:
    """The network's answers, with calibrated covariances."""
    parts = []
    with torch.inference_mode():
        for start in range(0, max(len(rays.score), 1), _CHUNK):
            some = slice(start, start + _CHUNK)
            part = RayBundle(rays.origin[some], rays.direction[some], rays.score[some])
            parts.append(calibrated(model, model(part, layout), part))
    return Fused(*(torch.cat(field) for field in zip(*parts, strict=True)))
