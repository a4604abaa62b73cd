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

from tripose import metrics
from tripose.data.batch import Batch
from tripose.models.views import ModelOutput, Stages
from tripose.models.weights import save_model
from tripose.train.task import Task


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
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the errors of a batch."""
        self._rows.append(_rows(outputs, batch))

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Judge all samples together."""
        task: Task = pl_module
        joints = len(task.config.model.joints)
        gathered = trainer.strategy.all_gather(torch.cat(self._rows))
        figures = judge(gathered.reshape(-1, gathered.shape[-1]).cpu().numpy(), joints)
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


def _rows(output: ModelOutput, batch: Batch) -> Tensor:
    """[batch, 1 + n joint], float64: index; which joints are known; errors in px (NaN: not seen) and in mm (NaN: not
    found) of the result, and of the stages before it.
    """
    truth_mm = batch["keypoints_mm"]
    truth_px, _ = batch["cameras"].project(truth_mm)
    inside = ((truth_px >= -0.5) & (truth_px <= batch["cameras"].size_px[..., None, :] - 0.5)).all(-1)
    distance = (output["keypoints_px"] - truth_px).norm(dim=-1)
    distance = torch.where(inside & batch["view_valid"][..., None], distance, torch.nan)
    positions = [output["keypoints_mm"], *(output["stages"] or ())]
    errors = [(position - truth_mm).norm(dim=-1) for position in positions]
    known = truth_mm.isfinite().all(-1)
    return torch.cat([batch["index"][:, None], known, distance.nanmean(1), *errors], 1).double()


def judge(rows: np.ndarray, joints: int) -> dict[str, float]:
    """The figures of `_rows`, each sample counted once, in the order of their index."""
    rows = rows[np.unique(rows[:, 0], return_index=True)[1], 1:]
    known, px, errors, *before = np.split(rows, rows.shape[1] // joints, 1)
    is_known = known > 0
    figures = {
        "mpjpe_mm": metrics.mean(errors),
        "median_mm": metrics.percentile(errors, 50),
        "p99_mm": metrics.percentile(errors, 99),
        "gross_share": metrics.share_above(errors),
        "missing_share": metrics.missing(errors, is_known),
        "capped_mpjpe_mm": metrics.capped_mean(errors, is_known),
        "error_px": float(np.nanmean(px)) if np.isfinite(px).any() else float("nan"),
    }
    stages = [name.replace("_mm", "_mpjpe_mm") for name in Stages._fields]
    return figures | {name: metrics.mean(e) for name, e in zip(stages, before, strict=False)}
