"""Batches of a data set: what the workers of training and validation make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tripose.data.augment import augment
from tripose.data.batch import Batch, Sample, Samples, collate
from tripose.data.views import mirror, miscalibrate, select_views
from tripose.models.volumetric import root_mm
from tripose.skeleton import Skeleton
from tripose.train.config import Data
from tripose.train.encodings import Encoded, Encodings
from tripose.train.order import Order


@dataclass(frozen=True)
class TrainBatches(Dataset[Batch]):
    """The batches of a process, by number; there is no last one.

    Attributes:
        samples: the data set, or what a frozen 2D network said about it.
        order: of its samples.
        data: what is done with them.
        rank: of the process.
        processes: how many share a batch.
    """

    samples: Samples | Encodings
    order: Order
    data: Data
    rank: int = 0
    processes: int = 1

    def __getitem__(self, batch: int) -> Batch:
        """Batch number `batch`."""
        shared = self.order.batch_random(batch)
        views = None if self.data.views is None else int(shared.integers(*self.data.views, endpoint=True))
        places = self.order.positions(batch, self.rank, self.processes)
        read = [self._read(place, views) for place in places]
        centers = [root + torch.from_numpy(jitter) for _, _, root, jitter in read]
        indices = [self.order.index(place) for place in places]
        return _collate([r[0] for r in read], [r[1] for r in read], indices, torch.stack(centers))

    def _read(self, place: int, views: int | None) -> tuple[Sample, Encoded, Tensor, np.ndarray]:
        """A sample as it is seen this time: views, mirror, augmentation; its root; and by what the cuboid is off."""
        random, data, skeleton = self.order.sample_random(place), self.data, self.samples.skeleton
        sample, encoded = _read(self.samples, self.order.index(place))
        keep = self._choose(len(sample.images), views, random)
        sample, encoded = select_views(sample, keep), tuple(e[keep] for e in encoded)
        if random.random() < data.mirror:
            sample, encoded = mirror(sample, skeleton), tuple(mirror_encoded(e, skeleton) for e in encoded)
        if data.calibration_error_px and random.random() < 0.5:
            error_px = random.uniform(0, data.calibration_error_px)
            sample = miscalibrate(sample, random.normal(0, error_px, (len(keep), 2)))
        if data.augmentation is not None:
            sample = augment(sample, random, data.augmentation, skeleton)
        return sample, encoded, _root_mm(sample, skeleton), random.uniform(-1, 1, 3) * data.center_jitter_mm

    def _choose(self, given: int, views: int | None, random: np.random.Generator) -> list[int]:
        """A random choice of views, in their order."""
        wanted = given if views is None else min(views, given)
        least = min(wanted, 2 if self.data.views is None else self.data.views[0])
        wanted = max(least, wanted - int(random.binomial(wanted, self.data.view_dropout)))
        return sorted(random.permutation(given)[:wanted].tolist())


@dataclass(frozen=True)
class ValidationBatches(Dataset[Batch]):
    """A data set from beginning to end, with all views; every process has the same number of samples.

    Where the processes do not divide the data set, the first samples are there twice: results are told apart by the
    samples' index.

    Attributes:
        samples: the data set, or what a frozen 2D network said about it.
        batch_size: of a process.
        centers: whether cuboids are put around the true root; else the model finds them.
        rank: of the process.
        processes: how many share the data set.
    """

    samples: Samples | Encodings
    batch_size: int
    centers: bool
    rank: int = 0
    processes: int = 1

    def __len__(self) -> int:
        """Number of batches of a process."""
        return -(-self._share // self.batch_size)

    def __getitem__(self, batch: int) -> Batch:
        """Batch number `batch`.

        Raises:
            IndexError: there is no such batch.
        """
        if not 0 <= batch < len(self):
            raise IndexError(batch)
        own = range(self._share)[batch * self.batch_size : (batch + 1) * self.batch_size]
        indices = [(i * self.processes + self.rank) % len(self.samples) for i in own]
        read = [_read(self.samples, i) for i in indices]
        centers = torch.stack([_root_mm(sample, self.samples.skeleton) for sample, _ in read])
        return _collate([r[0] for r in read], [r[1] for r in read], indices, centers if self.centers else None)

    @property
    def _share(self) -> int:
        return -(-len(self.samples) // self.processes)


def mirror_encoded(encoded: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """What a 2D network would say about mirrored images, if it treated left and right alike.

    Args:
        encoded: heatmaps [view joint rows columns], or numbers [view joint].
        skeleton: of the joints.
    """
    swapped: np.ndarray = encoded[:, skeleton.mirror]
    return swapped[..., ::-1] if swapped.ndim == 4 else swapped


def _read(samples: Samples | Encodings, index: int) -> tuple[Sample, Encoded]:
    return samples.read(index) if isinstance(samples, Encodings) else (samples[index], ())


def _collate(
    samples: Sequence[Sample], encoded: Sequence[Encoded], index: Sequence[int], center_mm: Tensor | None
) -> Batch:
    batch = collate(samples, index, center_mm)
    parts = [_filled_up(part, batch["view_valid"].shape[1]) for part in zip(*encoded, strict=True)]
    if parts:
        batch["encoded"] = tuple(parts)
    return batch


def _filled_up(parts: Sequence[np.ndarray], views: int) -> Tensor:
    """[sample view ...], zero in views that a sample does not have."""
    result = np.zeros((len(parts), views, *parts[0].shape[1:]), parts[0].dtype)
    for i, part in enumerate(parts):
        result[i, : len(part)] = part
    return torch.from_numpy(result)


def _root_mm(sample: Sample, skeleton: Skeleton) -> Tensor:
    """The true root; where that is unknown, the middle of the joints that are known."""
    truth = torch.from_numpy(sample.keypoints_mm)
    root = root_mm(truth[None], skeleton)[0]
    return torch.where(root.isfinite(), root, truth.nanmean(0))
