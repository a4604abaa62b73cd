"""Scenes of the published code's own layout: a label file, and a folder of images for every camera of a scene.

``human36m-multiview-labels-*.npy``, and ``S9/Directions-1/imageSequence-undistorted/54138969/img_000001.jpg``
(``imageSequence`` where the images are as they were taken), each in the folder or up to two further down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from tripose.data.human36m.legacy import OfficialLabels, read_labels
from tripose.data.scenes import Scene
from tripose.errors import TriposeError
from tripose.skeleton import H36M17

LABELS = "human36m-multiview-labels*.npy"
_STRAIGHT, _AS_TAKEN = "imageSequence-undistorted", "imageSequence"
# Levels below the folder given at which labels and subjects are looked for.
_DEPTH = ("", "*/", "*/*/")


def find_labels(folder: Path) -> Path | None:
    """The label file of a folder, if there is one.

    Raises:
        TriposeError: there are several.
    """
    found = sorted(path for level in _DEPTH for path in folder.glob(level + LABELS))
    if len(found) > 1:
        raise TriposeError(f"{folder} holds {len(found)} label files, {found[0].name} and {found[1].name}: keep one")
    return found[0] if found else None


def extracted_scenes(folder: Path, labels: Path) -> dict[str, Callable[[], tuple[Scene, Sequence[str]]]]:
    """What reads each scene of the labels that has images.

    Straightened images are taken where there are any.

    Args:
        folder: with the subjects, at most two levels down.
        labels: see `read_labels`.

    Raises:
        TriposeError: no images at all, or labels that cannot be read.
    """
    for sequence in (_STRAIGHT, _AS_TAKEN):
        places = {
            f"{path.parents[1].name}/{path.parent.name}": path
            for level in _DEPTH
            for path in folder.glob(f"{level}S*/*/{sequence}")
        }
        if places:
            break
    else:
        raise TriposeError(f"{folder}: {labels.name} is here, but no images such as S9/Directions-1/{_STRAIGHT}/")
    said = read_labels(labels, undistorted=sequence == _STRAIGHT)
    group = said.group
    wanted = dict.fromkeys(group.tolist())
    return {name: partial(_scene, _rows(said, group == name), places[name]) for name in wanted if name in places}


def _rows(labels: OfficialLabels, chosen: np.ndarray) -> Scene:
    """One scene of the labels, without images."""
    subject, scene = labels.subject[chosen][0], labels.scene[chosen][0]
    return Scene(
        name=f"{subject}/{scene}",
        cameras=labels.cameras[labels.subject_names.index(subject)],
        sources={},
        frame=labels.frame[chosen] + 1,  # the number in an image's name
        keypoints_mm=labels.keypoints_mm[chosen],
        skeleton=H36M17,
        box_px=labels.box_px[chosen],
    )


def _scene(rows: Scene, place: Path) -> tuple[Scene, Sequence[str]]:
    sources = {name: place / name for name in rows.cameras.names if (place / name).is_dir()}
    problems = [f"{place}: there is no folder {name}" for name in rows.cameras.names if name not in sources]
    if not sources:
        raise TriposeError(f"{place}: there is no folder of images {' or '.join(rows.cameras.names)}")
    return replace(rows, sources=sources), problems
