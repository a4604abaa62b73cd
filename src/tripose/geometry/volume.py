"""The volumetric method's geometry: a cuboid of voxels, features unprojected into it, positions read out of it.

Source: Iskakov et al., ICCV 2019, section 3.2. Projection in float64 with autocast off; sampling in the features' type.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tripose.cameras import TO_Z_UP, Up
from tripose.geometry.heatmaps import cell_grid, cell_weights, integrate, size_of

Aggregation = Literal["sum", "max", "softmax", "conf", "conf_norm"]

# Voxels x views x samples looked at together: 32 channels of them fill 2 MB, which stay in the cache.
CHUNK = 16_384
# Subtracted from the values of views that do not take part in a maximum or softmax.
_HIDDEN = 1e30
# A voxel nearer to a camera plane than this is not seen by that camera.
NEAREST_MM = 1.0


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
    to_z = center_mm.new_tensor(TO_Z_UP[world_up or "z"])
    turn = to_z.T @ center_mm.new_tensor(TO_Z_UP[up or world_up or "z"])
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
    chunk: int | None = CHUNK,
    fused: bool | None = None,
) -> Float[Tensor, "batch channel voxel voxel voxel"]:
    """Sample every view's features at the projections of the voxels, and aggregate over views.

    Goes through the cuboid in chunks, and takes no memory per view beside the features; with gradients, chunks are
    computed again in the backward pass. A view that does not see a voxel (behind the camera, outside the image) does
    not take part there; a voxel that no view sees gets 0.

    Args:
        features: whatever a missing view holds reaches nothing.
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
        fused: whether to use the compiled kernel (float32 on the CPU, no gradients); None: where it can be used and
            numba is installed.
    """
    batch, views = features.shape[:2]
    with torch.autocast(features.device.type, enabled=False):
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        if confidence is not None:
            confidence = confidence.to(features)
            if view_valid is not None:
                confidence = torch.where(view_valid[..., None], confidence, 0.0)
            if aggregation == "conf_norm" and legacy_alignment:
                total = confidence.sum(1, keepdim=True)
                confidence = confidence / torch.where(total > 0, total, 1.0)
        lines, along = _projected_lines(P, image_size_px, size_of(features), cuboid, legacy_alignment)
        step = lines.shape[-1] if chunk is None else max(1, chunk // max(1, batch * views * cuboid.voxels))
        inputs = (features, lines) if confidence is None else (features, lines, confidence)
        keep_graph = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
        if fused is None:
            fused = chunk is not None and not keep_graph and _has_kernel(features)
        if fused:
            from tripose.geometry.unproject_fused import unproject_fused

            everyone = torch.ones(batch, views, dtype=torch.bool) if view_valid is None else view_valid
            return unproject_fused(features, lines, along, everyone, confidence, aggregation, legacy_alignment)
        if view_valid is not None:
            features = torch.where(view_valid[..., None, None, None], features, 0.0)
        # Channels last: a sample then finds its channels side by side, which takes half of the time.
        maps = features.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        rest = (along, view_valid, confidence, aggregation, legacy_alignment)
        chunks = lines.split(step, -1)
        if len(chunks) == 1:
            volume = _unproject_lines(maps, lines, *rest)
        elif keep_graph:
            again = partial(checkpoint, _unproject_lines, maps, use_reentrant=False, preserve_rng_state=False)
            volume = torch.cat([again(some, *rest) for some in chunks], 2)
        else:
            volume = maps.new_empty(batch, maps.shape[1], lines.shape[-1] * cuboid.voxels)
            for some, part in zip(chunks, volume.split(step * cuboid.voxels, 2), strict=True):
                _unproject_lines(maps, some, *rest, out=part)
        return volume.view(*volume.shape[:2], *(cuboid.voxels,) * 3)


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


def _has_kernel(features: Tensor) -> bool:
    fits = features.device.type == "cpu" and features.dtype == torch.float32
    return fits and not torch.compiler.is_compiling() and has_numba()


@cache
def has_numba() -> bool:
    """Whether the compiled kernel can be used: numba is installed, and made for this version of NumPy."""
    try:
        importlib.import_module("numba")
    except ImportError:
        return False
    return True


def _projected_lines(
    P: Tensor, image_size_px: tuple[int, int], map_size: tuple[int, int], cuboid: Cuboid, legacy_alignment: bool
) -> tuple[Float[Tensor, "batch view 3 line"], Float[Tensor, "batch view 3 voxel"]]:
    """Where to sample, as homogeneous positions: of the start of every line of voxels (i, j), and along the lines.

    A projection is linear in the position, and the position is a sum over the axes, so voxel (i, j, k) is at
    ``lines[i * voxels + j] + along[k]``. The image units are those of `grid_sample` with ``align_corners=False``: -1
    and 1 are the outer edges of the first and the last cell.
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
    return ((first + center)[..., :, None] + second[..., None, :]).flatten(-2), third


