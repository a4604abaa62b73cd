"""V2V: the 3D network of the volumetric method, and a light one for models trained here.

Source: Moon et al., V2V-PoseNet, CVPR 2018, as changed by Iskakov et al., ICCV 2019. Parameter names are those of the
released checkpoints.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

CHANNELS = 32
# Channels of the levels of the hourglass, from full resolution down; each level halves the resolution.
LEVELS = (32, 64, 128, 128, 128, 128)


class V2V(nn.Module):
    """Features in a cuboid to one logit volume per joint, at the same resolution.

    Args:
        joints: number of volumes.
        stem: side of the first convolution's kernel.
    """

    divisor = 32
    """The number of voxels along an axis must be a multiple of this."""

    def __init__(self, joints: int, stem: int = 7) -> None:
        super().__init__()
        self.front_layers = nn.Sequential(Basic3D(32, 16, stem), Res3D(16, 32), Res3D(32, 32), Res3D(32, 32))
        self.encoder_decoder = Hourglass3D()
        self.back_layers = nn.Sequential(Res3D(32, 32), Basic3D(32, 32, 1), Basic3D(32, 32, 1))
        self.output_layer = nn.Conv3d(32, joints, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(cast(Tensor, module.bias))

    def forward(self, x: Float[Tensor, "batch 32 i j k"]) -> Float[Tensor, "batch joint i j k"]:
        x = x.to(next(self.front_layers.parameters()).dtype)
        x = self.encoder_decoder(self.front_layers(x))
        # Like the last layer of the 2D network, the last ones here keep their precision in a copy for inference.
        logits: Tensor = self.output_layer(self.back_layers(x.to(self.output_layer.weight.dtype)))
        return logits


class LightV2V(nn.Module):
    """V2V at half the resolution, its logits upsampled: a tenth of the arithmetic (28 instead of 296 GFLOP at 64^3).

    The stem's 4^3 kernel puts cell i between the voxels 2i and 2i + 1, where trilinear upsampling expects it.
    """

    divisor = 64

    def __init__(self, joints: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(32, 32, 4, stride=2, padding=1), nn.BatchNorm3d(32), nn.ReLU(inplace=True))
        self.body = V2V(joints, stem=3)

    def forward(self, x: Float[Tensor, "batch 32 i j k"]) -> Float[Tensor, "batch joint i j k"]:
        x = x.to(next(self.stem.parameters()).dtype)
        return F.interpolate(self.body(self.stem(x)), scale_factor=2.0, mode="trilinear", align_corners=False)


class Hourglass3D(nn.Module):
    """Five times down and up again, with a residual block on every shortcut."""

    def __init__(self) -> None:
        super().__init__()
        for i, (fine, coarse) in enumerate(pairwise(LEVELS), start=1):
            setattr(self, f"skip_res{i}", Res3D(fine, fine))
            setattr(self, f"encoder_res{i}", Res3D(fine, coarse))
            setattr(self, f"decoder_res{i}", Res3D(coarse, coarse))
            setattr(self, f"decoder_upsample{i}", Upsample3D(coarse, fine))
        self.mid_res = Res3D(LEVELS[-1], LEVELS[-1])

    def forward(self, x: Float[Tensor, "batch 32 i j k"]) -> Tensor:
        shortcuts = []
        for i in range(1, len(LEVELS)):
            shortcuts.append(getattr(self, f"skip_res{i}")(x))
            x = getattr(self, f"encoder_res{i}")(F.max_pool3d(x, 2))
        x = self.mid_res(x)
        for i in range(len(LEVELS) - 1, 0, -1):
            x = getattr(self, f"decoder_upsample{i}")(getattr(self, f"decoder_res{i}")(x)) + shortcuts.pop()
        return x


class Basic3D(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv3d(channels, out_channels, kernel, padding=(kernel - 1) // 2),
            nn.BatchNorm3d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Float[Tensor, "batch channel i j k"]) -> Tensor:
        y: Tensor = self.block(x)
        return y


class Res3D(nn.Module):
    """Two 3^3 convolutions and a shortcut."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.res_branch = nn.Sequential(
            nn.Conv3d(channels, out_channels, 3, padding=1),
            nn.BatchNorm3d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv3d(out_channels, out_channels, 3, padding=1),
            nn.BatchNorm3d(out_channels),
        )
        self.skip_con = nn.Sequential()
        if channels != out_channels:
            self.skip_con = nn.Sequential(nn.Conv3d(channels, out_channels, 1), nn.BatchNorm3d(out_channels))

    def forward(self, x: Float[Tensor, "batch channel i j k"]) -> Tensor:
        y: Tensor = self.res_branch(x)
        y += self.skip_con(x)
        return y.relu_()


class Upsample3D(nn.Module):
    """Double the resolution: transposed convolution 2^3, batch norm, ReLU."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.ConvTranspose3d(channels, out_channels, 2, stride=2),
            nn.BatchNorm3d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Float[Tensor, "batch channel i j k"]) -> Tensor:
        y: Tensor = self.block(x)
        return y
