"""How far away somebody is whom only one camera sees: by the floor they stand on, or by how tall they are."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tripose.cameras import TO_Z_UP, Cameras, Up
from tripose.errors import TriposeError
from tripose.skeleton import Skeleton

# Height of a joint above the floor when the foot stands on it: medians of synthetic people (HALPE-26).
_ABOVE_FLOOR_MM = {"ankle": 85.0, "heel": 25.0, "big_toe": 20.0, "small_toe": 20.0}
# From the top of the head, or without it the eyes, to the floor; as part of the height.
_HEAD = {"head_top": 1.0, "left_eye": 0.935, "right_eye": 0.935, "nose": 0.915}


def pelvis_on_floor(
    points_px: Float[Tensor, "batch joint 2"], cameras: Cameras, skeleton: Skeleton, up: Up, floor_mm: float = 0.0
) -> Float[Tensor, "batch 3"]:
    """Where the pelvis of a standing person is: above the foot that stands nearer to the camera.

    The ray of each joint of a foot meets the floor somewhere; a lifted foot does so farther away than it is.

    Args:
        points_px: of one view; NaN joints are left out.
        cameras: one view, one camera a sample or one for all.
        skeleton: with ankles, heels or toes, and hips.
        up: the world axis that points up.
        floor_mm: height of the floor along it.

    Returns:
        World frame; NaN where no ray of a foot meets the floor in front of the camera.
    """
    centre, direction = _upright(points_px, cameras, up)
    feet = []
    for side in ("left", "right"):
        hits = []
        for name, above_mm in _ABOVE_FLOOR_MM.items():
            if f"{side}_{name}" in skeleton.joints:
                ray = direction[:, skeleton.joints.index(f"{side}_{name}")]
                far = (floor_mm + above_mm - centre[:, 2]) / ray[:, 2]
                hits.append(torch.where(far > 0, far * ray[:, :2].norm(dim=-1), torch.nan))
        feet.append(torch.stack(hits).nanmedian(0).values if hits else centre.new_full(centre.shape[:1], torch.nan))
    distance = torch.stack(feet).nan_to_num(torch.inf).amin(0)
    return _pelvis_at(torch.where(distance.isfinite(), distance, torch.nan), centre, direction, skeleton, up)


def pelvis_by_height(
    points_px: Float[Tensor, "batch joint 2"], cameras: Cameras, skeleton: Skeleton, up: Up, height_mm: float
) -> Float[Tensor, "batch 3"]:
    """Where the pelvis of a person of known height is who stands upright; arguments as in `pelvis_on_floor`.

    Args:
        points_px: of one view; NaN joints are left out.
        cameras: one view.
        skeleton: with feet, a head and hips.
        up: the world axis that points up.
        height_mm: of the person, from floor to top.
    """
    centre, direction = _upright(points_px, cameras, up)
    slope = direction[..., 2] / direction[..., :2].norm(dim=-1).clamp(min=1e-9)
    top = next((n for n in _HEAD if n in skeleton.joints), None)
    feet = [(f"{side}_{n}", h) for n, h in _ABOVE_FLOOR_MM.items() for side in ("left", "right")]
    lows = [(skeleton.joints.index(name), h) for name, h in feet if name in skeleton.joints]
    if top is None or not lows:
        raise TriposeError(f"skeleton {skeleton.name!r} has no head or no feet, so a height says nothing about it")
    span = slope[:, skeleton.joints.index(top), None] - slope[:, [i for i, _ in lows]]
    tall = _HEAD[top] * height_mm - centre.new_tensor([h for _, h in lows])
    # The supporting foot is the lower one: it spans the most.
    distance = torch.where(span > 0, tall / span, torch.nan).nan_to_num(torch.inf).amin(-1)
    return _pelvis_at(torch.where(distance.isfinite(), distance, torch.nan), centre, direction, skeleton, up)


def _upright(
    points_px: Float[Tensor, "batch joint 2"], cameras: Cameras, up: Up
) -> tuple[Float[Tensor, "batch 3"], Float[Tensor, "batch joint 3"]]:
    """Camera centre and rays with z up."""
    points = points_px.double()
    if cameras.K.ndim == 3:  # one camera for all: every sample is just more points
        rays = cameras.rays(points.flatten(0, 1)[None])[0].unflatten(0, points.shape[:2])
    else:
        rays = cameras.rays(points[:, None])[:, 0]
    centre = cameras.centers_mm[..., 0, :].expand(len(points_px), 3)
    turn = centre.new_tensor(TO_Z_UP[up])
    return centre @ turn.T, rays @ turn.T


def _pelvis_at(
    distance_mm: Float[Tensor, " batch"],
    centre: Float[Tensor, "batch 3"],
    direction: Float[Tensor, "batch joint 3"],
    skeleton: Skeleton,
    up: Up,
) -> Float[Tensor, "batch 3"]:
    """The point of the pelvis' ray at a horizontal distance, back in the world's axes."""
    hips = ["pelvis"] if "pelvis" in skeleton.joints else ["left_hip", "right_hip"]
    ray = direction[:, skeleton.indices(hips)].mean(1)
    reach = distance_mm / ray[:, :2].norm(dim=-1).clamp(min=1e-9)
    found: Tensor = (centre + reach[:, None] * ray) @ centre.new_tensor(TO_Z_UP[up])
    return found
