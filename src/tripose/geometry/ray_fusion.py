"""Closed-form triangulation of rays with a prior, and the frame of a body: what the fusion network is built around.

All in float64 and in pure arithmetic, so that it differentiates and exports. Lengths are in any unit; `centred` chooses
one by the person, so that nothing after it depends on where, how large and how turned the world is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

_ITERATIONS = 5
# Distance, in units of a person, at which an observation counts half: falls with every iteration to the last.
_FIRST_SCALE, _LAST_SCALE = 0.12, 0.015
# Usual distance of the rays of a person to the middle of the person, over the unit.
_RAY_SPREAD = 0.29


@dataclass(frozen=True)
class RayBundle:
    """Rays at one person, from views around.

    Attributes:
        origin: of the cameras.
        direction: of the rays, of length one.
        score: 0..1; 0 where there is no observation.
    """

    origin: Float[Tensor, "batch view 3"]
    direction: Float[Tensor, "batch view joint 3"]
    score: Float[Tensor, "batch view joint"]

    @property
    def seen(self) -> Float[Tensor, "batch view joint"]:
        """One where there is an observation."""
        return (self.score > 0).to(self.score)

    @cached_property
    def nearest(self) -> Float[Tensor, "batch view joint 3"]:
        """The point of every ray's line that is nearest to the origin of coordinates."""
        origin = self.origin[:, :, None]
        near: Tensor = origin - self.direction * (self.direction * origin).sum(-1, keepdim=True)
        return near

    @cached_property
    def terms(self) -> Float[Tensor, "batch view joint 9"]:
        """Of every ray ``P = I - d d^T``, its upper triangle, and ``P o``: what normal equations are sums of."""
        x, y, z = self.direction.unbind(-1)
        upper = torch.stack([1 - x * x, -x * y, -x * z, 1 - y * y, -y * z, 1 - z * z], -1)
        return torch.cat([upper, self.nearest], -1)

    def offset(self, position: Float[Tensor, "batch joint 3"]) -> Float[Tensor, "batch view joint 3"]:
        """From positions to the nearest points of the rays."""
        at = position[:, None]
        away: Tensor = self.nearest - at + self.direction * (self.direction * at).sum(-1, keepdim=True)
        return away


def centred(
    rays: RayBundle,
) -> tuple[RayBundle, Float[Tensor, "batch 3"], Float[Tensor, " batch"]]:
    """The rays in coordinates of the person: origin in the middle, the unit about 1.75 m of height.

    Returns:
        The rays, the middle, and the unit, in the coordinates given.
    """
    # Of every view one ray, through the middle of what it sees: all rays of a view meet in its camera, too.
    ahead = _unit((rays.score[..., None] * rays.direction).sum(2, keepdim=True))
    for _ in range(2):
        apart = (rays.direction - ahead).norm(dim=-1)
        usual = ((apart * rays.score).sum(-1) / rays.score.sum(-1).clamp(min=1e-12))[..., None].clamp(min=1e-9)
        weight = rays.score / (1 + (apart / usual) ** 2)
        ahead = _unit((weight[..., None] * rays.direction).sum(2, keepdim=True))
    through = RayBundle(rays.origin, ahead, rays.seen.amax(-1, keepdim=True))
    weight = through.score
    for _ in range(4):
        middle = _meeting_point(through, weight)
        distance = through.offset(middle[:, None]).norm(dim=-1)
        weight = through.score / (1 + (distance / _mean(distance, weight)[:, None, None].clamp(min=1e-9)) ** 2)
    distance = rays.offset(middle[:, None]).norm(dim=-1)
    weight = rays.score / (1 + (distance / _mean(distance, rays.score)[:, None, None].clamp(min=1e-9)) ** 2)
    unit = _mean(distance, weight) / _RAY_SPREAD
    unit = torch.where(unit > 0, unit, 1.0)  # nobody is seen
    origin = (rays.origin - middle[:, None]) / unit[:, None, None]
    return RayBundle(origin, rays.direction, rays.score), middle, unit


def solve(
    rays: RayBundle,
    weight: Float[Tensor, "batch view joint"],
    prior: Float[Tensor, "batch joint 3"] | None = None,
    precision: Float[Tensor, "batch joint 3 3"] | None = None,
) -> tuple[Float[Tensor, "batch joint 3"], Float[Tensor, "batch joint 3 3"], Float[Tensor, "batch joint 3 3"]]:
    """The positions that minimise the weighted squared distances to the rays and to a prior.

    Args:
        rays: the problem.
        weight: of every ray, one over a variance; has to be 0 where there is no observation.
        prior: where joints are expected, and
        precision: how surely. None: at the origin, and so little that only what is undetermined notices.

    Returns:
        Positions, the inverse of the normal matrix, and the rays' share of the normal matrix.
    """
    information, moment = normal_equations(rays, weight)
    if prior is None or precision is None:
        floor = 1e-6 * weight.sum(1) + 1e-9
        normal = information + floor[..., None, None] * torch.eye(3, dtype=floor.dtype, device=floor.device)
    else:
        normal, moment = information + precision, moment + _times(precision, prior)
    inverse, _ = inverse_3x3(normal)
    return _times(inverse, moment), inverse, information


