"""Algebraic triangulation: soft-argmax positions and learned confidences into a differentiable DLT.

Source: Iskakov et al., ICCV 2019, section 3.1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tripose.cameras import Cameras
from tripose.geometry.dlt import dlt, projection_rays
from tripose.geometry.heatmaps import size_of, soft_argmax, to_pixels
from tripose.models.config import Algebraic
from tripose.models.pose_resnet import PoseResNet
from tripose.models.views import ModelOutput, crop_projections, encode_views, normalise

# Added to normalised confidences, as published: no view is ever quite without a say.
_CONFIDENCE_FLOOR = 1e-5


class Located(NamedTuple):
    """Joints of a batch, see `ModelOutput`."""

    keypoints_mm: Float[Tensor, "batch joint 3"]
    confidence: Float[Tensor, "batch view joint"]
    keypoints_px: Float[Tensor, "batch view joint 2"]


class AlgebraicTriangulation(nn.Module):
    """From crops of two views or more to a position per joint.

    Args:
        config: what the model is.
    """

    def __init__(self, config: Algebraic) -> None:
        super().__init__()
        self.config = config
        self.backbone = PoseResNet(config.layers, len(config.joints), joint_confidence=config.confidences)

    def forward(
        self,
        images: Float[Tensor, "batch view 3 height width"],
        cameras: Cameras,
        view_valid: Bool[Tensor, "batch view"] | None = None,
        center_mm: Float[Tensor, "batch 3"] | None = None,
    ) -> ModelOutput:
        """Estimate the joints.

        Args:
            images: crops, RGB in 0..1.
            cameras: of the crops (pinhole), with or without a batch axis.
            view_valid: views that exist; None: all.
            center_mm: not used; the volumetric method needs it.
        """
        heatmaps, confidence = encode_views(self.encode, images, view_valid, training=self.training)
        if view_valid is not None:
            confidence = torch.where(view_valid[..., None], confidence, 0.0)
        P = crop_projections(cameras, images, view_valid)
        located = self.locate(heatmaps, confidence, P, size_of(images))
        return ModelOutput(
            keypoints_mm=located.keypoints_mm,
            confidence=located.confidence,
            keypoints_px=located.keypoints_px,
            heatmaps=heatmaps,
            volumes=None,
            cuboid=None,
        )

    def encode(self, images: Float[Tensor, "image 3 height width"]) -> tuple[Tensor, Tensor]:
        """Heatmap logits (with the multiplier), and the confidence of every joint (1 without the head)."""
        result = self.backbone(normalise(images, self.config))
        confidence = result.joint_confidence
        if confidence is None:
            confidence = torch.ones_like(result.heatmaps[..., 0, 0])
        return result.heatmaps * self.config.multiplier, confidence

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
            cells = soft_argmax(heatmaps, relu=not self.config.softmax)
            points_px = to_pixels(cells, image_size_px, size_of(heatmaps), legacy_alignment=legacy)
            confidence = confidence if confidence.dtype == torch.float64 else confidence.float()
            total = confidence.sum(1, keepdim=True)
            share = confidence / torch.where(total > 0, total, 1.0) + _CONFIDENCE_FLOOR
            # A view without any confidence is missing: the floor must not bring it back.
            share = torch.where(confidence > 0, share, 0.0)
            # The published DLT works in mm, which its norm of [X, 1] depends on.
            rays = projection_rays(P, points_px, share, image_size_px)
            position, determined = dlt(rays, homogeneous=1000.0 if legacy else 1.0)
            # NaN comes last, so that an undetermined joint has zero gradients.
            position_mm = torch.where(determined[..., None, :], position * 1000.0, torch.nan).mT
        return Located(position_mm, share, points_px)
