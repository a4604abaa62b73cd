"""What the fusion network learns from, and how validation judges it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import lightning
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tripose import metrics
from tripose.data.detections.noise import CLEAN, OCCLUDED, Noise
from tripose.data.detections.samples import Detected, simulate
from tripose.geometry.ray_fusion import RayBundle
from tripose.models.fusion import Answers, FusionTriangulation
from tripose.models.fusion_certainty import FREEDOM, distances, radius, spread
from tripose.models.fusion_joints import layout_of
from tripose.skeleton import COCO17, skeleton_named
from tripose.train.fusion_config import FusionConfig
from tripose.train.fusion_objective import objective
from tripose.train.learning import Learning
from tripose.train.order import Numbers

VIEWS = {2: 0.30, 3: 0.26, 4: 0.18, 5: 0.08, 6: 0.06, 7: 0.04, 8: 0.05, 12: 0.03}
"""Number of views -> share of the batches."""
SKELETONS = {"coco17": 0.4, "halpe26": 0.15, "body25": 0.2, "h36m17": 0.1, "panoptic19": 0.1, "mpii16": 0.05}
"""Joints of the detector -> share of the batches."""
LEVELS = (0.5, 0.9, 0.95)
"""Of the regions whose coverage is told."""
# How far from the level coverage may be, and what it should be at least where cameras are off by 3 cm. The first comes
# first, but no more than a part of the tolerance is asked for, so that something is left to choose for the second.
_TOLERANCES, _ENOUGH, _LEAST = (0.04, 0.03, 0.02), 0.6, (0.40, 0.80, 0.88)
_OFF = (0.03, 0.03)
_FREEDOMS, _POWERS = (3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 30.0), np.linspace(-0.4, 0.4, 17)
_VAL_VIEWS = range(2, 9)
_VAL_SETTINGS = {
    "clean": CLEAN,
    "occluded": OCCLUDED,
    "clean, cameras off": replace(CLEAN, calibration=_OFF),
    "occluded, cameras off": replace(OCCLUDED, calibration=_OFF),
}

Seen = tuple[str, Detected]
"""The joints' skeleton, and detections."""


class SimulatedBatches(Dataset[Seen]):
    """Batch `number` of a seed is always the same.

    Args:
        people: bodies, see `tripose.data.detections.people`.
        batch_size: people of a batch.
        seed: another seed, other batches.
        noise: how bad the detector is.
    """

    def __init__(self, people: Tensor, batch_size: int, seed: int, noise: Noise) -> None:
        self.people, self.batch_size, self.seed, self.noise = people, batch_size, seed, noise

    def __getitem__(self, number: int) -> Seen:
        chance = np.random.default_rng((self.seed, number))
        views = int(chance.choice(list(VIEWS), p=list(VIEWS.values())))
        name = str(chance.choice(list(SKELETONS), p=list(SKELETONS.values())))
        g = torch.Generator().manual_seed(int(chance.integers(2**62)))
        return name, simulate(self.people, self.batch_size, views, skeleton_named(name), self.noise, g)


