"""Pictures of one sample for TensorBoard: what was seen, what was found, and what is true."""

from __future__ import annotations

from typing import Any

import cv2
import lightning
import numpy as np
import torch
from jaxtyping import Float, UInt8
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger

from tripose.data.batch import Batch, Sample, Samples
from tripose.models.views import ModelOutput
from tripose.skeleton import Skeleton

Picture = UInt8[np.ndarray, "height width 3"]

# Okabe and Ito's bluish green and vermilion, which colour-blind people tell apart.
_TRUTH, _FOUND = (0, 158, 115), (213, 94, 0)
_SIDE_PX = 256


class Pictures(Callback):
    """Draws the first sample of the validation set.

    Args:
        samples: the validation set, for its images.
        every: steps between pictures at least; they come with validations.
    """

    def __init__(self, samples: Samples, every: int) -> None:
        self.samples, self.every = samples, every
        self._last: int | None = None

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw, when it is time."""
        step = trainer.global_step
        due = self._last is None or step - self._last >= self.every
        logger = trainer.logger
        if batch_idx or not due or not trainer.is_global_zero or not isinstance(logger, TensorBoardLogger):
            return
        self._last = step
        sample = self.samples[int(batch["index"][0])]
        for name, picture in draw(sample, outputs, self.samples.skeleton).items():
            logger.experiment.add_image(name, picture, step, dataformats="HWC")


def draw(sample: Sample, output: ModelOutput, skeleton: Skeleton) -> dict[str, Picture]:
    """Pictures of the first sample of a batch, by name.

    Args:
        sample: the same one, for its images and truth.
        output: of the model for the batch.
        skeleton: of the joints.
    """
    found_mm = output["keypoints_mm"][0].detach().double().cpu()
    views = len(sample.images)
    pictures = {
        "views": _views(sample, found_mm, skeleton),
        "pose": plot_pose(sample.keypoints_mm, found_mm.numpy(), skeleton, sample.cameras.up),
    }
    if output["heatmaps"] is not None:
        probability = (
            output["heatmaps"][0, :views]
            .float()
            .flatten(-2)
            .softmax(-1)
            .unflatten(-1, (-1, output["heatmaps"].shape[-1]))
        )
        seen = [_resized(i, cv2.INTER_AREA) // 2 for i in sample.images]
        heat = [_heat(p.cpu().numpy()) // 2 for p in probability.amax(1)]
        pictures["heatmaps"] = np.hstack([a + b for a, b in zip(seen, heat, strict=True)])
    if output["volumes"] is not None:
        volume = output["volumes"][0].float()
        likely = volume.flatten(1).softmax(1).unflatten(1, volume.shape[1:]).amax(0)
        pictures["volume"] = np.hstack([_heat(likely.amax(axis).mT.flip(0).cpu().numpy()) for axis in range(3)])
    return pictures


def plot_pose(
    truth_mm: Float[np.ndarray, "joint 3"], found_mm: Float[np.ndarray, "joint 3"], skeleton: Skeleton, up: str | None
) -> Picture:
    """Both poses in space, mm.

    Args:
        truth_mm: NaN where unknown.
        found_mm: NaN where not found.
        skeleton: of the joints.
        up: the world axis that points up.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((5, 5), dpi=100, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot(projection="3d")
    for name, points, colour in (("truth", truth_mm, _TRUTH), ("found", found_mm, _FOUND)):
        for i, bone in enumerate(skeleton.bone_indices):
            line = points[list(bone)]
            axes.plot(*line.T, color=np.divide(colour, 255), label=name if i == 0 else None)
    axes.set(xlabel="x, mm", ylabel="y, mm", zlabel="z, mm", aspect="equal")
    axes.locator_params(nbins=4)
    if up is not None:
        axes.view_init(elev=15, azim=-60, vertical_axis=up[-1])
    axes.legend(loc="upper left")
    canvas.draw()
    drawn: Picture = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return drawn


def _views(sample: Sample, found_mm: torch.Tensor, skeleton: Skeleton) -> Picture:
    """The images side by side with both poses drawn in."""
    scale = _SIDE_PX / sample.images.shape[2]
    pictures = [_resized(image, cv2.INTER_LINEAR) for image in sample.images]
    for points_mm, colour in ((torch.from_numpy(sample.keypoints_mm), _TRUTH), (found_mm, _FOUND)):
        points_px = ((sample.cameras.project(points_mm)[0] + 0.5) * scale - 0.5).numpy()
        for picture, points in zip(pictures, points_px, strict=True):
            for a, b in skeleton.bone_indices:
                if np.isfinite(points[[a, b]]).all() and np.abs(points[[a, b]]).max() < 10 * _SIDE_PX:
                    start, end = points[a].round().astype(int).tolist(), points[b].round().astype(int).tolist()
                    cv2.line(picture, start, end, colour, 1, cv2.LINE_AA)
    return np.hstack(pictures)


def _heat(values: Float[np.ndarray, "rows columns"]) -> Picture:
    """Non-negative numbers as colours, the largest one bright."""
    grey = (255 * (values / max(values.max(), 1e-12)) ** 0.5).astype(np.uint8)
    return _resized(cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO)[..., ::-1], cv2.INTER_NEAREST)


def _resized(picture: np.ndarray, interpolation: int) -> Picture:
    resized = cv2.resize(np.ascontiguousarray(picture), (_SIDE_PX, _SIDE_PX), interpolation=interpolation)
    return np.asarray(resized, np.uint8)
