"""MoveNet as the 2D network of the learned methods: the trunk of Thunder with a heatmap for every joint."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from tripose.models import movenet
from tripose.models.config import Backbone
from tripose.models.pose_resnet import BackboneOutput, ConfidenceHead, PoseResNet

_WIDTH = 1.75  # Thunder's
_COARSE_CHANNELS = 1280
_WIDE_CHANNELS = 96


class PoseMoveNet(movenet.Trunk):
    """Heatmaps and features at a quarter of the image's resolution; parameter names are those of `MoveNet`.

    MoveNet's pyramid squeezes everything into 24 channels, which were made for 17 joints: toes were found short of
    where they are. A second, wider pyramid adds to the heatmaps what does not go through them; at first, nothing.

    Args:
        joints: number of heatmaps.
        joint_confidence: as in `PoseResNet`.
        channel_confidences: as in `PoseResNet`.
    """

    feature_channels = movenet.FEATURE_CHANNELS

    def __init__(self, joints: int, *, joint_confidence: bool = False, channel_confidences: int = 0) -> None:
        super().__init__(_WIDTH)
        self.keypoint_heatmap = movenet.head(joints)
        self.wide_pyramid = movenet.FeaturePyramid(
            self.encoder.out_channels, (_WIDE_CHANNELS,) * 4, out_channels=_WIDE_CHANNELS
        )
        self.wide_heatmap = movenet.head(joints, _WIDE_CHANNELS)
        for parameter in self.wide_heatmap[1].parameters():
            nn.init.zeros_(parameter)
        self.alg_confidences = ConfidenceHead(_COARSE_CHANNELS, joints) if joint_confidence else None
        self.vol_confidences = ConfidenceHead(_COARSE_CHANNELS, channel_confidences) if channel_confidences else None

    def forward(self, images: Float[Tensor, "image 3 height width"], *, heatmaps: bool = True) -> BackboneOutput:
        levels = self.levels(images)
        features, coarse = self.pyramid(levels), levels[-1]
        return BackboneOutput(
            self._heatmaps(features, levels) if heatmaps else features[:, :0],
            features,
            None if self.alg_confidences is None else self.alg_confidences(coarse),
            None if self.vol_confidences is None else self.vol_confidences(coarse),
        )

    def _heatmaps(self, features: Tensor, levels: list[Tensor]) -> Tensor:
        wide = self.wide_heatmap[0](self.wide_pyramid(levels))
        # In a copy for inference, the last layers keep their precision, as in `PoseResNet`.
        precise = next(self.keypoint_heatmap.parameters()).dtype
        heatmaps: Tensor = self.keypoint_heatmap(features.to(precise)) + self.wide_heatmap[1](wide.to(precise))
        return heatmaps


def build_backbone(
    name: Backbone, joints: int, *, joint_confidence: bool = False, channel_confidences: int = 0
) -> PoseResNet | PoseMoveNet:
    """The 2D network of that name, with random weights; arguments as in `PoseResNet`."""
    if name == "movenet":
        return PoseMoveNet(joints, joint_confidence=joint_confidence, channel_confidences=channel_confidences)
    layers = int(name.removeprefix("resnet"))
    return PoseResNet(layers, joints, joint_confidence=joint_confidence, channel_confidences=channel_confidences)