class SimulatedRuns(lightning.LightningDataModule):
    """Training batches from where the run is, and the validation set: two to eight views, clean and occluded, both also
    with cameras that are off.

    Args:
        config: of the run.
        people: bodies to learn from.
        others: bodies to validate on.
    """

    def __init__(self, config: FusionConfig, people: Tensor, others: Tensor) -> None:
        super().__init__()
        self.config, self.people, self.others = config, people, others

    def train_dataloader(self) -> DataLoader[Seen]:
        """Lightning asks when a checkpoint has been read."""
        config, trainer = self.config, self.trainer
        assert trainer is not None
        # Every process has batches of its own.
        seed = config.seed * trainer.world_size + trainer.global_rank
        batches = SimulatedBatches(self.people, config.batch_size // trainer.world_size, seed, config.data.noise)
        return DataLoader(batches, batch_size=None, sampler=Numbers(trainer.global_step * config.accumulate))

    def val_dataloader(self) -> DataLoader[Any]:
        """The same people in all runs, rows numbered."""
        g = torch.Generator().manual_seed(self.config.data.seed)
        n = max(1, len(self.others) // len(_VAL_VIEWS))
        each = [(views, noise) for noise in _VAL_SETTINGS.values() for views in _VAL_VIEWS]
        sets = [
            ("coco17", simulate(self.others, n, views, COCO17, noise, g), i) for i, (views, noise) in enumerate(each)
        ]
        return DataLoader(sets, batch_size=None)  # type: ignore[arg-type]


class FusionTask(Learning):
    """A fusion model and how it learns; arguments and errors as of `Learning`."""

    config: FusionConfig
    model: FusionTriangulation

    def forward(self, batch: Seen) -> Answers:
        """The model's answers for a batch."""
        name, seen = batch[0], batch[1]
        rays = RayBundle(seen.origin.double(), seen.direction.double(), seen.score.double())
        answers: Answers = self.model(rays, layout_of(skeleton_named(name).joints))
        return answers

    def training_step(self, batch: Seen, batch_idx: int) -> Tensor:
        """The loss."""
        loss = objective(self.forward(batch), batch[1].truth.double(), batch[1].score)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Answers]:
        """The model's answers; `rows` says what is made of them."""
        return {"answers": self.forward(batch)}

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move the detections."""
        name, seen, *rest = batch
        moved = Detected(*(getattr(seen, field).to(device) for field in ("origin", "direction", "score", "truth")))
        return (name, moved, *rest)

    def rows(self, output: dict[str, Answers], batch: Any) -> Tensor:
        """Index, number of views, setting; the start's and the result's errors, mm; squared distances, in
        units of the uncalibrated scale matrix, and the logarithm of its spread. NaN for people whom fewer than two
        views see.
        """
        _, seen, number = batch
        n, views = seen.score.shape[:2]
        answers = output["answers"]
        error = answers.second.position - seen.truth
        before = (answers.start - seen.truth).norm(dim=-1)
        far = distances(error, answers.second.covariance)
        wide = spread(answers.second.covariance, answers.unit).log()
        figures = torch.cat([1000 * before, 1000 * error.norm(dim=-1), far, wide], 1)
        told = (seen.score.amax(-1) > 0).sum(1, keepdim=True) > 1
        about = [torch.arange(n) + number * n, torch.full((n,), views), torch.full((n,), number // len(_VAL_VIEWS))]
        about = [column.to(figures)[:, None] for column in about]
        return torch.cat([*about, torch.where(told, figures, torch.nan)], 1)

    def judge(self, rows: Float[np.ndarray, "row figure"]) -> dict[str, float]:
        """Errors and coverage of the regions; calibrates the model first."""
        rows = rows[np.unique(rows[:, 0], return_index=True)[1]]
        views, setting = rows[:, 1].astype(int), rows[:, 2].astype(int)
        before, errors, squared, wide = np.split(rows[:, 3:], 4, axis=1)
        scale, power, freedom = calibrated(views, setting, squared, wide)
        self.model.covariance_scale.copy_(torch.from_numpy(scale))
        self.model.covariance_power.copy_(torch.from_numpy(power))
        self.model.freedom.copy_(torch.from_numpy(freedom))
        squared = squared / np.exp(power[views][:, None] * wide)
        reach = {level: np.array([radius(level, f) for f in freedom]) * scale for level in LEVELS}
        inside = {level: squared <= reach[level][views][:, None] for level in LEVELS}
        known = np.isfinite(errors)
        right = setting < 2
        figures = {
            "mpjpe_mm": metrics.mean(errors[right]),
            "capped_mpjpe_mm": metrics.capped_mean(errors[right], known[right]),
        }
        for number, name in enumerate(("clean", "occluded")):
            for n in (2, 3, 4, 8):
                some = (views == n) & (setting == number)
                figures[f"{name}_{n}_mm"] = metrics.capped_mean(errors[some], known[some])
                figures[f"{name}_{n}_start_mm"] = metrics.capped_mean(before[some], known[some])
            for level in LEVELS:
                some = setting == number
                figures[f"{name}_within_{100 * level:.0f}"] = float(inside[level][some][known[some]].mean())
        return figures


def calibrated(
    views: Int[np.ndarray, " row"],
    setting: Int[np.ndarray, " row"],
    squared: Float[np.ndarray, "row joint"],
    wide: Float[np.ndarray, "row joint"],
) -> tuple[Float[np.ndarray, " views"], Float[np.ndarray, " views"], Float[np.ndarray, " views"]]:
    """Factors and powers of the scale matrices, and degrees of freedom, by number of views.

    Regions then hold the truth as often as they say, and not much less often where cameras are off, as far as three
    numbers can do that. Where there are no such people: one, nothing, and `FREEDOM`.

    Args:
        views: that see a person.
        setting: clean, occluded, and the same with cameras that are off, 0 to 3.
        squared: distances in units of the scale matrices, and
        wide: the logarithms of their spreads, see `tripose.models.fusion_certainty.scaled`.
    """
    scale, power = np.ones(max(_VAL_VIEWS) + 1), np.zeros(max(_VAL_VIEWS) + 1)
    freedom = np.full(len(scale), FREEDOM)
    for n in np.unique(views):
        kinds = [(views == n) & (setting == kind) for kind in range(len(_VAL_SETTINGS))]
        kinds = [kind[:, None] & np.isfinite(squared) for kind in kinds]
        best = np.inf, np.inf, np.inf
        for p in _POWERS:
            ordered = [np.sort(squared[kind] / np.exp(p * wide[kind])) for kind in kinds]
            for f in _FREEDOMS:
                reach = np.array([radius(level, f) for level in LEVELS])
                usual = np.exp(np.mean([np.log(np.quantile(kind, LEVELS) / reach).mean() for kind in ordered[:2]]))
                for factor in usual * np.exp(np.linspace(-0.3, 0.3, 25)):
                    held = np.array([np.searchsorted(kind, factor * reach, "right") / len(kind) for kind in ordered])
                    missed = float(np.max(np.abs(held[:2] - LEVELS) / _TOLERANCES))
                    short = float(np.max((_LEAST - held[2:]) / _TOLERANCES))
                    cost = max(missed, _ENOUGH), max(short, 0.0), missed
                    if cost < best:
                        best, scale[n], power[n], freedom[n] = cost, factor, p, f
    return scale, power, freedom
