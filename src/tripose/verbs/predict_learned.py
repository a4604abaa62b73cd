"""The learned stage of ``tripose predict``: a followed person's crops through a model."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float

from tripose.filters import fill_gaps
from tripose.learned import Estimate, as_poses, estimate
from tripose.lifting import lift
from tripose.models.weights import Model
from tripose.pose import Pose2D, Pose3D
from tripose.recording import FrameSet, Recording
from tripose.verbs.stages import in_pieces, read_pieces, write_piece

# A person who is lost for longer may be anywhere.
_LONGEST_GAP_S = 1.0


def lift_learned(
    recording: Recording,
    frames: Callable[[int], Iterator[FrameSet]],
    followed: Pose2D,
    model: Model,
    pieces: Path | None,
    progress: Callable[[int], None],
) -> Pose3D:
    """From images to poses, once it is known where the person is.

    Args:
        recording: whose images.
        frames: its frames, from a given one on.
        followed: the person's keypoints in all views.
        model: of any method.
        pieces: folder for the parts of an unfinished run; None: nothing is kept.
        progress: told the number of frames that are done.
    """
    body_mm = where(followed, recording)
    if pieces is None:
        made = list(_told(estimate(frames(0), recording.cameras, body_mm, model), progress))
    else:
        made = _in_pieces(recording, frames, body_mm, model, pieces, progress)
    return as_poses(made, recording.cameras, model, recording.frame_rate)


def where(followed: Pose2D, recording: Recording) -> Float[np.ndarray, "time joint 3"]:
    """Roughly where the person's joints are in every frame; NaN in frames in which it is lost."""
    body = fill_gaps(lift(followed, recording.cameras), _LONGEST_GAP_S)
    return body.position_mm[:, 0]


def _in_pieces(
    recording: Recording,
    frames: Callable[[int], Iterator[FrameSet]],
    body_mm: Float[np.ndarray, "time joint 3"],
    model: Model,
    pieces: Path,
    progress: Callable[[int], None],
) -> list[Estimate]:
    pieces.mkdir(parents=True, exist_ok=True)
    made: list[Estimate] = []
    for piece in read_pieces(pieces):
        parts = (piece[name] for name in ("position_mm", "points_px", "confidence"))
        made += [Estimate(len(made) + i, *row) for i, row in enumerate(zip(*parts, strict=True))]
    coming = estimate(islice(frames(len(made)), len(body_mm) - len(made)), recording.cameras, body_mm, model)
    for some in in_pieces(_told(coming, progress)):
        stacked = {n: np.stack([getattr(e, n) for e in some]) for n in ("position_mm", "points_px", "confidence")}
        write_piece(pieces, len(made), **stacked)
        made += some
    shutil.rmtree(pieces)
    return made


def _told(estimates: Iterator[Estimate], progress: Callable[[int], None]) -> Iterator[Estimate]:
    for one in estimates:
        progress(one.index + 1)
        yield one
