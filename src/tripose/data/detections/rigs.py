"""Random rigs for many people at once: cameras around a person, by their rotations and centres."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

RADIUS_M, HEIGHT_M = (2.0, 8.0), (0.3, 3.2)


def uniform(g: torch.Generator, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Uniform numbers in float32."""
    return torch.rand(*shape, generator=g) * (high - low) + low


def normal(g: torch.Generator, *shape: int) -> Tensor:
    """Standard normal numbers in float32."""
    return torch.randn(*shape, generator=g)


def random_rigs(
    g: torch.Generator, people: int, views: int
) -> tuple[Float[Tensor, "person view 3 3"], Float[Tensor, "person view 3"]]:
    """Cameras that look at somebody near the origin: anywhere around, within an arc, or evenly spread.

    Args:
        g: source of chance.
        people: how many rigs.
        views: cameras of each.

    Returns:
        Rotations, world to camera, and centres in metres (z up, floor at 0).
    """
    start, kind = uniform(g, people, 1, high=2 * math.pi), torch.rand(people, 1, generator=g)
    arc = uniform(g, people, 1, low=0.35, high=2.5)
    anywhere = uniform(g, people, views, high=2 * math.pi)
    clustered = start + arc * uniform(g, people, views, low=-1.0)
    evenly = start + torch.arange(views) * (2 * math.pi / views) + 0.25 * normal(g, people, views)
    angle = torch.where(kind < 0.35, anywhere, torch.where(kind < 0.7, clustered, evenly))
    size = uniform(g, people, 1, low=math.log(RADIUS_M[0]), high=math.log(RADIUS_M[1]))
    radius = torch.exp(size + 0.15 * normal(g, people, views))
    at_one_height = uniform(g, people, 1, low=1.0, high=2.8) + 0.2 * normal(g, people, views)
    mixed = uniform(g, people, views, low=HEIGHT_M[0], high=HEIGHT_M[1])
    height = torch.where(torch.rand(people, 1, generator=g) < 0.7, mixed, at_one_height)
    centre = torch.stack([radius * angle.cos(), radius * angle.sin(), height], -1)
    target = 0.4 * normal(g, people, views, 3) + torch.tensor([0.0, 0.0, 1.0])
    rotation = _looking(centre, target, 0.05 * normal(g, people, views))
    # The person is rarely in the middle.
    return rotation, centre + 0.5 * torch.cat([normal(g, people, 1, 2), torch.zeros(people, 1, 1)], -1)


def project(
    points: Float[Tensor, "person joint 3"],
    rotation: Float[Tensor, "person view 3 3"],
    centre: Float[Tensor, "person view 3"],
) -> tuple[Float[Tensor, "person view joint 2"], Float[Tensor, "person view joint"]]:
    """Normalised image positions and depths."""
    at = torch.einsum("bvik,bvjk->bvji", rotation, points[:, None] - centre[:, :, None])
    return at[..., :2] / at[..., 2:].clamp(min=0.05), at[..., 2]


def _looking(
    centre: Float[Tensor, "person view 3"], target: Float[Tensor, "person view 3"], roll: Float[Tensor, "person view"]
) -> Float[Tensor, "person view 3 3"]:
    forward = torch.nn.functional.normalize(target - centre, dim=-1)
    up = torch.tensor([0.0, 0.0, 1.0]).expand_as(forward)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up), dim=-1)
    down = torch.linalg.cross(forward, right)
    cos, sin = roll.cos()[..., None], roll.sin()[..., None]
    return torch.stack([cos * right + sin * down, -sin * right + cos * down, forward], -2)
