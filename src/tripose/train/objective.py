"""The losses of a batch."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from tripose.data.batch import Batch
from tripose.errors import TriposeError
from tripose.models.losses import (
    heatmap_cross_entropy,
    mae,
    robust_distance,
    smooth_mse,
    soft_argmax_l1,
    volumetric_cross_entropy,
)
from tripose.models.views import ModelOutput, Stages
from tripose.train.config import Losses

_T = TypeVar("_T")


def losses(output: ModelOutput, batch: Batch, settings: Losses, image_size_px: tuple[int, int]) -> dict[str, Tensor]:
    """The losses that have a weight, without it.

    Args:
        output: of the model.
        batch: the truth.
        settings: which losses.
        image_size_px: width and height of the crops.

    Raises:
        TriposeError: the method does not give what a loss is about.
    """
    truth_mm = batch["keypoints_mm"]
    known = truth_mm.isfinite().all(-1)
    truth_px, _ = batch["cameras"].project(truth_mm)
    seen = batch["view_valid"][..., None] & truth_px.isfinite().all(-1)
    found = output["keypoints_mm"]
    determined = known & found.isfinite().all(-1)

    def stages() -> Stages:
        return _given(output["stages"])

    def of_volumes() -> Tensor:
        volumes, cuboid = _given(output["volumes"]), _given(output["cuboid"])
        return volumetric_cross_entropy(volumes, cuboid, truth_mm, known)

    def of_heatmaps() -> Tensor:
        sigma_px = settings.heatmap_sigma_px
        return heatmap_cross_entropy(_given(output["heatmaps"]), truth_px, seen, image_size_px, sigma_px=sigma_px)

    every = {
        "heatmap_cross_entropy": of_heatmaps,
        "keypoints_px": lambda: soft_argmax_l1(_given(output["heatmaps"]), truth_px, seen, image_size_px),
        "keypoints_m": lambda: robust_distance(found, truth_mm, known) / 1000,
        "algebraic_m": lambda: robust_distance(stages().algebraic_mm, truth_mm, known) / 1000,
        "volumetric_m": lambda: robust_distance(stages().volumetric_mm, truth_mm, known) / 1000,
        "refined_m": lambda: robust_distance(stages().refined_mm, truth_mm, known) / 1000,
        "coordinates_cm": lambda: mae(found / 10, truth_mm / 10, determined),
        "smooth_mse_cm2": lambda: smooth_mse(found / 10, truth_mm / 10, determined),
        "volume_cross_entropy": of_volumes,
    }
    values: dict[str, Tensor] = {}
    with torch.autocast(truth_mm.device.type, enabled=False):
        for name in settings.weights():
            try:
                values[name] = every[name]()
            except _NotGivenError as error:
                raise TriposeError(
                    f"losses.{name} has a weight, but this method does not give what it judges"
                ) from error
    return values


class _NotGivenError(Exception):
    """A method does not have a part of the output."""


def _given(part: _T | None) -> _T:
    if part is None:
        raise _NotGivenError
    return part
