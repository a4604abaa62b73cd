"""Somebody's own data set: a folder of recordings with truth, and a ``dataset.yaml`` that says what they are for.

```yaml
splits:                     # recordings by what they are for
  train: [walk01, walk02, squat01]
  val: [walk03]
  test: [turn01]
joints:                     # names in the truth files that are not understood as they are; null leaves one out
  LKNE: left_knee
  C7: null
skeleton: coco17            # of 2D annotations that do not name their joints
every: 5                    # take every fifth labelled frame
```
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tripose.cameras import Cameras
from tripose.data.footage import Filmed
from tripose.data.labelled import Labelled, LabelledSamples, inside_images
from tripose.data.truth import Truth, read_truth, to_skeleton
from tripose.errors import TriposeError
from tripose.geometry.crops import LEAST_JOINTS
from tripose.lifting import LEG_BONE_MM, leg_bone_mm, up_from_body
from tripose.pose import Pose3D
from tripose.recording import Recording
from tripose.skeleton import HALPE26, Skeleton, skeleton_named

# Of cameras that were calibrated in the world of the truth, most joints are in some image.
_LEAST_SHARE_SEEN = 0.05


class DatasetFile(BaseModel):
    """The contents of ``dataset.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    splits: dict[str, tuple[str, ...]]
    joints: dict[str, str | None] = Field(default_factory=dict)
    skeleton: str | None = None
    every: Annotated[int, Field(ge=1)] = 1


def open_labelled(
    folder: Path | str, skeleton: Skeleton = HALPE26, split: str = "train", side_px: int = 256
) -> LabelledSamples:
    """Open one split of a data set.

    Args:
        folder: holds ``dataset.yaml`` and the recordings.
        skeleton: the joints wanted; those that the truth lacks are NaN.
        split: "train", "val", "test" or what the file calls it.
        side_px: of the crops.

    Raises:
        TriposeError: what is wrong with a file or a recording, with the likely cause.
    """
    folder = Path(folder)
    said = read_dataset_file(folder)
    if split not in said.splits:
        raise TriposeError(f"{folder / 'dataset.yaml'}: there is no split {split!r}, only {', '.join(said.splits)}")
    clips = tuple(_open(folder / name, said, skeleton) for name in said.splits[split])
    up = {clip.group: clip.footage.cameras.up for clip in clips}
    if len(set(up.values())) > 1:
        told = ", ".join(f"{name} {axis or 'unknown'}" for name, axis in up.items())
        raise TriposeError(f"{folder}: the axis that points up differs ({told}); say `up` in each recording.yaml")
    samples = LabelledSamples(clips, skeleton, side_px)
    if not len(samples):
        raise TriposeError(f"{folder}: the split {split!r} has no labelled person that a view shows")
    return samples


def read_dataset_file(folder: Path) -> DatasetFile:
    """Read ``dataset.yaml``.

    Raises:
        TriposeError: no such file, not YAML, an unknown key or a wrong value, a recording that is not there or has
            two uses.
    """
    import yaml

    path = folder / "dataset.yaml"
    if not path.is_file():
        raise TriposeError(f"{path}: there is no such file; it says which recordings are for training")
    try:
        said = DatasetFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TriposeError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise TriposeError(
            f"{path}: {key}: {first['msg']}; known keys are {', '.join(DatasetFile.model_fields)}"
        ) from error
    names = [name for some in said.splits.values() for name in some]
    for name in names:
        if names.count(name) > 1:
            raise TriposeError(
                f"{path}: the recording {name!r} is named twice; training data cannot test what it taught"
            )
        if not (folder / name).is_dir():
            raise TriposeError(f"{path}: there is no recording {name!r} in {folder}")
    return said


def _open(folder: Path, said: DatasetFile, skeleton: Skeleton) -> Labelled:
    recording = Recording.open(folder)
    if not recording.videos:
        raise TriposeError(f"{folder}: training needs images, and there are neither videos nor folders of images")
    truth = read_truth(recording, skeleton_named(said.skeleton) if said.skeleton else None)
    truth = to_skeleton(truth, skeleton, said.joints)
    _check_size(truth, recording, skeleton)
    visible = inside_images(recording.cameras, truth.keypoints_mm)
    if truth.seen is not None:
        visible &= truth.seen
    known = np.isfinite(truth.keypoints_mm).all(-1)
    if not known.any():
        raise TriposeError(f"{truth.path}: not one joint of {skeleton.name} has a position")
    share = float((visible.any(1) & known).sum()) / float(known.sum())
    if share < _LEAST_SHARE_SEEN:
        raise TriposeError(
            f"{truth.path}: {share:.0%} of the known joints are in some image; truth and calibration do not share one "
            "world frame (axes, origin) or unit"
        )
    if truth.triangulated:
        warnings.warn(
            f"{truth.path}: the truth is triangulated from labels in images; errors against it are not errors in mm "
            "against a reference",
            stacklevel=3,
        )
    chosen = np.unique(truth.frame)[:: said.every]
    row = (known.sum(1) >= LEAST_JOINTS) & visible.any((1, 2)) & np.isin(truth.frame, chosen)
    return Labelled(
        Filmed(recording, _upright(recording.cameras, truth, skeleton, recording.frame_rate)),
        truth.frame[row],
        truth.keypoints_mm[row],
        visible[row],
        folder.name,
    )


def _upright(cameras: Cameras, truth: Truth, skeleton: Skeleton, fps: float) -> Cameras:
    """With the axis that points up, taken from the standing body where the calibration does not say."""
    if cameras.up:
        return cameras
    position = truth.keypoints_mm[:, None]
    return replace(cameras, up=up_from_body(Pose3D(position, np.ones(position.shape[:3]), skeleton, fps)))


def _check_size(truth: Truth, recording: Recording, skeleton: Skeleton) -> None:
    """Refuse people of no human size, which are in another unit than their file says.

    Raises:
        TriposeError: naming their length and what would fit.
    """
    length_mm = leg_bone_mm(truth.keypoints_mm[:, None], skeleton)
    if not np.isfinite(length_mm) or LEG_BONE_MM[0] <= length_mm <= LEG_BONE_MM[1]:
        return
    where = recording.calibration if truth.triangulated else truth.path
    factors = [f for f in (0.001, 0.01, 0.1, 10, 100, 1000) if LEG_BONE_MM[0] <= length_mm * f <= LEG_BONE_MM[1]]
    advice = f"{factors[0]:g} times as long would fit, so the unit is another" if factors else "no unit would fit"
    raise TriposeError(f"{where}: thighs and shanks come out {length_mm:.4g} mm long, which no human's are; {advice}")