def normal_equations(
    rays: RayBundle, weight: Float[Tensor, "batch view joint"]
) -> tuple[Float[Tensor, "batch joint 3 3"], Float[Tensor, "batch joint 3"]]:
    """Sums over the views of ``w P`` and ``w P o`` with ``P = I - d d^T``."""
    total = (weight[..., None] * rays.terms).sum(1)
    return total[..., (0, 1, 2, 1, 3, 4, 2, 4, 5)].unflatten(-1, (3, 3)), total[..., 6:]


def reweighted(rays: RayBundle) -> Float[Tensor, "batch joint 3"]:
    """Robust triangulation of `centred` rays: Cauchy weights whose scale falls with every iteration."""
    weight = rays.score
    position = solve(rays, weight)[0]
    for k in range(1, _ITERATIONS):
        scale = _FIRST_SCALE * 0.5 ** (k - 1) + _LAST_SCALE
        weight = rays.score / (1 + (rays.offset(position).norm(dim=-1) / scale) ** 2)
        position = solve(rays, weight)[0]
    return position


def body_frame(
    position: Float[Tensor, "batch joint 3"],
    template: Float[Tensor, "joint 3"],
    weight: Float[Tensor, "batch joint"],
) -> tuple[Float[Tensor, "batch 3 3"], Float[Tensor, "batch 3"]]:
    """The frame of a body: the affine map that fits a template best, made a rotation.

    Args:
        position: of the joints.
        template: the same joints of a body that stands in its own frame: x to the left, z up.
        weight: of the joints.

    Returns:
        Rows x, y, z of the frame, and the weighted middle of the joints' positions.
    """
    share = weight / weight.sum(-1, keepdim=True)
    middle, template_middle = (share[..., None] * position).sum(1), share @ template
    model = template - template_middle[:, None]
    spread = torch.einsum("bj,bjx,bjy->bxy", share, model, model)
    spread = spread + 1e-3 * torch.eye(3, dtype=spread.dtype, device=spread.device)
    cross = torch.einsum("bj,bjx,bjy->bxy", share, position - middle[:, None], model)
    # Where all joints are one point, as of somebody nobody sees, any frame will do.
    affine = cross @ inverse_3x3(spread)[0] + 1e-9 * torch.eye(3, dtype=spread.dtype, device=spread.device)
    up = _unit(affine[..., 2])
    left = affine[..., 0] - (affine[..., 0] * up).sum(-1, keepdim=True) * up
    left = _unit(left)
    return torch.stack([left, torch.linalg.cross(up, left), up], -2), middle


def inverse_3x3(
    matrix: Float[Tensor, "*batch 3 3"],
) -> tuple[Float[Tensor, "*batch 3 3"], Float[Tensor, "*batch"]]:
    """Inverse of symmetric matrices by the adjugate, and their determinants."""
    a, b, c, d, e, f = (matrix[..., i, j] for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)))
    first, second, third = d * f - e * e, c * e - b * f, b * e - c * d
    determinant = a * first + b * second + c * third
    rows = [first, second, third, second, a * f - c * c, b * c - a * e, third, b * c - a * e, a * d - b * b]
    return torch.stack(rows, -1).unflatten(-1, (3, 3)) / determinant[..., None, None], determinant


def _meeting_point(rays: RayBundle, weight: Float[Tensor, "batch view joint"]) -> Float[Tensor, "batch 3"]:
    information, moment = normal_equations(rays, weight)
    total = information.sum(1)
    floor = 1e-6 * weight.sum((1, 2)) + 1e-12
    total = total + floor[:, None, None] * torch.eye(3, dtype=total.dtype, device=total.device)
    # The floor pulls to the middle of the cameras, wherever the origin of coordinates is.
    cameras = (weight.sum(-1, keepdim=True) * rays.origin).sum(1) / weight.sum((1, 2))[:, None].clamp(min=1e-12)
    return _times(inverse_3x3(total)[0], moment.sum(1) + floor[:, None] * cameras)


def _mean(value: Float[Tensor, "batch view joint"], weight: Float[Tensor, "batch view joint"]) -> Tensor:
    return (value * weight).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1e-12)


def _times(matrix: Float[Tensor, "*batch 3 3"], vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    return (matrix * vector[..., None, :]).sum(-1)


def _unit(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    unit: Tensor = vector / vector.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return unit
