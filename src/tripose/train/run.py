"""A training run, from its configuration to a folder with models, figures and curves.

One process: ``tripose train configs/smoke.yaml``. Several GPUs or nodes: ``torchrun --nproc-per-node 8 -m tripose.cli
train CONFIG``. Interrupted: the same command again goes on from the last checkpoint.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy

from tripose.data.batch import Samples
from tripose.errors import TriposeError
from tripose.models.weights import save_model
from tripose.train.averaging import MovingAverage
from tripose.train.callbacks import Checkpoints, Progress
from tripose.train.config_file import AnyConfig, read_config, write_config
from tripose.train.parts import parts_of
from tripose.train.validation import Validation

_CONFIG, _METRICS, _CHECKPOINT = "config.yaml", "metrics.json", "last.ckpt"


def train(
    config: AnyConfig,
    folder: Path | str,
    *,
    samples: tuple[Samples, Samples | None] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train a model, or go on with it.

    Args:
        config: what is done.
        folder: of the run: gets ``config.yaml``, ``metrics.json``, the models ``best`` and ``last``, ``last.ckpt`` to
            go on from, and ``tensorboard``.
        samples: to train and validate on, instead of those that the configuration names; of models that look at images.
        say: is told what happens, a line each.

    Returns:
        The content of ``metrics.json``: the figures of every validation.

    Raises:
        TriposeError: the folder holds another run or a finished one, the data cannot be had, the configuration does
            not fit them, or samples for a model that looks at keypoints.
    """
    folder = Path(folder)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if config.batch_size % processes:
        raise TriposeError(f"batch_size is {config.batch_size}; {processes} processes cannot share it evenly")
    first = int(os.environ.get("RANK", "0")) == 0
    tell = say if first else (lambda _: None)
    checkpoint = _past(config, folder)
    parts = parts_of(config, folder, samples, tell)
    tell(f"{folder}: goes on from {checkpoint.name}" if checkpoint else f"{folder}: {parts.origin}")
    if first:
        _begin(config, folder)
    validation = Validation(folder, tell)
    average = MovingAverage(config.optimiser.ema_decay) if config.optimiser.ema_decay else None
    # In this order: validation judges the averaged weights, and checkpoints come when all else is done.
    checkpoints = Checkpoints(config, folder / _CHECKPOINT, validates=parts.validates)
    callbacks = [validation, *parts.callbacks, average, Progress(config, tell), checkpoints]
    with _quiet():
        trainer = _trainer(config, folder, processes, [c for c in callbacks if c is not None])
        trainer.fit(parts.task, datamodule=parts.loaders, ckpt_path=checkpoint, weights_only=True)
        if average is not None:
            average.finish(parts.task)
        if parts.validates and (not validation.history or validation.history[-1]["step"] != config.steps):
            trainer.validate(parts.task, datamodule=parts.loaders, verbose=False)
    result = {"finished": True, "steps": config.steps, "validations": validation.history}
    if first:
        if not parts.validates:  # else the last validation has kept it
            save_model(parts.task.model, folder / "last")
        (folder / _METRICS).write_text(json.dumps(result, indent=2) + "\n")
    return result


def _past(config: AnyConfig, folder: Path) -> Path | None:
    """The checkpoint to go on from, if the folder has one of this run; a folder where nothing was learned is as good
    as an empty one.
    """
    said, checkpoint, finished = folder / _CONFIG, folder / _CHECKPOINT, (folder / _METRICS).is_file()
    if not said.is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise TriposeError(f"{folder} is not empty and holds no training run; choose another folder")
        return None
    if not finished and not checkpoint.is_file():
        return None
    if read_config(said) != config:
        raise TriposeError(f"{folder} holds a run with another configuration; choose another folder")
    if finished:
        raise TriposeError(f"{folder} holds this run, and it is finished; choose another folder to repeat it")
    return checkpoint


def _begin(config: AnyConfig, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_config(config, folder / _CONFIG)
    except OSError as error:
        raise TriposeError(f"{folder} cannot be written: {error.strerror}") from error


def _trainer(config: AnyConfig, folder: Path, processes: int, callbacks: list[Callback]) -> lightning.Trainer:
    """Lightning's trainer, as torchrun has started its processes."""
    own = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    bar = [TQDMProgressBar()] if sys.stderr.isatty() else []
    return lightning.Trainer(
        accelerator="auto",
        devices=own,
        num_nodes=processes // own,
        # A part without a loss, such as a confidence head that only heatmaps are asked for, has no gradient.
        strategy=DDPStrategy(find_unused_parameters=True) if processes > 1 else "auto",
        precision=config.precision,
        logger=TensorBoardLogger(folder, name="", version="tensorboard"),
        callbacks=[*callbacks, *bar],
        max_steps=config.steps,
        max_epochs=-1,
        val_check_interval=config.validate_every * config.accumulate,
        check_val_every_n_epoch=None,
        log_every_n_steps=config.log_every,
        accumulate_grad_batches=config.accumulate,
        gradient_clip_val=config.optimiser.clip_norm,
        # The whole validation set before the first step: what training has to improve on.
        num_sanity_val_steps=-1,
        use_distributed_sampler=False,
        enable_progress_bar=bool(bar),
        enable_model_summary=False,
        enable_checkpointing=False,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's advice."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
