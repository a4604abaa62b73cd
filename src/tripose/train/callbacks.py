"""What happens beside the training: checkpoints to go on from, and lines about the progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from tripose.train.config import Run


class Checkpoints(Callback):
    """Writes the state of the run. Comes last among the callbacks, when the others have done their part of a step.

    Where a validation is due, the checkpoint waits for it: a run that goes on from there has its figures.

    Args:
        config: of the run.
        path: of the checkpoint; the old one is replaced when the new one is complete.
        validates: whether there are validations.
    """

    def __init__(self, config: Run, path: Path, *, validates: bool) -> None:
        self.config, self.path, self.validates = config, path, validates
        self._saved = 0

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Save every `checkpoint_every` steps."""
        step = trainer.global_step
        waits = self.validates and step % self.config.validate_every == 0
        if step % self.config.checkpoint_every == 0 and not waits:
            self._save(trainer)

    def on_validation_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Save after a validation."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._save(trainer)

    def _save(self, trainer: lightning.Trainer) -> None:
        if trainer.global_step != self._saved:
            trainer.save_checkpoint(self.path)
            self._saved = trainer.global_step


class Progress(Callback):
    """Lines about the run where there is no bar, as in a log file.

    Args:
        config: of the run.
        say: is told.
    """

    def __init__(self, config: Run, say: Callable[[str], None]) -> None:
        self.config, self.say = config, say
        self._since: tuple[int, float] | None = None

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        """One line every `log_every` steps."""
        step, now = trainer.global_step, time.monotonic()
        if self._since is None:
            self._since = (step, now)
        elif step - self._since[0] >= self.config.log_every and not sys.stderr.isatty():
            pace = (now - self._since[1]) / (step - self._since[0])
            left = pace * (self.config.steps - step) / 60
            self.say(f"step {step}: loss {float(outputs['loss']):.4g}, {pace:.3g} s a step, {left:.0f} min left")
            self._since = (step, now)
