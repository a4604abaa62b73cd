"""A data set that a small network learns in seconds: a blob in its own colour where a joint is, on noise."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from scene import ring, walk_mm
from tripose.data.batch import Sample
from tripose.skeleton import COCO17, Skeleton


@dataclass(frozen=True)
class Blobs:
    """Walking people as blobs, each sample a function of its number."""

    number: int
    views: int = 3
    side_px: int = 64
    seed: int = 0

    @property
    def skeleton(self) -> Skeleton:
        return COCO17

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.number:
            raise IndexError(index)
        random = np.random.default_rng((self.seed, index))
        # A crop around the middle, where people walk; the cameras are 4 m away.
        cameras = ring(self.views).crop(torch.tensor([[170.0, 170.0, 830.0, 830.0]] * self.views))
        cameras = replace(cameras.resize(torch.full((self.views, 2), self.side_px)), up="z")
        body = walk_mm(60, radius_mm=0.0, angle=random.uniform(0, 6))[random.integers(60)]
        body = body + np.append(random.uniform(-150, 150, 2), 0)
        points = cameras.project(torch.from_numpy(body))[0].numpy()
        pixels = np.arange(self.side_px)
        images = random.normal(0.3, 0.02, (self.views, self.side_px, self.side_px, 3))
        for joint in range(len(body)):
            near = (pixels - points[:, joint, :1]) ** 2, (pixels - points[:, joint, 1:]) ** 2
            blob = np.exp(-(near[1][:, :, None] + near[0][:, None]) / (2 * 1.5**2))[..., None]
            colour = np.random.default_rng(joint).uniform(0, 1, 3)
            images = images * (1 - blob) + colour * blob
        visible = ((points > -0.5) & (points < self.side_px - 0.5)).all(-1)
        return Sample((images.clip(0, 1) * 255).astype(np.uint8), cameras, body, visible)
