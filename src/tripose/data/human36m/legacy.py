"""Files of the published code: its labels (``human36m-multiview-labels-*.npy``) and its predictions (``results.pkl``).

Both are pickles, read without running them (see `pickles`). Source: the code of Iskakov et al., ICCV 2019.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from tripose.cameras import Cameras
from tripose.data.human36m.lens import opencv_coefficients
from tripose.data.human36m.pickles import array_of, read_pickle
from tripose.data.human36m.protocol import SIZE_PX
from tripose.errors import TriposeError
from tripose.formats.writing import atomic
from tripose.skeleton import H36M17

_CAMERA_PARTS = {"R": (3, 3), "t": (3, 1), "K": (3, 3), "dist": (5,)}


@dataclass(frozen=True)
class OfficialLabels:
    """The label file: one row for every moment of every scene.

    Attributes:
        subject_names: all of the file, ``S1`` to ``S11``.
        camera_names: of the views, in the order of `box_px`.
        action_names: with the number of the trial, ``Directions-1``.
        cameras: of every subject, of the whole images; mm, z up.
        subject: whose row it is.
        scene: which action and trial.
        frame: number of the images from 0; that in the name of an extracted image is one more.
        keypoints_mm: world frame, order of `H36M17`; the first 16 are what the published code calls mpii (`MPII16`).
        box_px: left, upper, right and lower edge, right and lower exclusive; NaN where a view has no image.
    """

    subject_names: tuple[str, ...]
    camera_names: tuple[str, ...]
    action_names: tuple[str, ...]
    cameras: tuple[Cameras, ...]
    subject: Shaped[np.ndarray, " row"]
    scene: Shaped[np.ndarray, " row"]
    frame: Int[np.ndarray, " row"]
    keypoints_mm: Float[np.ndarray, "row 17 3"]
    box_px: Float[np.ndarray, "row view 4"]

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def group(self) -> Shaped[np.ndarray, " row"]:
        """What results are told apart by: ``S9/Directions-1``."""
        return np.array([f"{subject}/{scene}" for subject, scene in zip(self.subject, self.scene, strict=True)])


def read_labels(path: Path, *, undistorted: bool) -> OfficialLabels:
    """Read the published code's labels.

    Args:
        path: the ``.npy`` file.
        undistorted: whether the images that the labels are used with were straightened before, as in the folders
            ``imageSequence-undistorted``. Their cameras are pinholes with the same K; those of the original images have
            the lens model of Human3.6M. The file holds the coefficients in both cases and does not say.

    Raises:
        TriposeError: not such a file, damaged, not complete, or one that contradicts itself.
    """
    content = read_pickle(path)
    subjects, views, actions = (_names(content, key, path) for key in ("subject_names", "camera_names", "action_names"))
    table = array_of(content, "table", path)
    fields = {
        "subject_idx": (),
        "action_idx": (),
        "frame_idx": (),
        "keypoints": (len(H36M17), 3),
        "bbox_by_camera_tlbr": (len(views), 4),
    }
    _check_fields(table, "table", 1, fields, path)
    upper, left, lower, right = np.moveaxis(table["bbox_by_camera_tlbr"].astype(np.float64), -1, 0)
    boxes = np.stack([left, upper, right, lower], -1)
    return OfficialLabels(
        subject_names=subjects,
        camera_names=views,
        action_names=actions,
        cameras=_cameras(content, subjects, views, undistorted, path),
        subject=_named(table["subject_idx"], subjects, "subject", path),
        scene=_named(table["action_idx"], actions, "action", path),
        frame=table["frame_idx"].astype(np.int64),
        keypoints_mm=np.ascontiguousarray(table["keypoints"]),
        box_px=np.where((lower > upper)[..., None], boxes, np.nan),  # a view without an image has a box of zeros
    )


def read_results(path: Path, rows: int | None = None) -> Float[np.ndarray, "row joint 3"]:
    """Read predictions of the published code, in the order of the rows that they are for.

    They are for every row of a test set. (A set of every n-th frame, see `evaluation.human36m.kept_rows`, takes every
    n-th of them.)

    Args:
        path: ``results.pkl``.
        rows: how many the data set has; None: as many as there are predictions.

    Returns:
        World frame, mm.

    Raises:
        TriposeError: not such a file, damaged, or predictions that are not one for each row.
    """
    content = read_pickle(path)
    keypoints, index = (array_of(content, key, path) for key in ("keypoints_3d", "indexes"))
    if keypoints.ndim != 3 or keypoints.shape[-1] != 3 or keypoints.dtype.kind != "f":
        raise TriposeError(f"{path}: keypoints_3d are {_told(keypoints)}, not positions [row, joint, 3]")
    if index.shape != keypoints.shape[:1] or index.dtype.kind not in "iu":
        raise TriposeError(f"{path}: indexes are {_told(index)}, but there are predictions for {len(keypoints)} rows")
    if rows is not None and len(index) != rows:
        raise TriposeError(
            f"{path} holds predictions for {len(index)} rows, but the labels have {rows}: they were made for another "
            "split, with or without the damaged scenes, or for every n-th frame"
        )
    outside = index[(index < 0) | (index >= len(index))]
    if len(outside):
        raise TriposeError(
            f"{path}: one prediction is for row {outside[0]}, but there are {len(index)} predictions, which should be "
            "for the rows from 0: some were left out, or they are of another data set"
        )
    order = np.argsort(index)
    twice = index[order][1:][np.diff(index[order]) == 0]
    if len(twice):
        raise TriposeError(f"{path} holds more than one prediction for row {twice[0]}, and none for another")
    return keypoints[order]


def write_results(path: Path, keypoints_mm: Float[np.ndarray, "row joint 3"]) -> None:
    """Write predictions as the published code reads them, for example as centres of its cuboids.

    Args:
        path: ``results.pkl``.
        keypoints_mm: world frame, one for every row of the data set, in order. NaN stays NaN, of which the published
            code knows nothing.

    Raises:
        TriposeError: the file cannot be written.
    """
    content = {
        "keypoints_3d": np.ascontiguousarray(keypoints_mm, dtype=np.float32),
        "indexes": np.arange(len(keypoints_mm), dtype=np.int64),
    }
    # The name that NumPy 1 has for it, with which the published code runs, and that NumPy 2 still knows.
    written = pickle.dumps(content, protocol=3).replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    with atomic(path) as part:
        part.write_bytes(written)


# --- Parts of the labels ----------------------------------------------------------------------------------------------


def _names(content: dict[str, Any], key: str, path: Path) -> tuple[str, ...]:
    value = content.get(key)
    names = value if isinstance(value, list | tuple) else array_of(content, key, path).tolist()
    if not names or not all(isinstance(n, str) for n in names) or len(set(names)) < len(names):
        raise TriposeError(f"{path}: {key} are not different names")
    return tuple(names)


def _cameras(
    content: dict[str, Any], subjects: tuple[str, ...], views: tuple[str, ...], undistorted: bool, path: Path
) -> tuple[Cameras, ...]:
    table = array_of(content, "cameras", path)
    _check_fields(table, "cameras", 2, _CAMERA_PARTS, path)
    if table.shape != (len(subjects), len(views)):
        raise TriposeError(
            f"{path}: the cameras are {list(table.shape)}, but there are {len(subjects)} subjects, {len(views)} views"
        )
    sizes = [SIZE_PX.get(name, (1000, 1000)) for name in views]  # which the file does not say
    rigs = []
    for subject, row in zip(subjects, table, strict=True):
        lenses = None if undistorted else [opencv_coefficients((*d[:2], d[4]), d[2:4]) for d in row["dist"].tolist()]
        try:
            rigs.append(Cameras.build(views, row["K"], row["R"], row["t"][..., 0], sizes, lenses, up="z"))
        except TriposeError as error:
            raise TriposeError(f"{path}, subject {subject}: {error}") from error
    return tuple(rigs)


def _check_fields(table: np.ndarray, name: str, axes: int, fields: dict[str, tuple[int, ...]], path: Path) -> None:
    """That a structured array has its axes and the numbers that are expected in every element."""
    if table.dtype.names is None or table.ndim != axes:
        raise TriposeError(f"{path}: {name} is {_told(table)}, not a table")
    for field, shape in fields.items():
        if field not in table.dtype.names:
            raise TriposeError(f"{path}: {name} has no column {field!r}; it has {', '.join(table.dtype.names)}")
        column = table[field]
        if column.shape[axes:] != shape or column.dtype.kind not in ("iu" if field.endswith("_idx") else "iuf"):
            raise TriposeError(
                f"{path}: the column {field!r} of {name} is {_told(column)}, not {[*table.shape, *shape]} numbers"
            )


def _named(index: Int[np.ndarray, " row"], names: tuple[str, ...], what: str, path: Path) -> Shaped[np.ndarray, " row"]:
    outside = index[(index < 0) | (index >= len(names))]
    if len(outside):
        raise TriposeError(f"{path}: a row is of {what} {outside[0]}, but there are only {len(names)}")
    named: Shaped[np.ndarray, " row"] = np.array(names)[index]
    return named


def _told(array: np.ndarray) -> str:
    return f"{list(array.shape)} {array.dtype}"
