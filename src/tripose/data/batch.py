"""What a network eats, the same for training, evaluation and prediction; and the samples it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NotRequired, Protocol, TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from tripose.cameras import Cameras
from tripose.skeleton import Skeleton


@dataclass(frozen=True)
class Sample:
    """One person at one moment, as all cameras of a rig see them: a row of a data set.

    Attributes:
        images: crops, RGB, square.
        cameras: of the crops (pinhole; one rig, no batch axis), in the order of the images; names are those of the rig.
        keypoints_mm: the truth, world frame; NaN where unknown.
        visible: whether a view shows a joint: inside the image and not hidden. None: not known.
        group: what results are told apart by: a split, an action, a subject.
    """

    images: UInt8[np.ndarray, "view height width 3"]
    cameras: Cameras
    keypoints_mm: Float[np.ndarray, "joint 3"]
    visible: Bool[np.ndarray, "view joint"] | None = None
    group: str = ""


class Samples(Protocol):
    """A data set: a sequence of samples with one skeleton; the same index always gives the same sample."""

    @property
    def skeleton(self) -> Skeleton:
        """The joints of `Sample.keypoints_mm`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class Batch(TypedDict):
    """Samples side by side; a missing view is masked, never removed."""

    images: UInt8[Tensor, "batch view 3 height width"]  # RGB; zero in missing views; a model takes `as_floats` of them
    cameras: Cameras  # of the crops, with a batch axis; missing views hold a harmless camera
    view_valid: Bool[Tensor, "batch view"]
    center_mm: Float[Tensor, "batch 3"] | None  # where the cuboid stands; None: the model finds it
    keypoints_mm: Float[Tensor, "batch joint 3"]  # NaN where unknown
    visible: Bool[Tensor, "batch view joint"] | None  # None: some sample does not know
    index: Int[Tensor, " batch"]  # row of the data set: evaluation gathers by it and counts no row twice
    encoded: NotRequired[tuple[Tensor, ...]]  # what the model's `encode_views` gave for the images, if it is cached


def collate(samples: Sequence[Sample], index: Sequence[int], center_mm: Tensor | None = None) -> Batch:
    """Put samples side by side; those with fewer views are filled up with masked ones.

    Args:
        samples: of one skeleton and one image size.
        index: their rows in the data set.
        center_mm: [batch, 3] where the cuboids stand, if that is given.
    """
    views = max(len(s.images) for s in samples)
    height, width = samples[0].images.shape[1:3]
    images = torch.zeros(len(samples), views, 3, height, width, dtype=torch.uint8)
    valid = torch.zeros(len(samples), views, dtype=torch.bool)
    knows = all(s.visible is not None for s in samples)
    visible = torch.zeros(len(samples), views, len(samples[0].keypoints_mm), dtype=torch.bool)
    for i, sample in enumerate(samples):
        n = len(sample.images)
        images[i, :n] = torch.from_numpy(sample.images).permute(0, 3, 1, 2)
        valid[i, :n] = True
        if sample.visible is not None:
            visible[i, :n] = torch.from_numpy(sample.visible)
    return Batch(
        images=images,
        cameras=stack_cameras([s.cameras for s in samples]),
        view_valid=valid,
        center_mm=center_mm,
        keypoints_mm=torch.from_numpy(np.stack([s.keypoints_mm for s in samples])),
        visible=visible if knows else None,
        index=torch.as_tensor(list(index)),
    )


def as_floats(images: UInt8[Tensor, "*batch 3 height width"]) -> Float[Tensor, "*batch 3 height width"]:
    """Colours in 0..1, as models take them; done last, since bytes travel between processes and devices faster."""
    return images.float().div_(255)


def stack_cameras(rigs: Sequence[Cameras]) -> Cameras:
    """Rigs of pinhole cameras as one with a batch axis; smaller rigs are filled up by repeating their first camera.

    Views have no names any more: those of one sample are not those of the next.
    """
    views = max(len(r) for r in rigs)

    def stacked(part: str) -> Tensor:
        rows = [getattr(r, part) for r in rigs]
        return torch.stack([torch.cat([r, r[:1].expand(views - len(r), *r.shape[1:])]) for r in rows])

    return Cameras(
        K=stacked("K"),
        R=stacked("R"),
        t=stacked("t"),
        distortion=stacked("distortion"),
        size_px=stacked("size_px"),
        names=tuple(f"view {i + 1}" for i in range(views)),
        lens=rigs[0].lens[:1] * views,
        up=rigs[0].up if len({r.up for r in rigs}) == 1 else None,
    )
