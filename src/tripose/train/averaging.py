"""The exponential moving average of a model's weights, which validation and the saved models use."""

from __future__ import annotations

import lightning
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class MovingAverage(WeightAveraging):
    """Average with a decay that grows with the number of steps: ``min(decay, (1 + t) / (10 + t))``.

    Args:
        decay: in the long run.
    """

    def __init__(self, decay: float) -> None:
        def update(averages: list[Tensor], current: list[Tensor], steps: Tensor | int) -> None:
            t = int(steps)
            share = 1 - min(decay, (1 + t) / (10 + t))
            for average, now in zip(averages, current, strict=True):
                if average.is_floating_point():
                    average.lerp_(now, share)
                else:
                    average.copy_(now)

        super().__init__(use_buffers=True, multi_avg_fn=update)

    def finish(self, task: lightning.LightningModule) -> None:
        """Put the average into the model; to do so again changes nothing."""
        self._copy_average_to_current(task)
