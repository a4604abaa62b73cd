"""The baseline: the peak of every heatmap, then RANSAC; nothing is learned after the 2D network.

Source: Iskakov et al., ICCV 2019, section 3 (baseline).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tripose.cameras import Cameras
from tripose.geometry.dlt import Rays, dlt, projection_rays
from tripose.geometry.heatmaps import size_of, to_pixels
from tripose.geometry.robust import gauss_newton, residuals
from tripose.geometry.triangulate import triangulate
from tripose.models.config import Ransac
from tripose.models.pose_movenet import build_backbone
from tripose.models.views import ModelOutput, MultiViewModel, crop_projections, normalise, shown, without_missing

# The published gate is 15 on half distances, and its Huber loss turns linear at 1 of them.
_GATE_PX = 30.0
_HUBER_PX = 2.0
# Reweighted Gauss-Newton stops when no joint moves further than this, or after so many steps (views that contradict
# each other by tens of pixels converge slowly, and to nothing useful).
_STILL_M = 1e-7
_MOST_STEPS = 100


class RansacTriangulation(MultiViewModel):
    """From crops of two views or more to a position per joint; `confidence` says which views agree.

    Args:
        config: what the model is.
    """

    def __init__(self, config: Ransac) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(config.backbone, len(config.joints))

    def encode(self, images: Float[Tensor, "image 3 height width"]) -> tuple[Tensor]:
        """Heatmap logits."""
        return (self.backbone(normalise(images, self.config)).heatmaps,)

    def decode(
        self,
        encoded: tuple[Tensor, ...],
        cameras: Cameras,
        view_valid: Bool[Tensor, "batch view"] | None,
        image_size_px: tuple[int, int],
        center_mm: Float[Tensor, "batch 3"] | None = None,
        *,
        yaw_rad: Float[Tensor, " batch"] | None = None,
    ) -> ModelOutput:
        """Find the views that agree, without gradients; the cuboid's arguments are not used."""
        heatmaps = shown(encoded[0], view_valid)
        cells = peak(heatmaps)
        points_px = to_pixels(cells, image_size_px, size_of(heatmaps), legacy_alignment=self.config.legacy_alignment)
        seen = torch.ones_like(points_px[..., 0])
        if view_valid is not None:
            seen = seen * view_valid[..., None]
        P = crop_projections(cameras, heatmaps, view_valid)
        with torch.no_grad():
            if self.config.legacy_alignment:
                rays = projection_rays(P, points_px, seen, image_size_px)
                position_mm, agrees = largest_consensus(rays, self.config.refine)
            else:
                rig = without_missing(cameras, view_valid)
                result = triangulate(rig, points_px, seen, method="ransac", covariance=False)
                position_mm, agrees = result.position_mm, result.inlier
        return ModelOutput(
            keypoints_mm=position_mm,
            confidence=agrees.to(heatmaps.dtype),
            keypoints_px=points_px,
            heatmaps=heatmaps,
            volumes=None,
            cuboid=None,
            stages=None,
        )


def peak(heatmaps: Float[Tensor, "*batch rows columns"]) -> Float[Tensor, "*batch 2"]:
    """The cell (x, y) of the maximum, float64."""
    columns = heatmaps.shape[-1]
    flat = heatmaps.flatten(-2).argmax(-1)
    return torch.stack([flat % columns, flat // columns], -1).double()


def largest_consensus(
    rays: Rays, refine: bool
) -> tuple[Float[Tensor, "batch joint 3"], Bool[Tensor, "batch view joint"]]:
    """The published RANSAC with every pair tried instead of ten drawn with repetition.

    A pair's DLT agrees with its own views and with those where its reprojection errs by less than 30 px; the largest
    set wins, among equals the smaller truncated error; the DLT of the set is refined by a Huber loss on distances.

    Args:
        rays: the problem.
        refine: whether to refine (the published ``direct_optimization``).

    Returns:
        Positions in mm, NaN where no pair determines one, and the views that agree.
    """
    views = rays.uv.shape[-3]
    if views < 2:
        position_mm = torch.full_like(rays.uv[:, 0, :1].expand(-1, 3, -1).mT, torch.nan)
        return position_mm, torch.zeros_like(rays.weight, dtype=torch.bool)
    pairs = torch.combinations(torch.arange(views, device=rays.uv.device))
    two = Rays(rays.uv[:, pairs], rays.P[:, pairs], rays.weight[:, pairs], rays.focal_px)
    proposed, determined = dlt(two, homogeneous=1000.0)
    all_views = Rays(rays.uv[:, None], rays.P[:, None], rays.weight[:, None], rays.focal_px)
    error_px = _distance_px(all_views, proposed)
    proposer = torch.zeros(len(pairs), views, dtype=torch.bool, device=rays.uv.device).scatter_(1, pairs, True)
    usable = determined[:, :, None] & (rays.weight > 0)[:, None]
    agrees = ((error_px < _GATE_PX) | proposer[..., None]) & usable
    cost = (torch.where(usable, error_px, torch.inf).clamp(max=_GATE_PX) / _GATE_PX).square().mean(-2)
    best = (agrees.sum(-2) - 0.5 * cost).argmax(1)
    agrees = agrees.gather(1, best[:, None, None].expand(-1, 1, views, -1))[:, 0]
    position, determined = dlt(Rays(rays.uv, rays.P, agrees.double(), rays.focal_px), homogeneous=1000.0)
    if refine:
        for _ in range(_MOST_STEPS):
            before = position
            weight = agrees * _HUBER_PX / _distance_px(rays, position).clamp(min=_HUBER_PX)
            position, _ = gauss_newton(rays, position, weight)
            if bool(((position - before).abs() < _STILL_M).all()):
                break
    position_mm = torch.where(determined[..., None, :], position * 1000.0, torch.nan).mT
    return position_mm, agrees & determined[..., None, :]


def _distance_px(rays: Rays, position: Float[Tensor, "*batch 3 point"]) -> Float[Tensor, "*batch view point"]:
    difference, depth = residuals(rays, position)
    return torch.where(depth > 0, difference.norm(dim=-2) * rays.focal_px, torch.inf)
