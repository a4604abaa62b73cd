"""What bodies look like, as a correction of joints that were found one by one: a small network over all of them."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tripose.skeleton import Skeleton

_HIDDEN, _BLOCKS = 256, 2
# Turns about the up-axis that are averaged over: drawn in training, evenly spaced else.
_DRAWN, _SPACED = 4, 8
# Differences between the stages, usually some centimetres, are told in units of 25 cm and up to 1 m.
_UNIT_M, _MOST_M = 0.25, 1.0
_STEP_M = 0.1
_MM_PER_M = 1000.0
CERTAINTY = 2
_FEATURES = 3 * 3 + CERTAINTY


class PoseCorrector(nn.Module):
    """Fully connected, with shortcuts (Martinez et al., ICCV 2017), from all positions to a step for each.

    A body whose thighs differ, or whose toes are not a foot's length from the heel, is rarely seen. The network is told
    where the stages before saw each joint and how sure of it they were. It looks at the pose from several sides, turned
    about the up-axis, and the average is taken. Before any training, the steps are zero.

    Args:
        skeleton: of the joints.
    """

    def __init__(self, skeleton: Skeleton) -> None:
        super().__init__()
        joints = len(skeleton)
        self.middle = skeleton.indices(("left_hip", "right_hip")) or list(range(joints))
        self.first = nn.Linear(joints * _FEATURES + 1, _HIDDEN)
        self.blocks = nn.ModuleList(_block() for _ in range(_BLOCKS))
        self.norm = nn.LayerNorm(_HIDDEN)
        self.last = nn.Linear(_HIDDEN, joints * 3)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(
        self,
        keypoints_mm: Float[Tensor, "batch joint 3"],
        others_mm: list[Float[Tensor, "batch joint 3"]],
        certainty: Float[Tensor, "batch joint {CERTAINTY}"],
        views: Float[Tensor, " batch"],
        to_world: Float[Tensor, "batch 3 3"],
    ) -> Float[Tensor, "batch joint 3"]:
        """Corrected positions, float64. Gradients reach the network's parameters only.

        Args:
            keypoints_mm: what is corrected; finite.
            others_mm: the same joints as the two stages before saw them; NaN where they did not.
            certainty: of each joint, numbers of size one.
            views: how many each sample has.
            to_world: rotation from axes of which z points up to those of the positions.
        """
        upright = to_world.detach().double()
        with torch.no_grad():
            found = keypoints_mm.detach().double() @ upright / _MM_PER_M
            place = found - found[:, self.middle].mean(1, keepdim=True)
            apart = [_told(other.double() @ upright / _MM_PER_M - found) for other in others_mm]
            turns = self._turns(len(found)).to(found)
            vectors = torch.cat([place, *apart], 1)[:, None] @ turns.mT
            few = (views.double().log2() - 2)[:, None]
            scalars = torch.cat([certainty.double().flatten(1), few], 1)
            features = torch.cat([vectors.flatten(2), scalars[:, None].expand(-1, turns.shape[1], -1)], -1)
        hidden = self.first(features.to(self.first.weight.dtype))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        step: Tensor = self.last(self.norm(hidden)).double().unflatten(-1, (-1, 3)) * _STEP_M
        return (found + (step @ turns).mean(1)) @ upright.mT * _MM_PER_M

    def _turns(self, batch: int) -> Float[Tensor, "batch turn 3 3"]:
        """Rotations about z."""
        if self.training:
            angle = 2 * math.pi * torch.rand(batch, _DRAWN, dtype=torch.float64)
        else:
            angle = (torch.arange(_SPACED, dtype=torch.float64) * (2 * math.pi / _SPACED)).expand(batch, -1)
        cos, sin = angle.cos(), angle.sin()
        zero, one = torch.zeros_like(cos), torch.ones_like(cos)
        rows = (cos, -sin, zero), (sin, cos, zero), (zero, zero, one)
        return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _block() -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(_HIDDEN), nn.Linear(_HIDDEN, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, _HIDDEN))


def _told(apart_m: Float[Tensor, "batch joint 3"]) -> Float[Tensor, "batch joint 3"]:
    return apart_m.nan_to_num(nan=0.0).clamp(-_MOST_M, _MOST_M) / _UNIT_M
