"""Sequences of CMU Panoptic as scenes, under a protocol."""

from __future__ import annotations

import numpy as np

from tripose.data.panoptic.originals import PanopticSequence
from tripose.data.panoptic.poses import Poses, above_score, first_person, read_poses
from tripose.data.panoptic.protocol import Protocol, Split
from tripose.data.scenes import Scene
from tripose.errors import TriposeError
from tripose.skeleton import PANOPTIC19


def protocol_scene(sequence: PanopticSequence, protocol: Protocol, split: Split) -> Scene:
    """The people of a sequence that count, and the cameras that a protocol uses.

    Every person is a row; rows of which no camera has an image are left out. Joints are all 19: those that do not count
    are NaN only where they are missing.

    Args:
        sequence: with at least one of the cameras.
        protocol: which people and joints count.
        split: one of its splits.

    Raises:
        TriposeError: a file of poses that is damaged; none of the cameras, or nobody, is there.
    """
    names = [name for name in sequence.cameras.names if name in split.cameras]
    if not names:
        raise TriposeError(f"{sequence.poses.parent}: there are no images of {', '.join(split.cameras)}")
    poses = protocol_people(
        read_poses(sequence.poses, every=split.every, spans=split.spans.get(sequence.name)), protocol
    )
    poses = poses.rows(sequence.has_image(poses.frame, names).sum(1) > 0)
    if not len(poses):
        raise TriposeError(f"{sequence.poses.parent}: no frame that counts has both a person and an image")
    return Scene(
        name=sequence.name,
        cameras=sequence.cameras.select(names),
        sources={name: sequence.sources[name] for name in names},
        frame=poses.frame,
        keypoints_mm=poses.keypoints_mm,
        skeleton=PANOPTIC19,
    )


def protocol_people(poses: Poses, protocol: Protocol) -> Poses:
    """The people that count: the first of each frame or all, as far as they have joints with a sufficient score."""
    if protocol.one_person:
        poses = first_person(poses)
    if protocol.least_score > 0:
        poses = above_score(poses, protocol.least_score)
    return poses.rows(np.isfinite(poses.keypoints_mm).all(-1).sum(1) > 0)
