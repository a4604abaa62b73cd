"""MoveNet as a plain trainable network: a MobileNetV2 encoder, a feature pyramid to stride 4, and one small head each.

Two published models differ only in width and in the box heads: Thunder (one person per crop, width 1.75) and
Multipose (several people per image, width 1.5). The structure was read from the released graphs ("MoveNet
singlepose/thunder/4" and "multipose/lightning/1", Google, Apache-2.0), which follow CenterNet (arXiv:1904.07850) on
MobileNetV2 (arXiv:1801.04381) with a feature pyramid (arXiv:1612.03144). Batch norms are folded into the convolutions,
as in the release, so there is no running state and training and evaluation mode are the same function.

Cells and pixels: cell (i, j) of a head covers the pixels 4i ... 4i+3; a position of `u` cells, counted from the left
edge of the image as the heads do, is the pixel coordinate `4 u - 0.5` where pixel centres are integers. The centre of
cell j is `u = j + 0.5`.
"""

from typing import NotRequired, TypedDict

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

STRIDE = 4
N_KEYPOINTS = 17

# MobileNetV2, table 2: (expansion, channels at width 1, number of blocks, stride of the first block).
ENCODER_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# Stages whose output has stride 4, 8 and 16 and goes to the pyramid; the last convolution gives stride 32.
PYRAMID_STAGES = (1, 2, 3)
# Channels at stride 32, 16, 8 and 4; a step from one to the next ends with the channels of the finer level.
PYRAMID_CHANNELS = (64, 64, 32, 24)
FEATURE_CHANNELS = 24
HEAD_CHANNELS = 96


class MoveNetHeads(TypedDict):
    """What the heads say in every cell of the image; positions are (x, y) in cells, relative to the cell's index."""

    keypoint_heatmap: Float[Tensor, "batch 17 rows columns"]  # logits
    keypoint_offset: Float[Tensor, "batch 17 2 rows columns"]  # from the index of the peak's cell to the keypoint
    center_heatmap: Float[Tensor, "batch 1 rows columns"]  # logits: the middle of a person
    keypoint_regression: Float[Tensor, "batch 17 2 rows columns"]  # from the centre's cell to the keypoint, coarse
    box_offset: NotRequired[Float[Tensor, "batch 2 rows columns"]]  # multipose: from the centre's cell to the box's
    box_size: NotRequired[Float[Tensor, "batch 2 rows columns"]]  # multipose: width and height in cells


class Trunk(nn.Module):
    """All but the heads.

    Args:
        width: width multiplier of the encoder, 1.75 for Thunder and 1.5 for Multipose.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        self.encoder = Encoder(width)
        self.pyramid = FeaturePyramid(self.encoder.out_channels)

    def features(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 24 rows columns"]:
        """Features at stride 4 (`rows = height / 4`), which all heads read.

        Args:
            images: RGB in 0..1; height and width are multiples of 32.

        Raises:
            ValueError: for another number of channels or another size.
        """
        features: Tensor = self.pyramid(self.levels(images))
        return features

    def levels(self, images: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        """What the pyramid is made of, at stride 4, 8, 16 and 32 (arguments and errors as in `features`)."""
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % 32 or images.shape[3] % 32:
            raise ValueError(
                "expected images [batch 3 height width] with height and width multiples of 32, "
                f"got {list(images.shape)}: resize or pad them"
            )
        levels: list[Tensor] = self.encoder((images * 2 - 1).to(self.encoder.stem.weight.dtype))
        return levels


class MoveNet(Trunk):
    """MoveNet with random weights; `tripose.detect.movenet` loads the released ones.

    Args:
        width: of the trunk.
        boxes: whether there are box heads (Multipose).
    """

    def __init__(self, width: float = 1.75, *, boxes: bool = False) -> None:
        super().__init__(width)
        self.keypoint_heatmap = head(N_KEYPOINTS)
        self.keypoint_offset = head(2 * N_KEYPOINTS)
        self.center_heatmap = head(1)
        self.keypoint_regression = head(2 * N_KEYPOINTS)
        self.box_offset = head(2) if boxes else None
        self.box_size = head(2) if boxes else None

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> MoveNetHeads:
        """All heads of a batch of images (arguments and errors as in `features`)."""
        features = self.features(images)
        heads = MoveNetHeads(
            keypoint_heatmap=self.keypoint_heatmap(features),
            keypoint_offset=self.keypoint_offset(features).unflatten(1, (N_KEYPOINTS, 2)),
            center_heatmap=self.center_heatmap(features),
            keypoint_regression=self.keypoint_regression(features).unflatten(1, (N_KEYPOINTS, 2)),
        )
        if self.box_offset is not None and self.box_size is not None:
            heads["box_offset"] = self.box_offset(features)
            heads["box_size"] = self.box_size(features)
        return heads


class Encoder(nn.Module):
    """MobileNetV2: images in -1..1 to features at stride 4, 8, 16 and 32, whose channels are `out_channels`."""

    def __init__(self, width: float) -> None:
        super().__init__()
        channels = scaled_channels(32, width)
        self.stem = Convolution(3, channels, kernel=3, stride=2)
        self.stages = nn.ModuleList()
        self.out_channels: list[int] = []
        for index, (expansion, base_channels, n_blocks, stride) in enumerate(ENCODER_STAGES):
            out_channels = scaled_channels(base_channels, width)
            stage = [InvertedResidual(channels, out_channels, expansion, stride)]
            stage += [InvertedResidual(out_channels, out_channels, expansion, 1) for _ in range(n_blocks - 1)]
            self.stages.append(nn.Sequential(*stage))
            channels = out_channels
            if index in PYRAMID_STAGES:
                self.out_channels.append(channels)
        # 1280 at every width up to 2, unlike in MobileNetV2.
        self.last = Convolution(channels, 1280, kernel=1)
        self.out_channels.append(1280)

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        # The filters of the first stage cancel large numbers: rounding its depthwise weights to bfloat16 moves a tenth
        # of the keypoints by 3 px of 256 or more, rounding everything after it by 0.7 px.
        with torch.autocast(images.device.type, enabled=False):
            x = self.stages[0](relu6(self.stem(images)))
        levels = []
        for index, stage in enumerate(self.stages[1:], start=1):
            x = stage(x)
            if index in PYRAMID_STAGES:
                levels.append(x)
        return [*levels, relu6(self.last(x))]


class InvertedResidual(nn.Module):
    """Widen by 1x1, filter each channel by 3x3, narrow by 1x1 without activation; a shortcut where shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = in_channels * expansion
        self.expand = Convolution(in_channels, inner, kernel=1) if expansion > 1 else None
        self.depthwise = Convolution(inner, inner, kernel=3, stride=stride, groups=inner)
        self.project = Convolution(inner, out_channels, kernel=1)
        self.shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Float[Tensor, "batch channels rows columns"]) -> Tensor:
        inner = x if self.expand is None else relu6(self.expand(x))
        y: Tensor = self.project(relu6(self.depthwise(inner)))
        return x + y if self.shortcut else y


