"""The learned stage of ``tripose predict``: a followed person's crops through a model."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float

from tripose.filters import fill_gaps
from tripose.learned import BOX_SCALE, Estimate, Person, as_poses, boxes_around, estimate
from tripose.lifting import lift
from tripose.models.placing import Place
from tripose.models.weights import Model
from tripose.pose import Pose2D, Pose3D
from tripose.recording import FrameSet, Recording
from tripose.track_single import box_of
from tripose.verbs.stages import in_pieces, read_pieces, write_piece

# A person who is lost for longer may be anywhere.
_LONGEST_GAP_S = 1.0
_KEPT = ("position_mm", "points_px", "confidence")


def lift_learned(
    recording: Recording,
    frames: Callable[[int], Iterator[FrameSet]],
    followed: Pose2D,
    model: Model,
    place: Place | None,
    pieces: Path | None,
    progress: Callable[[int], None],
) -> Pose3D:
    """From images to poses, once it is known where the person is.

    Args:
        recording: whose images.
        frames: its frames, from a given one on.
        followed: the person's keypoints in all views.
        model: of any method.
        place: for a recording of one camera, see `tripose.models.placing`.
        pieces: folder for the parts of an unfinished run; None: nothing is kept.
        progress: told the number of frames that are done.
    """
    cameras, body = recording.cameras, None
    if len(cameras) == 1:
        points = followed.points_px[:, 0, 0]
        boxes_px = np.stack([box_of(p, cameras, BOX_SCALE) for p in points])[:, None]
    else:
        body = where(followed, recording)
        cameras = replace(cameras, up=body.up)  # the calibration's, or that of a body that stands
        boxes_px = boxes_around(body.position_mm[:, 0], cameras)
    person = Person(boxes_px, followed, None if body is None else _hips_mm(body))

    def estimates(start: int) -> Iterator[Estimate]:
        some = islice(frames(start), len(boxes_px) - start)
        coming = estimate(some, cameras, person, model, place)
        for one in coming:
            progress(one.index + 1)
            yield one

    made = list(estimates(0)) if pieces is None else _in_pieces(estimates, pieces)
    poses = as_poses(made, cameras, model, recording.frame_rate)
    if body is not None and "up" in body.notes:
        poses.notes["up"] = body.notes["up"]
    return poses


def where(followed: Pose2D, recording: Recording) -> Pose3D:
    """Roughly where the person is in every frame; NaN in frames in which it is lost."""
    return fill_gaps(lift(followed, recording.cameras), _LONGEST_GAP_S)


def _hips_mm(body: Pose3D) -> Float[np.ndarray, "time 3"]:
    """The middle of the hips, or of what is known of the person."""
    hips = body.position_mm[:, 0, body.skeleton.indices(["left_hip", "right_hip"])].mean(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nothing is known
        middle = np.nanmedian(body.position_mm[:, 0], axis=1)
    center: Float[np.ndarray, "time 3"] = np.where(np.isfinite(hips), hips, middle)
    return center


def _in_pieces(estimates: Callable[[int], Iterator[Estimate]], pieces: Path) -> list[Estimate]:
    pieces.mkdir(parents=True, exist_ok=True)
    made: list[Estimate] = []
    for piece in read_pieces(pieces):
        parts = (piece[name] for name in _KEPT)
        made += [Estimate(len(made) + i, *row) for i, row in enumerate(zip(*parts, strict=True))]
    for some in in_pieces(estimates(len(made))):
        write_piece(pieces, len(made), **{name: np.stack([getattr(e, name) for e in some]) for name in _KEPT})
        made += some
    shutil.rmtree(pieces)
    return made
