"""The light 3D network that corrects the evidence of the heatmaps: an hourglass at half the cuboid's resolution."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_FINE, _COARSE = 48, 64
_GROUPS = 8
# Mean and largest evidence of the views are at most 8.3, the logarithm of the cells of a heatmap; the network sees them
# near one.
_MEAN_SCALE, _LARGEST_SCALE = 0.4, 0.25


class EvidenceNet(nn.Module):
    """Evidence of the views to one logit volume per joint, at the same resolution.

    The logits are the sum of the evidence, times a factor per joint that starts at one, plus a correction that starts
    near zero: before any training this is the decoding of the evidence itself.

    Args:
        joints: number of volumes.
    """

    divisor = 8
    """The number of voxels along an axis must be a multiple of this."""

    def __init__(self, joints: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_half(2 * joints, _FINE, kernel=4))
        self.fine = Residual(_FINE)
        self.down = nn.Sequential(*_half(_FINE, _COARSE, kernel=2), Residual(_COARSE), Residual(_COARSE))
        self.bottom = nn.Sequential(
            *_half(_COARSE, _COARSE, kernel=2), Residual(_COARSE), nn.Conv3d(_COARSE, _COARSE, 1)
        )
        self.up = nn.Sequential(Residual(_COARSE), nn.Conv3d(_COARSE, _FINE, 1))
        self.fine_again = Residual(_FINE)
        self.output_layer = nn.Conv3d(_FINE, joints, 1)
        self.factor = nn.Parameter(torch.ones(joints))
        nn.init.normal_(self.output_layer.weight, std=0.003)
        nn.init.zeros_(cast(Tensor, self.output_layer.bias))

    def forward(
        self,
        total: Float[Tensor, "batch joint i j k"],
        mean: Float[Tensor, "batch joint i j k"],
        largest: Float[Tensor, "batch joint i j k"],
    ) -> Float[Tensor, "batch joint i j k"]:
        """Logits.

        Args:
            total: what the views' evidence adds up to.
            mean: of the views.
            largest: of the views. How far it is above the mean is how far the views disagree.
        """
        x = torch.cat([mean * _MEAN_SCALE, largest * _LARGEST_SCALE], 1)
        x = x.to(next(self.stem.parameters()).dtype).contiguous(memory_format=torch.channels_last_3d)
        fine = self.fine(self.stem(x))
        coarse = self.down(fine)
        coarse = coarse + _double(self.bottom(coarse))
        fine = self.fine_again(fine + _double(self.up(coarse)))
        correction = _double(self.output_layer(fine.to(self.output_layer.weight.dtype)))
        # All who read the logits go through them joint by joint.
        return (self.factor[:, None, None, None] * total + correction).contiguous()


class Residual(nn.Module):
    """Two 3^3 convolutions and a shortcut; before any training, only its ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(channels, channels, 3, padding=1, bias=False)
        self.first_norm = Norm(channels)
        self.second = nn.Conv3d(channels, channels, 3, padding=1, bias=False)
        self.second_norm = Norm(channels)
        nn.init.zeros_(self.second_norm.weight)

    def forward(self, x: Float[Tensor, "batch channel i j k"]) -> Tensor:
        y = self.first_norm(self.first(x)).relu()
        z: Tensor = x + self.second_norm(self.second(y))
        return z.relu()


class Norm(nn.GroupNorm):
    """Group normalisation in the type of its input: batches of 3D networks are too small for batch statistics."""

    def __init__(self, channels: int) -> None:
        super().__init__(_GROUPS, channels)

    def forward(self, x: Float[Tensor, "batch channel i j k"]) -> Tensor:
        return F.group_norm(x, _GROUPS, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


def _half(channels: int, out_channels: int, kernel: int) -> tuple[nn.Module, ...]:
    """Half the resolution. Even kernels put cell i between the voxels 2i and 2i + 1, where `_double` expects it."""
    convolution = nn.Conv3d(channels, out_channels, kernel, stride=2, padding=kernel // 2 - 1, bias=False)
    return convolution, Norm(out_channels), nn.ReLU(inplace=True)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="trilinear", align_corners=False)
