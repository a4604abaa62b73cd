"""The volumetric method's geometry: a cuboid of voxels, features unprojected into it, positions read out of it.

Source: Iskakov et al., ICCV 2019, section 3.2. Projection in float64 with autocast off; sampling in the features' type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tripose.cameras import Up
from tripose.geometry.heatmaps import cell_grid, cell_weights, integrate, size_of

Aggregation = Literal["sum", "max", "softmax", "conf", "conf_norm"]

# Voxels x views x samples looked at together: 32 channels of them fill 4 MB, which stay in the cache.
_CHUNK = 32_768
# A voxel nearer to a camera plane than this is not seen by that camera.
_NEAREST_MM = 1.0
# Per up-axis the rows of the rotation that brings it to z.
_TO_Z_UP: dict[Up, tuple[tuple[int, int, int], ...]] = {
    "z": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "-z": ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    "y": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    "-y": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "x": ((0, 1, 0), (0, 0, 1), (1, 0, 0)),
    "-x": ((0, 1, 0), (0, 0, -1), (-1, 0, 0)),
}


@dataclass(frozen=True)
class Cuboid:
    """A cube of voxels around a person, one per sample.

    Attributes:
        center_mm: its centre in the world, float64.
        turn: rotation from the cuboid's axes to the world's, float64.
        side_mm: distance between the first and the last voxel of an axis.
        voxels: number of voxels along each axis.
    """

    center_mm: Float[Tensor, "batch 3"]
    turn: Float[Tensor, "batch 3 3"]
    side_mm: float
    voxels: int

    @property
    def axis_mm(self) -> Float[Tensor, " voxel"]:
        """Positions of the voxels along an axis of the cuboid, relative to its centre."""
        half = self.side_mm / 2
        return torch.linspace(-half, half, self.voxels, dtype=torch.float64, device=self.center_mm.device)

    def to_world(self, index: Float[Tensor, "batch *point 3"]) -> Float[Tensor, "batch *point 3"]:
        """World positions (mm) of voxel indices, fractional ones included."""
        own = (index.double() / (self.voxels - 1) - 0.5) * self.side_mm
        turned = torch.einsum("bij,b...j->b...i", self.turn, own)
        return turned + self.center_mm.view(index.shape[0], *[1] * (index.ndim - 2), 3)

    def to_index(self, position_mm: Float[Tensor, "batch joint 3"]) -> Float[Tensor, "batch joint 3"]:
        """Voxel indices (fractional; outside 0 ... voxels - 1 outside the cuboid) of world positions."""
        own = (position_mm.double() - self.center_mm[:, None]) @ self.turn
        return (own / self.side_mm + 0.5) * (self.voxels - 1)


def place_cuboid(
    center_mm: Float[Tensor, "batch 3"],
    side_mm: float,
    voxels: int,
    *,
    up: Up | None,
    world_up: Up | None,
    yaw_rad: Float[Tensor, " batch"] | None = None,
) -> Cuboid:
    """A cuboid whose `up` axis points along the world's, turned about that axis.

    Args:
        center_mm: world frame.
        side_mm: side length.
        voxels: per axis.
        up: which axis of the cuboid points up: that of the data a network was trained on. None: not known.
        world_up: the up-axis of this world; where either is None, the cuboid's axes are the world's.
        yaw_rad: counter-clockwise turn about the up-axis (z where it is not known); None: no turn.
    """
    center_mm = center_mm.double()
    world_up = world_up or up
    to_z = center_mm.new_tensor(_TO_Z_UP[world_up or "z"])
    turn = to_z.T @ center_mm.new_tensor(_TO_Z_UP[up or world_up or "z"])
    turn = turn.expand(len(center_mm), 3, 3)
    if yaw_rad is not None:
        cos, sin = yaw_rad.to(center_mm).cos(), yaw_rad.to(center_mm).sin()
        zero, one = torch.zeros_like(cos), torch.ones_like(cos)
        rows = [torch.stack(row, -1) for row in ((cos, -sin, zero), (sin, cos, zero), (zero, zero, one))]
        turn = to_z.T @ torch.stack(rows, -2) @ to_z @ turn
    return Cuboid(center_mm, turn, side_mm, voxels)


def unproject(
    features: Float[Tensor, "batch view channel rows columns"],
    P: Float[Tensor, "batch view 3 4"],
    image_size_px: tuple[int, int],
    cuboid: Cuboid,
    aggregation: Aggregation,
    *,
    confidence: Float[Tensor, "batch view channel"] | None = None,
    view_valid: Bool[Tensor, "batch view"] | None = None,
    legacy_alignment: bool = False,
    chunk: int | None = _CHUNK,
) -> Float[Tensor, "batch channel voxel voxel voxel"]:
    """Sample every view's features at the projections of the voxels, and aggregate over views.

    Goes through the cuboid in chunks, so that memory does not depend on the number of views; with gradients, chunks are
    computed again in the backward pass. A view that does not see a voxel (behind the camera, outside the image) does
    not take part there; a voxel that no view sees gets 0.

    Args:
        features: finite in valid views.
        P: projection matrices of the images, mm to px.
        image_size_px: width, height of the images.
        cuboid: where.
        aggregation: ``sum``, ``max``, ``softmax`` (of the values themselves), ``conf`` (sum weighted by `confidence`)
            or ``conf_norm`` (mean weighted by it), section 3.2.
        confidence: for ``conf`` and ``conf_norm``.
        view_valid: views that exist; None: all.
        legacy_alignment: as the published system: its sampling positions, and views that do not see a voxel take part
            with the value 0.
        chunk: voxels x views x samples looked at together; None: all, for graphs that do not know how many there are.
    """
    batch, views = features.shape[:2]
    with torch.autocast(features.device.type, enabled=False):
        if features.dtype != torch.float64:
            features = features.float()
        if view_valid is None:
            view_valid = torch.ones(batch, views, dtype=torch.bool, device=features.device)
        if confidence is not None:
            confidence = torch.where(view_valid[..., None], confidence.to(features), 0.0)
            if aggregation == "conf_norm" and legacy_alignment:
                total = confidence.sum(1, keepdim=True)
                confidence = confidence / torch.where(total > 0, total, 1.0)
        axes = _projected_axes(P, image_size_px, size_of(features), cuboid, legacy_alignment)
        step = cuboid.voxels if chunk is None else max(1, chunk // (batch * views * cuboid.voxels**2))
        keep_graph = torch.is_grad_enabled() and (features.requires_grad or axes[0].requires_grad)
        parts = []
        for first in range(0, cuboid.voxels, step):
            slab = (axes[0][..., first : first + step], *axes[1:])
            given = (features, slab, view_valid, confidence, aggregation, legacy_alignment)
            if keep_graph and step < cuboid.voxels:
                parts.append(checkpoint(_unproject_slab, *given, use_reentrant=False, preserve_rng_state=False))
            else:
                parts.append(_unproject_slab(*given))
        return torch.cat(parts, 2)


def integrate_volumes(
    logits: Float[Tensor, "batch joint voxel voxel voxel"], cuboid: Cuboid, *, relu: bool = False
) -> Float[Tensor, "batch joint 3"]:
    """Expected position (mm, world, float64) of each joint: the 3D soft-argmax of equation 7.

    Args:
        logits: one volume per joint.
        cuboid: where the voxels are.
        relu: weights ``max(logit, 0)`` instead of the softmax, not divided by their sum (the published behaviour).
    """
    index = integrate(logits, 3, relu=relu, normalise=False)
    if not relu:
        return cuboid.to_world(index)
    # sum w x = sum w * (center - offset) + turn * sum w i: everything that is constant scales with the mass.
    mass = cell_weights(logits, 3, relu=True).sum((-3, -2, -1)).double()[..., None]
    origin = cuboid.to_world(torch.zeros_like(index))
    return mass * origin + (cuboid.to_world(index) - origin)


def _projected_axes(
    P: Tensor, image_size_px: tuple[int, int], map_size: tuple[int, int], cuboid: Cuboid, legacy_alignment: bool
) -> tuple[Float[Tensor, "batch view 3 voxel"], ...]:
    """Three terms whose sum over (i, j, k) is the homogeneous sampling position of voxel (i, j, k).

    A projection is linear in the position, and the position is a sum over the axes. The image units are those of
    `grid_sample` with ``align_corners=False``: -1 and 1 are the outer edges of the first and the last cell.
    """
    (columns, rows) = map_size
    scale, offset = cell_grid(image_size_px, map_size, legacy_alignment=legacy_alignment)
    a, b, c = P.double().unbind(-2)
    x, y = (a - offset[0] * c) / scale[0], (b - offset[1] * c) / scale[1]
    if legacy_alignment:  # the published code divides x by the height, y by the width, and both by the size, not size-1
        x, y = x * ((columns - 1) / rows), y * ((rows - 1) / columns)
    Q = torch.stack([(2 * x + c) / columns - c, (2 * y + c) / rows - c, c], -2)
    directions = Q[..., :3] @ cuboid.turn[:, None]
    center = Q[..., :3] @ cuboid.center_mm[:, None, :, None] + Q[..., 3:]
    first, second, third = (directions[..., i, None] * cuboid.axis_mm for i in range(3))
    return first + center, second, third


def _unproject_slab(
    features: Float[Tensor, "batch view channel rows columns"],
    axes: tuple[Float[Tensor, "batch view 3 _"], ...],
    view_valid: Bool[Tensor, "batch view"],
    confidence: Float[Tensor, "batch view channel"] | None,
    aggregation: Aggregation,
    legacy_alignment: bool,
) -> Float[Tensor, "batch channel slab voxel voxel"]:
    first, second, third = axes
    plane = (second[..., :, None] + third[..., None, :])[..., None, :, :]
    x, y, depth = (first[..., None, None] + plane).unbind(2)
    shape = depth.shape[2:]
    in_front = depth > _NEAREST_MM
    inverse = 1.0 / torch.where(in_front, depth, 1.0)
    position = torch.stack([x * inverse, y * inverse], -1)
    # Far outside, a sample is 0 and has no gradient.
    position = torch.where(in_front[..., None], position, 4.0).clamp(-4.0, 4.0)
    padding = "zeros" if legacy_alignment else "border"
    grid = position.to(features.dtype).flatten(0, 1).flatten(1, 3)[:, None]
    values = F.grid_sample(features.flatten(0, 1), grid, "bilinear", padding, align_corners=False)
    values = values[:, :, 0].unflatten(0, features.shape[:2])
    seen = view_valid[:, :, None, None]
    if not legacy_alignment:
        inside = (position.detach().abs() <= 1).all(-1)
        seen = seen & inside.flatten(2)[:, :, None]
    slab: Tensor = _aggregate(values, seen, confidence, aggregation, legacy_alignment).unflatten(-1, shape)
    return slab


def _aggregate(
    values: Float[Tensor, "batch view channel point"],
    seen: Bool[Tensor, "batch view 1 _"],
    confidence: Float[Tensor, "batch view channel"] | None,
    aggregation: Aggregation,
    legacy_alignment: bool,
) -> Float[Tensor, "batch channel point"]:
    if aggregation == "sum":
        return torch.where(seen, values, 0.0).sum(1)
    if aggregation == "max":
        return torch.where(seen.any(1), torch.where(seen, values, -torch.inf).amax(1), 0.0)
    if aggregation == "softmax":
        masked = torch.where(seen, values, torch.finfo(values.dtype).min)
        weights = torch.where(seen, masked.softmax(1), 0.0)
        return (weights * values).sum(1)
    if confidence is None:
        raise ValueError(f"aggregation {aggregation!r} needs the views' confidences")
    weights = torch.where(seen, confidence[..., None], 0.0)
    total = torch.where(seen, weights * values, 0.0).sum(1)
    if aggregation == "conf" or legacy_alignment:
        return total
    mass = weights.sum(1)
    return total / torch.where(mass > 0, mass, 1.0)