class FeaturePyramid(nn.Module):
    """From stride 32 down to 4: upsample, add the encoder's level, smooth.

    Args:
        in_channels: of the encoder's levels, the finest first.
        channels: of the pyramid, the coarsest first.
        out_channels: of the result.
    """

    def __init__(
        self,
        in_channels: list[int],
        channels: tuple[int, ...] = PYRAMID_CHANNELS,
        out_channels: int = FEATURE_CHANNELS,
    ) -> None:
        super().__init__()
        fine = channels[::-1]
        self.lateral = nn.ModuleList(Convolution(i, o, kernel=1) for i, o in zip(in_channels, fine, strict=True))
        self.smooth = nn.ModuleList(
            SeparableConvolution(i, o) for i, o in zip(fine[:3], (out_channels, *fine[:2]), strict=True)
        )

    def forward(self, levels: list[Tensor]) -> Float[Tensor, "batch channel rows columns"]:
        x: Tensor = self.lateral[3](levels[3])
        for level in (2, 1, 0):
            x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = self.smooth[level](x + self.lateral[level](levels[level]))
        return x


class SeparableConvolution(nn.Module):
    """3x3 for each channel, then 1x1 and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise = Convolution(in_channels, in_channels, kernel=3, groups=in_channels, bias=False)
        self.pointwise = Convolution(in_channels, out_channels, kernel=1)

    def forward(self, x: Float[Tensor, "batch channels rows columns"]) -> Tensor:
        x = self.pointwise(self.depthwise(x))
        return F.relu(x, inplace=not x.requires_grad)


class Convolution(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding for even sizes: at stride 2 the 3x3 window starts on the pixel.

    The padding is then (left 0, right 1, top 0, bottom 1); PyTorch's (1, 1, 1, 1) would shift the output by a pixel.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int, stride: int = 1, groups: int = 1, bias: bool = True
    ) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=bias)

    def forward(self, x: Float[Tensor, "batch channels rows columns"]) -> Tensor:
        if self.kernel_size == (1, 1):
            # The same numbers as a matrix product: on one CPU thread, torch 2.13 sends 1x1 convolutions of small
            # batches to a path that makes the whole network 1.8 times slower (111 instead of 61 ms an image).
            if self.weight.dtype != torch.float32:
                x = x.to(self.weight.dtype)
            return F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)
        x = F.pad(x, (0, 1, 0, 1)) if self.stride[0] == 2 else x
        return super().forward(x)


def relu6(x: Float[Tensor, "batch channels rows columns"]) -> Tensor:
    """Between 0 and 6; in place in prediction only."""
    # In training it would be in place in the view that a 1x1 convolution returns, whose backward pass copies everything
    # (a third of a training step).
    return F.relu6(x, inplace=not x.requires_grad)


def head(out_channels: int, in_channels: int = FEATURE_CHANNELS) -> nn.Sequential:
    """One output: a separable convolution and a linear map in every cell."""
    return nn.Sequential(
        SeparableConvolution(in_channels, HEAD_CHANNELS),
        Convolution(HEAD_CHANNELS, out_channels, kernel=1),
    )


def scaled_channels(channels: int, width: float) -> int:
    """The nearest multiple of 8 to `channels * width`, at most 10 % below it (MobileNetV2's rule)."""
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * scaled else rounded + 8
