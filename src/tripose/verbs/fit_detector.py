"""``tripose fit-detector``: how bad the detector of some recordings is, for the training of fusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tripose.data.detections.fit import Residuals, fit_noise, residuals
from tripose.data.detections.noise import Noise
from tripose.errors import TriposeError
from tripose.formats.writing import atomic
from tripose.models.fusion_joints import known
from tripose.recording import Recording
from tripose.skeleton import custom
from tripose.verbs.keypoints import Progress, keypoints_of


def fit_detector(recordings: Sequence[Recording], out: Path, *, progress: Progress | None = None) -> Noise:
    """Fit the simulator's errors to the keypoints of recordings, and write them as ``data.noise`` of a training run.

    Args:
        recordings: with three views or more; keypoints of files, or of the detector that ships.
        out: YAML file.
        progress: told after every frame.

    Raises:
        TriposeError: too few views or keypoints, recordings of different skeletons, or `out` cannot be written.
    """
    import yaml

    parts, skeletons = list[Residuals](), set[tuple[str, ...]]()
    for recording in recordings:
        pose2d = keypoints_of(recording, progress=progress)
        skeletons.add(pose2d.skeleton.joints)
        if len(skeletons) > 1:
            raise TriposeError(
                f"{recording.folder} has other joints than {recordings[0].folder}: fit one detector at a time"
            )
        ours = [i for i, joint in enumerate(pose2d.skeleton.joints) if known(joint)]
        skeleton = custom("known", [pose2d.skeleton.joints[i] for i in ours])
        rig = recording.cameras.select(pose2d.views)
        points, score = pose2d.points_px[:, :, 0][:, :, ours], pose2d.confidence[:, :, 0][:, :, ours]
        try:
            parts.append(residuals(rig, points, score, skeleton))
        except TriposeError as error:
            raise TriposeError(f"{recording.folder}: {error}") from error
    noise = fit_noise(_joined(parts), skeleton)
    with atomic(out) as part:
        text = yaml.safe_dump({"noise": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(noise).items()}})
        part.write_text("# Put this below data: in a training configuration, see configs/fusion.yaml.\n" + text)
    return noise


def _joined(parts: Sequence[Residuals]) -> Residuals:
    """Views of different recordings are different views."""
    views = sum(part.seen.shape[1] for part in parts)
    time = max(len(part.seen) for part in parts)
    joints = parts[0].seen.shape[2]
    offset, seen = np.full((time, views, joints, 2), np.nan), np.zeros((time, views, joints), dtype=bool)
    first = 0
    for part in parts:
        here = slice(first, first + part.seen.shape[1])
        offset[: len(part.seen), here], seen[: len(part.seen), here] = part.offset, part.seen
        first = here.stop
    return Residuals(offset, seen)
