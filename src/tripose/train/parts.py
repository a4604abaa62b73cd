"""What a run consists of: the model and what it learns, and its data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from tripose.data.batch import Samples
from tripose.data.detections.people import stored_people
from tripose.errors import TriposeError
from tripose.models.fusion import FusionTriangulation
from tripose.train.config_file import AnyConfig
from tripose.train.datamodule import Loaders
from tripose.train.fusion_body import mean_body
from tripose.train.fusion_config import FusionConfig
from tripose.train.fusion_task import FusionTask, SimulatedRuns
from tripose.train.learning import Learning
from tripose.train.pictures import Pictures
from tripose.train.sources import check_samples, open_data
from tripose.train.start import initial_model
from tripose.train.task import Task


class Parts(NamedTuple):
    """What differs between models that look at images and those that look at keypoints.

    Attributes:
        task: the model and what it learns.
        loaders: of batches.
        validates: whether there is a validation set.
        origin: a sentence about the first weights.
        callbacks: more of them.
    """

    task: Learning
    loaders: lightning.LightningDataModule
    validates: bool
    origin: str
    callbacks: tuple[Callback, ...] = ()


def parts_of(
    config: AnyConfig,
    folder: Path,
    samples: tuple[Samples, Samples | None] | None,
    say: Callable[[str], None],
) -> Parts:
    """The parts of a run; arguments as of `tripose.train.run.train`.

    Raises:
        TriposeError: the data cannot be had, or the configuration does not fit them.
    """
    if isinstance(config, FusionConfig):
        if samples is not None:
            raise TriposeError("a fusion model learns from simulated keypoints; samples are for models that see images")
        return _of_keypoints(config, say)
    train_set, val_set = samples or open_data(config)
    for data_set in [train_set] if val_set is None else [train_set, val_set]:
        check_samples(data_set, config)
    model, origin = initial_model(config)
    task = Task(config, model)
    loaders = Loaders(config, train_set, val_set, model, folder, say)
    pictures = (Pictures(val_set, config.images_every),) if val_set is not None and config.images_every else ()
    return Parts(task, loaders, val_set is not None, origin, pictures)


def _of_keypoints(config: FusionConfig, say: Callable[[str], None]) -> Parts:
    data, keep = config.data, config.data.keep

    def told(done: int, total: int | None) -> None:
        if done == total or not done % 5000:
            say(f"{done} of {total} bodies")

    halves: list[tuple[Literal["train", "test"], int]] = [("train", data.people), ("test", data.val_people)]
    people, others = (torch.from_numpy(stored_people(keep / f"{h}.npz", n, data.seed, h, told)) for h, n in halves)
    torch.manual_seed(config.seed)
    model = FusionTriangulation(config.model)
    model.set_body(*mean_body(people))
    origin = f"all weights are random; {len(people)} bodies"
    return Parts(FusionTask(config, model), SimulatedRuns(config, people, others), True, origin)
