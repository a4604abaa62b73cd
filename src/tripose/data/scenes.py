"""Takes of a public data set, and the one file that says everything about them but the images.

The index is an npz without pickles. Cameras and image sources are listed scene by scene, people row by row; a row is
one person at one moment. `about` is JSON: the version, the skeleton, the axis that points up.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from tripose.cameras import Cameras
from tripose.errors import TriposeError
from tripose.formats.writing import atomic
from tripose.skeleton import Skeleton, skeleton_named

_FORMAT = "tripose-scenes-1"
_CAMERA = ("K", "R", "t", "distortion", "size_px")


@dataclass(frozen=True)
class Detections:
    """What a detector saw of the people.

    Attributes:
        points_px: in the whole images; NaN where a view shows nothing of a joint.
        confidence: 0..1.
    """

    points_px: Float[np.ndarray, "row view joint 2"]
    confidence: Float[np.ndarray, "row view joint"]


@dataclass(frozen=True)
class Scene:
    """One take: cameras that do not move, and who was seen where.

    Attributes:
        name: what results are told apart by, such as ``S9/Directions-1``.
        cameras: of the whole images, with their lenses.
        sources: camera -> video or folder of images; cameras without images are left out.
        frame: for every row the number of its images, ascending: from 0 in a video, that in its name for an image.
        keypoints_mm: world frame; NaN where unknown.
        skeleton: their joints.
        box_px: left, upper, right, lower edge of the person in the whole images, pixels; NaN where a view has no image
            of the person. None: the joints tell.
        detections: in the place of images, or beside them; None: nobody looked.
    """

    name: str
    cameras: Cameras
    sources: Mapping[str, Path]
    frame: Int[np.ndarray, " row"]
    keypoints_mm: Float[np.ndarray, "row joint 3"]
    skeleton: Skeleton
    box_px: Float[np.ndarray, "row view 4"] | None = None
    detections: Detections | None = None


def write_index(scenes: Sequence[Scene], path: Path) -> None:
    """Write an index; the same scenes give the same bytes. It is complete or not there.

    Args:
        scenes: of one skeleton and one up-axis, all with boxes or none, and all with detections or none.
        path: ``.npz``. Sources inside its folder are told relative to it, others absolutely.

    Raises:
        TriposeError: the file cannot be written.
    """
    root, first = path.parent.resolve(), scenes[0]
    boxed, detected = first.box_px is not None, first.detections is not None
    about = {"format": _FORMAT, "skeleton": first.skeleton.name, "up": first.cameras.up, "boxes": boxed}
    about |= {"detections": True} if detected else {}
    sources = [_told(s.sources.get(c), root) for s in scenes for c in s.cameras.names]
    arrays: dict[str, np.ndarray] = {
        "about": np.array(json.dumps(about)),
        "scene": np.array([s.name for s in scenes]),
        "rows": np.array([len(s.frame) for s in scenes]),
        "views": np.array([len(s.cameras) for s in scenes]),
        "camera": np.array([c for s in scenes for c in s.cameras.names]),
        "lens": np.array([lens for s in scenes for lens in s.cameras.lens]),
        "source": np.array(sources),
        **{part: torch.cat([getattr(s.cameras, part) for s in scenes]).numpy() for part in _CAMERA},
        "frame": np.concatenate([s.frame for s in scenes]).astype(np.int32),
        "keypoints_mm": np.concatenate([s.keypoints_mm for s in scenes]).astype(np.float32),
    }
    if boxed:
        boxes = [s.box_px.reshape(-1, 4) for s in scenes if s.box_px is not None]
        arrays["box_px"] = np.concatenate(boxes).astype(np.float32)
    if detected:
        seen = [s.detections for s in scenes if s.detections is not None]
        arrays["points_px"] = np.concatenate([d.points_px.reshape(-1, 2) for d in seen]).astype(np.float32)
        arrays["confidence"] = np.concatenate([d.confidence.reshape(-1) for d in seen]).astype(np.float32)
    with atomic(path, ".npz") as part:
        np.savez_compressed(part, allow_pickle=False, **arrays)


def read_index(path: Path) -> list[Scene]:
    """Read what `write_index` wrote.

    Raises:
        TriposeError: no such file, damaged, or something else.
    """
    if not path.is_file():
        raise TriposeError(f"{path}: there is no such index; `tripose prepare` makes it from the original files")
    try:
        with np.load(path) as file:
            arrays = dict(file)
        about = json.loads(str(arrays["about"]))
        if about.get("format") != _FORMAT:
            raise TriposeError(f"{path} is not an index of scenes, or one of another version: prepare it again")
        return list(_scenes(arrays, about, path.parent))
    except TriposeError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy each have their own
        raise TriposeError(f"{path} is damaged ({error}): prepare it again") from error


def _scenes(arrays: dict[str, np.ndarray], about: dict[str, Any], root: Path) -> list[Scene]:
    skeleton = skeleton_named(about["skeleton"])
    row_end, view_end = arrays["rows"].cumsum(), arrays["views"].cumsum()
    box_end = (arrays["rows"] * arrays["views"]).cumsum()
    scenes = []
    for i, name in enumerate(arrays["scene"].tolist()):
        n_rows, n_views = int(arrays["rows"][i]), int(arrays["views"][i])
        rows, views = slice(row_end[i] - n_rows, row_end[i]), slice(view_end[i] - n_views, view_end[i])
        cameras = Cameras(
            **{part: torch.from_numpy(arrays[part][views].copy()) for part in _CAMERA},
            names=tuple(arrays["camera"][views].tolist()),
            lens=tuple(arrays["lens"][views].tolist()),
            up=about["up"],
        )
        sources = zip(cameras.names, arrays["source"][views].tolist(), strict=True)
        boxes = slice(box_end[i] - n_rows * n_views, box_end[i])
        scenes.append(
            Scene(
                name,
                cameras,
                {camera: root / source for camera, source in sources if source},
                arrays["frame"][rows].astype(np.int64),
                arrays["keypoints_mm"][rows].astype(np.float64),
                skeleton,
                arrays["box_px"][boxes].reshape(n_rows, n_views, 4).astype(np.float64) if about["boxes"] else None,
                _detections(arrays, boxes, (n_rows, n_views, len(skeleton))) if about.get("detections") else None,
            )
        )
    return scenes


def _detections(arrays: dict[str, np.ndarray], images: slice, shape: tuple[int, int, int]) -> Detections:
    """Those of one scene, which has these of all images."""
    joints = slice(images.start * shape[2], images.stop * shape[2])
    points, confidence = (arrays[name][joints].astype(np.float64) for name in ("points_px", "confidence"))
    return Detections(points.reshape(*shape, 2), confidence.reshape(shape))


def is_index(path: Path) -> bool:
    """Whether a file is an index of scenes, whatever its version."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "about.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def _told(source: Path | None, root: Path) -> str:
    """A source as the index names it; an absolute path joined to the root is itself."""
    if source is None:
        return ""
    whole = source.resolve()
    return whole.relative_to(root).as_posix() if whole.is_relative_to(root) else whole.as_posix()
