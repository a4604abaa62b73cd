"""The loaders of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lightning
import torch
from torch.utils.data import DataLoader

from tripose.data.batch import Batch, Samples
from tripose.models.weights import Model
from tripose.train.batches import TrainBatches, ValidationBatches
from tripose.train.config import TrainConfig
from tripose.train.encodings import Encodings, encodings_of
from tripose.train.order import Numbers, Order


class Loaders(lightning.LightningDataModule):
    """Training batches from where the run is, and the validation set.

    Args:
        config: of the run.
        train: samples to learn from.
        val: samples to validate on, or None.
        model: whose frozen 2D network is asked, if the configuration says so.
        folder: of the run.
        say: is told what takes long.
    """

    def __init__(
        self,
        config: TrainConfig,
        train: Samples,
        val: Samples | None,
        model: Model,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        super().__init__()
        self.config, self.model, self.folder, self.say = config, model, folder, say
        self.train: Samples | Encodings = train
        self.val: Samples | Encodings | None = val

    def prepare_data(self) -> None:
        """Ask the 2D network; one process of a node does, and the others wait."""
        for samples in (self.train, self.val):
            self._encoded(samples)

    def setup(self, stage: str) -> None:
        """Open what was prepared."""
        train = self._encoded(self.train)
        assert train is not None
        self.train, self.val = train, self._encoded(self.val)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches from the one that the run has not seen yet; Lightning asks when a checkpoint has been read."""
        config, trainer = self.config, self.trainer
        assert trainer is not None
        order = Order(len(self.train), config.batch_size, config.seed)
        batches = TrainBatches(self.train, order, config.data, trainer.global_rank, trainer.world_size)
        return self._loader(batches, sampler=Numbers(trainer.global_step * config.accumulate))

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """The validation set, or nothing."""
        trainer = self.trainer
        assert trainer is not None
        if self.val is None:
            return []
        size = -(-self.config.batch_size // trainer.world_size)
        # The published volumetric method does not find the person itself.
        centers = self.config.model.method == "volumetric"
        return self._loader(ValidationBatches(self.val, size, centers, trainer.global_rank, trainer.world_size))

    def _encoded(self, samples: Samples | Encodings | None) -> Samples | Encodings | None:
        cache = self.config.data.cache
        if not cache or samples is None or isinstance(samples, Encodings):
            return samples
        place = cache if isinstance(cache, Path) else self.folder / "encodings"
        dtype = torch.float32 if self.config.precision == "32-true" else None
        return encodings_of(self.model, samples, place, dtype=dtype, say=self.say)

    def _loader(self, batches: TrainBatches | ValidationBatches, sampler: Numbers | None = None) -> DataLoader[Batch]:
        workers = self.config.data.workers
        return DataLoader(
            batches,
            batch_size=None,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            # Workers of a process that holds threads or a GPU must not be forked.
            multiprocessing_context="forkserver" if workers else None,
        )
