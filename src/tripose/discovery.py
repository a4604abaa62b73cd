"""Find the parts of a recording by convention, and match views to cameras by name.

A recording is a folder. It holds one calibration (directly or in ``calibration/``) and the views (directly or in
``videos/`` or ``images/``; 2D keypoints in one folder whose name starts with ``pose`` or ``keypoints``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tripose.errors import TriposeError
from tripose.image_folder import IMAGE_SUFFIXES
from tripose.video import VIDEO_SUFFIXES


def find_calibration(folder: Path) -> Path:
    """Find the one calibration of a recording.

    Raises:
        TriposeError: none, or more than one: two calibrations in a folder are never guessed between.
    """
    found: set[Path] = set()
    for place in (folder, folder / "calibration", folder / "Calibration"):
        for path in sorted(place.iterdir()) if place.is_dir() else []:
            if path.name in ("intri.yml", "extri.yml"):
                found.add(path.parent)
            elif _looks_like_calibration(path):
                found.add(path)
    if not found:
        raise TriposeError(
            f"{folder}: no calibration found here or in calibration/ (looked for *.toml, *.qca.txt, intri.yml and "
            "extri.yml, and *calib* or *camera* .json or .yml files); name it in recording.yaml or by --calibration"
        )
    if len(found) > 1:
        names = ", ".join(sorted(str(p.relative_to(folder)) for p in found))
        raise TriposeError(f"{folder}: {len(found)} calibrations ({names}); name the right one by --calibration")
    return found.pop()


def _looks_like_calibration(path: Path) -> bool:
    name = path.name.lower()
    if name.endswith(".qca.txt"):
        return True
    if name.endswith(".toml"):
        return name != "config.toml"
    return name.endswith((".json", ".yml", ".yaml")) and ("calib" in name or "camera" in name)


def find_videos(folder: Path) -> dict[str, Path]:
    """Videos or image folders of a recording: view name -> path; empty when there are none."""
    for place in (folder / "videos", folder / "images", folder):
        if place.is_dir():
            videos = [p for p in sorted(place.iterdir()) if p.suffix.lower() in VIDEO_SUFFIXES]
            files = {p.stem: p for p in videos}
            for path in videos:
                if files[path.stem] != path:
                    raise TriposeError(f"{path} and {files[path.stem].name} are the same view; keep one of them")
            folders = {p.name: p for p in sorted(place.iterdir()) if p.is_dir() and _holds_images(p)}
            if files or folders:
                return files or folders
    return {}


def find_keypoints(folder: Path, *, required: bool) -> Path | None:
    """The folder of 2D keypoints, when exactly one looks like it.

    Raises:
        TriposeError: keypoints are required and none or several folders were found.
    """
    found = [
        p for p in sorted(folder.iterdir()) if p.is_dir() and re.match(r"(pose|keypoints)(?![-_]?3d)", p.name.lower())
    ]
    if len(found) == 1:
        return found[0]
    if not required:
        return None
    if not found:
        raise TriposeError(f"{folder}: no videos, image folders or 2D keypoints found here, in videos/ or in images/")
    raise TriposeError(
        f"{folder}: several keypoint folders ({', '.join(p.name for p in found)}); name one by --keypoints"
    )


def keypoint_views(folder: Path) -> dict[str, Path]:
    """The views of a keypoint folder: name -> file or sub-folder.

    Raises:
        TriposeError: the folder does not exist or holds no keypoint files.
    """
    if not folder.is_dir():
        raise TriposeError(f"{folder}: there is no such keypoint folder")
    views = {p.name.removesuffix("_json"): p for p in sorted(folder.iterdir()) if p.is_dir()}
    if not views:
        views = {p.stem: p for p in sorted(folder.iterdir()) if p.suffix.lower() in (".json", ".csv", ".h5")}
    if not views:
        raise TriposeError(f"{folder}: holds no keypoint files (folders of .json, or .json, .csv or .h5 per camera)")
    return views


def late_starts(numbers: dict[str, tuple[int, int] | None]) -> dict[str, int]:
    """How many frames each numbered view starts after the earliest one.

    Where the numbers of all views overlap they count the same frames, and a view that lacks its first ones starts
    later. Where they do not, each camera has its own count, and all views start together.

    Args:
        numbers: view -> lowest and highest frame number; None for views that are not numbered.
    """
    known = [n for n in numbers.values() if n is not None]
    shared = bool(known) and max(low for low, _ in known) <= min(high for _, high in known)
    first = min((low for low, _ in known), default=0)
    return {view: n[0] - first if n is not None and shared else 0 for view, n in numbers.items()}


def match_views(cameras: Sequence[str], views: Sequence[str], calibration: Path) -> dict[str, str]:
    """Match views to cameras by name: camera -> view.

    Names match when they are equal, or when the words and numbers of one are found side by side in the other:
    ``int_cam01_img`` and ``cam01``, but never ``cam1`` and ``cam10``.

    Raises:
        TriposeError: no view matches, one does not though a camera is free, or a name fits more than one.
    """
    if not views:
        return {}
    pairs: dict[str, str] = {}
    for view in views:
        fits = [c for c in cameras if c == view] or [c for c in cameras if _words(c) == _words(view)]
        fits = fits or [c for c in cameras if _contains(_words(c), _words(view)) or _contains(_words(view), _words(c))]
        if len(fits) > 1:
            raise TriposeError(
                f"{calibration}: the view {view!r} fits the cameras {', '.join(fits)}; say which in recording.yaml"
            )
        if fits and fits[0] in pairs:
            raise TriposeError(
                f"{calibration}: the views {pairs[fits[0]]!r} and {view!r} both fit the camera {fits[0]!r}; "
                "say which in recording.yaml"
            )
        if fits:
            pairs[fits[0]] = view
    unmatched = [v for v in views if v not in pairs.values()]
    if not pairs or (unmatched and len(pairs) < len(cameras)):
        raise TriposeError(
            f"{calibration}: no camera for the view {', '.join(map(repr, unmatched or views))}; the calibration has "
            f"{', '.join(cameras)}. Views and cameras are matched by name: rename one, or map them in recording.yaml"
        )
    return {c: pairs[c] for c in cameras if c in pairs}


def _words(name: str) -> list[str]:
    return [w.lstrip("0") or "0" if w.isdigit() else w for w in re.findall(r"\d+|[^\W\d_]+", name.lower())]


def _contains(long: list[str], short: list[str]) -> bool:
    return bool(short) and any(long[i : i + len(short)] == short for i in range(len(long) - len(short) + 1))


def _holds_images(folder: Path) -> bool:
    return any(p.suffix.lower() in IMAGE_SUFFIXES for p in folder.iterdir())
