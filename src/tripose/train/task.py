"""What is optimised, for all methods that look at images: forward, losses, and how validation judges."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from tripose import metrics
from tripose.cameras import Cameras
from tripose.data.batch import Batch, as_floats
from tripose.models.views import ModelOutput, Stages
from tripose.models.weights import Model
from tripose.train.config import TrainConfig
from tripose.train.learning import Learning
from tripose.train.objective import losses


class Task(Learning):
    """A model and how it learns; arguments and errors as of `Learning`."""

    def __init__(self, config: TrainConfig, model: Model) -> None:
        super().__init__(config, model)
        _channels_last(model)

    def forward(self, batch: Batch) -> ModelOutput:
        """The model's result for a batch, from its images or from what was kept of them."""
        encoded = batch.get("encoded")
        if encoded is None:
            encoded = self.model.encode_views(as_floats(batch["images"]), batch["view_valid"])
        size_px = self.config.model.image_size_px
        result: ModelOutput = self.model.decode(
            encoded, batch["cameras"], batch["view_valid"], size_px, batch["center_mm"]
        )
        return result

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The weighted sum of the losses."""
        weights = self.config.losses.weights()
        found = losses(self.forward(batch), batch, self.config.losses, self.config.model.image_size_px)
        total = torch.stack([weight * found[name].double() for name, weight in weights.items()]).sum()
        self.log_dict({f"train/{name}": value for name, value in found.items()})
        self.log("train/loss", total)
        return total

    def validation_step(self, batch: Batch, batch_idx: int) -> ModelOutput:
        """The model's result; `tripose.train.validation` judges it."""
        return self.forward(batch)

    def rows(self, output: ModelOutput, batch: Batch) -> Tensor:
        """See `rows_of`."""
        return rows_of(output, batch)

    def judge(self, rows: np.ndarray) -> dict[str, float]:
        """See `judge`."""
        return judge(rows, len(self.config.model.joints))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move what a batch consists of."""
        moved: dict[str, Any] = dict(batch)
        for name, part in moved.items():
            if isinstance(part, Tensor | Cameras):
                moved[name] = part.to(device)
        if "encoded" in batch:
            moved["encoded"] = tuple(part.to(device) for part in batch["encoded"])
        return cast(Batch, moved)


def _channels_last(model: Model) -> None:
    """The memory layout in which convolutions are fast: the 2D network needs a third less time."""
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in model.parameters():
        if parameter.ndim in layouts:
            parameter.data = parameter.data.contiguous(memory_format=layouts[parameter.ndim])


def rows_of(output: ModelOutput, batch: Batch) -> Tensor:
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
    """The figures of `rows_of`, each sample counted once, in the order of their index."""
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
