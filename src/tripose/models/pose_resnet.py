"""The 2D network of the learned methods: a ResNet with a deconvolution head, and optional confidence heads.

Sources: Xiao et al., Simple baselines for human pose estimation and tracking, ECCV 2018; Iskakov et al., ICCV 2019,
section 3.1 (confidence heads). Parameter names are those of the released checkpoints.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

# Blocks in the four stages, by number of layers.
STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
FEATURE_CHANNELS = 256


class BackboneOutput(NamedTuple):
    """What the 2D network says about a batch of images."""

    heatmaps: Float[Tensor, "image joint rows columns"]  # logits, before any multiplier
    features: Float[Tensor, "image 256 rows columns"]
    joint_confidence: Float[Tensor, "image joint"] | None  # 0..1
    channel_confidence: Float[Tensor, "image channel"] | None  # 0..1


class PoseResNet(nn.Module):
    """Heatmaps and features at a quarter of the image's resolution.

    Args:
        layers: 18, 34, 50, 101 or 152.
        joints: number of heatmaps.
        joint_confidence: whether to have a head with one confidence per joint (the algebraic method).
        channel_confidences: number of outputs of a head with one confidence per feature channel (the volumetric
            method); 0: no such head.
    """

    feature_channels = FEATURE_CHANNELS

    def __init__(
        self, layers: int, joints: int, *, joint_confidence: bool = False, channel_confidences: int = 0
    ) -> None:
        super().__init__()
        block = BasicBlock if layers < 50 else Bottleneck
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        first, second, third, fourth = STAGES[layers]
        self.layer1 = stage(block, 64, 64, first, stride=1)
        self.layer2 = stage(block, 64 * block.expansion, 128, second, stride=2)
        self.layer3 = stage(block, 128 * block.expansion, 256, third, stride=2)
        self.layer4 = stage(block, 256 * block.expansion, 512, fourth, stride=2)
        channels = 512 * block.expansion
        self.deconv_layers = nn.Sequential(
            *deconvolution(channels), *deconvolution(FEATURE_CHANNELS), *deconvolution(FEATURE_CHANNELS)
        )
        self.final_layer = nn.Conv2d(FEATURE_CHANNELS, joints, 1)
        self.alg_confidences = ConfidenceHead(channels, joints) if joint_confidence else None
        self.vol_confidences = ConfidenceHead(channels, channel_confidences) if channel_confidences else None

    def forward(self, images: Float[Tensor, "image 3 height width"], *, heatmaps: bool = True) -> BackboneOutput:
        x = self.bn1(self.conv1(images.to(self.conv1.weight.dtype))).relu_()
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        x = self.layer2(self.layer1(x))
        # Sums of many blocks keep float32: in bfloat16, rounding them again and again in the third stage is half of the
        # whole network's error.
        x = self.layer3(x.to(torch.promote_types(x.dtype, torch.float32)))
        coarse = self.layer4(x.to(self.conv1.weight.dtype))
        features = self.deconv_layers(coarse)
        # In a copy for inference, the last layer keeps its precision: with a multiplier of 100 behind it, logits that
        # are rounded to bfloat16 move peaks.
        maps = self.final_layer(features.to(self.final_layer.weight.dtype)) if heatmaps else features[:, :0]
        return BackboneOutput(
            maps,
            features,
            None if self.alg_confidences is None else self.alg_confidences(coarse),
            None if self.vol_confidences is None else self.vol_confidences(coarse),
        )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(channels, width, stride)

    def forward(self, x: Float[Tensor, "image channel rows columns"]) -> Tensor:
        inner = narrow(x, self.conv1)
        y = self.bn2(self.conv2(self.bn1(self.conv1(inner)).relu_()))
        return add(x if self.downsample is None else self.downsample(inner), y, x.dtype)


class Bottleneck(nn.Module):
    """1x1 down, 3x3 (with the stride), 1x1 up, and a shortcut."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = shortcut(channels, 4 * width, stride)

    def forward(self, x: Float[Tensor, "image channel rows columns"]) -> Tensor:
        inner = narrow(x, self.conv1)
        y = self.bn2(self.conv2(self.bn1(self.conv1(inner)).relu_())).relu_()
        y = self.bn3(self.conv3(y))
        return add(x if self.downsample is None else self.downsample(inner), y, x.dtype)


class ConfidenceHead(nn.Module):
    """Confidences of a whole view, between 0 and 1, from the features at stride 32.

    Two poolings need a map of at least 4x4 cells: images of 128 px and more.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 512, 3, padding=1),
            nn.BatchNorm2d(512),
            nn.MaxPool2d(2),
            nn.ReLU(inplace=True),
            nn.Conv2d(512, 256, 3, padding=1),
            nn.BatchNorm2d(256),
            nn.MaxPool2d(2),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Sequential(
            nn.Linear(256, 512),
            nn.ReLU(inplace=True),
            nn.Linear(512, 256),
            nn.ReLU(inplace=True),
            nn.Linear(256, outputs),
            nn.Sigmoid(),
        )

    def forward(self, coarse: Float[Tensor, "image channel rows columns"]) -> Float[Tensor, "image output"]:
        confidence: Tensor = self.head(self.features(coarse).mean((-2, -1)))
        return confidence


def narrow(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """A float32 sum in the type of the convolution that comes next."""
    return x.to(convolution.weight.dtype) if x.dtype == torch.float32 else x


def add(shortcut: Tensor, y: Tensor, dtype: torch.dtype) -> Tensor:
    """The end of a residual block, in the type of its input."""
    return (shortcut.to(dtype) + y).relu_()


def stage(
    block: type[BasicBlock] | type[Bottleneck], channels: int, width: int, blocks: int, stride: int
) -> nn.Sequential:
    """Blocks of one width, the first of which has the stride."""
    out_channels = width * block.expansion
    return nn.Sequential(
        block(channels, width, stride), *(block(out_channels, width, stride=1) for _ in range(blocks - 1))
    )


def shortcut(channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """A 1x1 convolution where shapes differ, else None (the identity)."""
    if stride == 1 and channels == out_channels:
        return None
    return nn.Sequential(nn.Conv2d(channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


def deconvolution(channels: int) -> tuple[nn.Module, ...]:
    """Double the resolution: transposed convolution 4x4, batch norm, ReLU."""
    convolution = nn.ConvTranspose2d(channels, FEATURE_CHANNELS, 4, stride=2, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(FEATURE_CHANNELS), nn.ReLU(inplace=True)
