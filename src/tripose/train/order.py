"""Which samples a batch has, and all its randomness: functions of the seed and the batch's number alone.

So a run that was interrupted goes on exactly as it would have, with any number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# What random numbers are for; those of different purposes never depend on each other.
_ORDER, _SAMPLE, _VIEWS = range(3)


@dataclass(frozen=True)
class Order:
    """An endless stream of batches: one random permutation of the data set after the other, cut into batches.

    Attributes:
        samples: of the data set.
        batch_size: of all processes together.
        seed: of the stream.
    """

    samples: int
    batch_size: int
    seed: int

    def positions(self, batch: int, rank: int = 0, processes: int = 1) -> list[int]:
        """The places in the stream that a process has of a batch; all processes together have the whole batch."""
        start = batch * self.batch_size
        return list(range(start + rank, start + self.batch_size, processes))

    def index(self, position: int) -> int:
        """The sample at a place of the stream."""
        epoch, place = divmod(position, self.samples)
        return int(_permutation(self.samples, self.seed, epoch)[place])

    def sample_random(self, position: int) -> np.random.Generator:
        """Randomness of one sample: its augmentation."""
        return np.random.default_rng((self.seed, _SAMPLE, position))

    def batch_random(self, batch: int) -> np.random.Generator:
        """Randomness that the samples of a batch, in all processes, share: the number of views."""
        return np.random.default_rng((self.seed, _VIEWS, batch))


@dataclass(frozen=True)
class Numbers:
    """All numbers from `start` on: the batches of a run that goes on there."""

    start: int

    def __iter__(self) -> Iterator[int]:
        """Count."""
        number = self.start
        while True:
            yield number
            number += 1


@lru_cache(maxsize=2)
def _permutation(samples: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, _ORDER, epoch)).permutation(samples)