def _unproject_lines(
    maps: Float[Tensor, "image channel rows columns"],
    lines: Float[Tensor, "batch view 3 line"],
    along: Float[Tensor, "batch view 3 voxel"],
    view_valid: Bool[Tensor, "batch view"] | None,
    confidence: Float[Tensor, "batch view channel"] | None,
    aggregation: Aggregation,
    legacy_alignment: bool,
    out: Float[Tensor, "batch channel point"] | None = None,
) -> Float[Tensor, "batch channel point"]:
    x, y, depth = (lines[..., :, None] + along[..., None, :]).flatten(-2).unbind(2)
    in_front = depth > NEAREST_MM
    inverse = 1.0 / torch.where(in_front, depth, 1.0)
    # Far outside, a sample is 0 and has no gradient; so it is behind the camera.
    far = torch.where(in_front, 0.0, 8.0)
    # So is everything where the cuboid stands nowhere: NaN positions crash the sampler's backward pass.
    x, y = ((axis * inverse).nan_to_num(4.0).clamp(-4.0, 4.0) for axis in (x, y))
    position = torch.stack([x + far, y], -1)
    position = position.to(maps.dtype)
    padding = "zeros" if legacy_alignment else "border"
    values = F.grid_sample(maps, position.flatten(0, 1)[:, None], "bilinear", padding, align_corners=False)
    values = values[:, :, 0].unflatten(0, depth.shape[:2])
    seen = None if legacy_alignment else (position.detach().abs() <= 1).all(-1)[:, :, None]
    if view_valid is not None:
        seen = view_valid[:, :, None, None] if seen is None else seen & view_valid[:, :, None, None]
    return _aggregate(values, seen, confidence, aggregation, legacy_alignment, out)


def _aggregate(
    values: Float[Tensor, "batch view channel point"],
    seen: Bool[Tensor, "batch view 1 _"] | None,
    confidence: Float[Tensor, "batch view channel"] | None,
    aggregation: Aggregation,
    legacy_alignment: bool,
    out: Float[Tensor, "batch channel point"] | None,
) -> Float[Tensor, "batch channel point"]:
    # Numbers instead of `torch.where`, whose broadcasting takes as long as the sampling itself.
    mask = None if seen is None else seen.to(values)
    if aggregation in ("max", "softmax"):
        shown = values if mask is None else values + (mask - 1) * _HIDDEN
        if aggregation == "max":
            best = torch.amax(shown, 1, out=out)
        else:
            best = torch.sum(_product(shown.softmax(1), values), 1, out=out)
        return best if mask is None else _product(best, mask.amax(1))
    if aggregation == "sum":
        return torch.sum(values if mask is None else mask * values, 1, out=out)
    if confidence is None:
        raise ValueError(f"aggregation {aggregation!r} needs the views' confidences")
    weights = confidence[..., None] if mask is None else mask * confidence[..., None]
    total = torch.sum(weights * values, 1, out=out)
    if aggregation == "conf" or legacy_alignment:
        return total
    mass = weights.sum(1)
    return _product(total, 1.0 / torch.where(mass > 0, mass, 1.0))


def _product(a: Tensor, b: Tensor) -> Tensor:
    """In `a` where no gradient needs it: much of the time of an aggregation is memory."""
    return a * b if a.requires_grad or b.requires_grad else a.mul_(b)
