"""Samples whose images say in their pixels where the joints are, and a 2D network that reads them there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from people import SIDE_PX, config
from scene import ring, walk_mm
from tripose.cameras import Cameras
from tripose.data.batch import Sample
from tripose.models.algebraic import AlgebraicTriangulation
from tripose.skeleton import COCO17, Skeleton

_CELLS = SIDE_PX // 4
_SHIFT_PX = 128  # so that positions outside the image are positive numbers, too


def written(points_px: np.ndarray) -> np.ndarray:
    """Points [view joint 2] as images: in row j, pixel 0 holds x and pixel 1 holds y, in 1/128 px."""
    images = np.zeros((len(points_px), SIDE_PX, SIDE_PX, 3), np.uint8)
    fixed = np.rint((points_px + _SHIFT_PX) * 128).astype(int)
    images[:, : fixed.shape[1], :2, 0] = fixed >> 8
    images[:, : fixed.shape[1], :2, 1] = fixed & 255
    return images


class Reader(AlgebraicTriangulation):
    """An algebraic model without a head for confidences, whose heatmaps have their peaks where the image says.

    `shift_px` makes it another network; `read` counts the images that it has seen.
    """

    def __init__(self, shift_px: float = 0.0) -> None:
        super().__init__(config("algebraic", confidences="none"))
        self.backbone = nn.Identity()
        self.shift_px = nn.Parameter(torch.tensor(shift_px), requires_grad=False)
        self.read = 0

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.read += len(images)
        joints = len(self.config.joints)
        fixed = (images[:, :2, :joints, :2].double() * 255).round()
        points = (fixed[:, 0] * 256 + fixed[:, 1]) / 128 - _SHIFT_PX + self.shift_px
        index = torch.arange(_CELLS, dtype=torch.float64)
        x, y = (index - ((points[..., i, None] + 0.5) / 4 - 0.5) for i in range(2))
        heatmaps = -(x[..., None, :] ** 2 + y[..., :, None] ** 2) / 2
        return heatmaps, torch.ones_like(heatmaps[..., 0, 0])


@dataclass(frozen=True)
class Written:
    """People who stand in the middle of a ring of cameras, [row]: with noise, gross errors, and other rigs.

    Attributes:
        views: number of cameras of every row.
        noise_px: of every point.
        wrong: (row, view) where every joint is seen 25 px too far right.
        groups: of the rows, in turn.
    """

    views: Sequence[int]
    noise_px: float = 0.3
    wrong: frozenset[tuple[int, int]] = frozenset()
    groups: Sequence[str] = ("",)
    skeleton: Skeleton = field(default=COCO17)

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, index: int) -> Sample:
        random = np.random.default_rng(index)
        body = walk_mm(1, radius_mm=0.0, angle=index)[0]
        cameras = self.rig(self.views[index])
        points = cameras.project(torch.as_tensor(body))[0].numpy()
        points = points + random.normal(0, self.noise_px, points.shape)
        for row, view in self.wrong:
            if row == index:
                points[view] += [25, 0]
        return Sample(written(points), cameras, body, group=self.groups[index % len(self.groups)])

    @staticmethod
    def rig(views: int) -> Cameras:
        """Neighbours in a ring of five: no two of them face each other, which would leave depth open."""
        five = ring(5).resize(torch.full((5, 2), SIDE_PX))
        return five.select(five.names[:views])
