"""Volumetric triangulation: features of all views in one cuboid, a 3D network, a 3D soft-argmax.

Source: Iskakov et al., ICCV 2019, section 3.2.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tripose.cameras import Cameras
from tripose.errors import TriposeError
from tripose.geometry.volume import CHUNK, Cuboid, integrate_volumes, place_cuboid, unproject
from tripose.models.config import Evidence, Volumetric
from tripose.models.pose_movenet import build_backbone
from tripose.models.v2v import CHANNELS, V2V, LightV2V
from tripose.models.views import ModelOutput, MultiViewModel, crop_projections, look, normalise
from tripose.skeleton import Skeleton


class VolumetricTriangulation(MultiViewModel):
    """From crops of one view or more to a position per joint.

    Args:
        config: what the model is.

    Raises:
        TriposeError: a number of voxels that the 3D network cannot halve often enough.
    """

    def __init__(self, config: Volumetric) -> None:
        super().__init__()
        self.config = config
        weighted = config.aggregation in ("conf", "conf_norm")
        joints = len(config.joints)
        self.backbone = build_backbone(config.backbone, joints, channel_confidences=CHANNELS if weighted else 0)
        self.process_features = nn.Sequential(nn.Conv2d(self.backbone.feature_channels, CHANNELS, 1))
        self.volume_net = V2V(joints) if config.net == "v2v" else LightV2V(joints)
        if config.voxels % self.volume_net.divisor:
            raise TriposeError(
                f"voxels is {config.voxels}; the net {config.net!r} needs a multiple of {self.volume_net.divisor}"
            )

    def encode(self, images: Float[Tensor, "image 3 height width"]) -> tuple[Tensor, Tensor]:
        """Features for the cuboid, and the confidence of every channel (none without the head)."""
        result = self.backbone(normalise(images, self.config), heatmaps=False)
        confidence = result.channel_confidence
        features: Tensor = self.process_features(result.features.to(self.process_features[0].weight.dtype))
        return features, features[..., :0, 0, 0] if confidence is None else confidence

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
        """Look for the joints in a cuboid.

        Args:
            encoded: see `MultiViewModel.decode`, like what is not named here.
            cameras: their up-axis turns the cuboid.
            view_valid: views that exist; None: all.
            image_size_px: of the crops.
            center_mm: centre of the cuboid: the person's root, see `root_mm`.
            yaw_rad: turn of the cuboid about the up-axis; None: drawn at random in training, else 0.

        Raises:
            ValueError: no `center_mm`, or of another shape.
        """
        config, (features, confidence) = self.config, encoded
        if center_mm is None:
            raise ValueError("the volumetric method needs center_mm, the place of its cuboid")
        if center_mm.shape != (len(features), 3):
            raise ValueError(f"center_mm is {list(center_mm.shape)}; {len(features)} samples need {[len(features), 3]}")
        cuboid = cuboid_around(center_mm.to(features.device), cameras, config, yaw_rad, training=self.training)
        P = crop_projections(cameras, features, view_valid)
        volumes = self.volumes(features, confidence, P, image_size_px, cuboid, view_valid)
        keypoints_mm = integrate_volumes(volumes, cuboid, relu=not config.softmax)
        keypoints_px, seen = look(keypoints_mm, P, image_size_px)
        if view_valid is not None:
            seen = seen & view_valid[..., None]
            keypoints_mm = torch.where(view_valid.any(1)[:, None, None], keypoints_mm, torch.nan)
        return ModelOutput(
            keypoints_mm=keypoints_mm,
            confidence=seen.to(volumes.dtype),
            keypoints_px=keypoints_px,
            heatmaps=None,
            volumes=volumes,
            cuboid=cuboid,
            stages=None,
        )

    def volumes(
        self,
        features: Float[Tensor, "batch view 32 rows columns"],
        confidence: Float[Tensor, "batch view _"],
        P: Float[Tensor, "batch view 3 4"],
        image_size_px: tuple[int, int],
        cuboid: Cuboid,
        view_valid: Bool[Tensor, "batch view"] | None = None,
        chunk: int | None = CHUNK,
    ) -> Float[Tensor, "batch joint voxel voxel voxel"]:
        """Logits (with the multiplier) of every joint in the cuboid; `chunk` as in `unproject`."""
        unprojected = unproject(
            features,
            P,
            image_size_px,
            cuboid,
            self.config.aggregation,
            confidence=confidence if confidence.shape[-1] else None,
            view_valid=view_valid,
            legacy_alignment=self.config.legacy_alignment,
            chunk=chunk,
        )
        volumes: Tensor = self.volume_net(unprojected)
        return volumes * self.config.multiplier


def cuboid_around(
    center_mm: Float[Tensor, "batch 3"],
    cameras: Cameras,
    config: Volumetric | Evidence,
    yaw_rad: Float[Tensor, " batch"] | None,
    *,
    training: bool,
) -> Cuboid:
    """The cuboid of a configuration, upright in the world of the cameras; in training, turned at random."""
    if yaw_rad is None and training:
        yaw_rad = 2 * math.pi * torch.rand(len(center_mm), dtype=torch.float64, device=center_mm.device)
    return place_cuboid(center_mm, config.side_mm, config.voxels, up=config.up, world_up=cameras.up, yaw_rad=yaw_rad)


def root_mm(keypoints_mm: Float[Tensor, "batch joint 3"], skeleton: Skeleton) -> Float[Tensor, "batch 3"]:
    """Where the cuboid of a person stands: the pelvis, or the middle of the hips.

    Give an algebraic model's keypoints, or the truth (the published ``use_gt_pelvis``).
    """
    if skeleton.root is not None:
        return keypoints_mm[:, skeleton.index(skeleton.root)]
    return keypoints_mm[:, [skeleton.index("left_hip"), skeleton.index("right_hip")]].mean(1)
