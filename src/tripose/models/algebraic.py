"""Algebraic triangulation: soft-argmax positions and learned confidences into a differentiable DLT.

Source: Iskakov et al., ICCV 2019, section 3.1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tripose.cameras import Cameras
from tripose.geometry.dlt import dlt, projection_rays
from tripose.geometry.heatmaps import cell_weights, expected_cells, size_of, to_pixels
from tripose.models.confidence import ViewConfidence, focal_lengths, heatmap_statistics
from tripose.models.config import Algebraic
from tripose.models.pose_movenet import build_backbone
from tripose.models.views import ModelOutput, MultiViewModel, crop_projections, normalise, shown

# Added to normalised confidences, as published: no view is ever quite without a say.
_CONFIDENCE_FLOOR = 1e-5


class Located(NamedTuple):
    """Joints of a batch, see `ModelOutput`."""

    keypoints_mm: Float[Tensor, "batch joint 3"]
    confidence: Float[Tensor, "batch view joint"]
    keypoints_px: Float[Tensor, "batch view joint 2"]
    statistics: Float[Tensor, "batch view joint _"]  # of the heatmaps, where they weigh the views


class AlgebraicTriangulation(MultiViewModel):
    """From crops of two views or more to a position per joint.

    Args:
        config: what the model is.
    """

    def __init__(self, config: Algebraic) -> None:
        super().__init__()
        self.config = config
        joints = len(config.joints)
        self.backbone = build_backbone(config.backbone, joints, joint_confidence=config.confidences == "image")
        self.confidence = ViewConfidence(joints) if config.confidences == "evidence" else None

    def encode(self, images: Float[Tensor, "image 3 height width"]) -> tuple[Tensor, Tensor]:
        """Heatmap logits (with the multiplier), and the confidence of every joint (1 without the head)."""
        result = self.backbone(normalise(images, self.config))
        confidence = result.joint_confidence
        if confidence is None:
            confidence = torch.ones_like(result.heatmaps[..., 0, 0])
        return result.heatmaps * self.config.multiplier, confidence

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
        """Weigh and triangulate; the cuboid's arguments are not used."""
        heatmaps, confidence = (shown(e, view_valid) for e in encoded)
        located = self.locate(heatmaps, confidence, crop_projections(cameras, heatmaps, view_valid), image_size_px)
        return ModelOutput(
            keypoints_mm=located.keypoints_mm,
            confidence=located.confidence,
            keypoints_px=located.keypoints_px,
            heatmaps=heatmaps,
            volumes=None,
            cuboid=None,
            stages=None,
        )

    def locate(
        self,
        heatmaps: Float[Tensor, "batch view joint rows columns"],
        confidence: Float[Tensor, "batch view joint"],
        P: Float[Tensor, "batch view 3 4"],
        image_size_px: tuple[int, int],
    ) -> Located:
        """The geometry, in float64: soft-argmax, confidences that sum to one over the views, weighted DLT.

        Args:
            heatmaps: logits, with the multiplier.
            confidence: 0 removes a view.
            P: of the crops, mm to px.
            image_size_px: width, height of the crops.
        """
        legacy = self.config.legacy_alignment
        with torch.autocast(heatmaps.device.type, enabled=False):
            weights = cell_weights(heatmaps, 2, relu=not self.config.softmax)
            cells, points_px = read_points(weights, self.config, image_size_px)
            statistics = heatmaps.new_zeros(*confidence.shape, 0)
            if self.confidence is None:
                share = shares(confidence)
                # The published DLT works in mm, which its norm of [X, 1] depends on.
                rays, unit = projection_rays(P, points_px, share, image_size_px), 1000.0 if legacy else 1.0
            else:
                statistics = heatmap_statistics(weights.detach(), cells.detach())
                share = self.confidence(statistics, points_px, confidence > 0, P, image_size_px)
                rays, unit = projection_rays(P, points_px, share / focal_lengths(P)[..., None], image_size_px), 0.0
            position, determined = dlt(rays, homogeneous=unit)
            # NaN comes last, so that an undetermined joint has zero gradients.
            position_mm = torch.where(determined[..., None, :], position * 1000.0, torch.nan).mT
        return Located(position_mm, share, points_px, statistics)


def read_points(
    weights: Float[Tensor, "*batch rows columns"], config: Algebraic, image_size_px: tuple[int, int]
) -> tuple[Float[Tensor, "*batch 2"], Float[Tensor, "*batch 2"]]:
    """Where heatmaps (as weights of their cells) see the joints: in cells, and in pixels."""
    window_px, cell_px = config.window_px, image_size_px[0] / weights.shape[-1]
    cells = expected_cells(weights, None if window_px is None else window_px / cell_px)
    return cells, to_pixels(cells, image_size_px, size_of(weights), legacy_alignment=config.legacy_alignment)


def shares(confidence: Float[Tensor, "batch view joint"]) -> Float[Tensor, "batch view joint"]:
    """Confidences that sum to one over the views, each a little more than nothing, as published."""
    confidence = confidence if confidence.dtype == torch.float64 else confidence.float()
    total = confidence.sum(1, keepdim=True)
    share = confidence / torch.where(total > 0, total, 1.0) + _CONFIDENCE_FLOOR
    # A view without any confidence is missing: the floor must not bring it back.
    return torch.where(confidence > 0, share, 0.0)
