"""How good the averaged model is now, on every sample of the validation set exactly once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from tripose.models.weights import save_model
from tripose.train.learning import Learning


class Validation(Callback):
    """Gathers results by the index of the sample, logs figures, and keeps the best model and the last.

    Comes before the moving average among the callbacks: its weights are in the model while this one works.

    Args:
        folder: of the run; models go to ``best`` and ``last`` in it.
        say: told one line about every validation.

    Attributes:
        history: the figures of every validation, with their step.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder, self.say = folder, say
        self.history: list[dict[str, float]] = []
        self._rows: list[Tensor] = []

    def on_validation_epoch_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Forget the last validation."""
        self._rows = []

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the errors of a batch."""
        self._rows.append(pl_module.rows(outputs, batch))

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Judge all samples together."""
        task: Learning = pl_module
        gathered = trainer.strategy.all_gather(torch.cat(self._rows))
        rows = gathered.reshape(-1, gathered.shape[-1]).cpu().numpy()
        figures = task.judge(rows)
        task.log_dict({f"val/{name}": value for name, value in figures.items()})
        task.log("mpjpe_mm", figures["mpjpe_mm"], prog_bar=True, logger=False)
        best = min((past["capped_mpjpe_mm"] for past in self.history), default=np.inf)
        self.history.append({"step": trainer.global_step, **figures})
        if trainer.is_global_zero:
            save_model(task.model, self.folder / "last")
            if figures["capped_mpjpe_mm"] < best:
                save_model(task.model, self.folder / "best")
        told = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
        self.say(f"step {trainer.global_step}: {told}")

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where a run was."""
        self.history = state_dict["history"]
