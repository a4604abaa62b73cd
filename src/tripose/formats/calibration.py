"""Calibrations of other programs: one function that reads them all, and two that write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tripose.cameras import Cameras
from tripose.errors import TriposeError
from tripose.formats.calibration_common import Unit
from tripose.formats.calibration_json import cameras_from_json, cameras_to_json
from tripose.formats.calibration_opencv import cameras_from_opencv
from tripose.formats.calibration_qualisys import cameras_from_qualisys
from tripose.formats.calibration_toml import cameras_from_toml, cameras_to_toml
from tripose.formats.writing import atomic

__all__ = ["Unit", "read_calibration", "write_calibration_json", "write_calibration_toml"]

KNOWN = (
    "anipose, Pose2Sim or Caliscope *.toml; Qualisys *.qca.txt; OpenCV *.yml or EasyMocap's intri.yml with extri.yml;"
    " CMU Panoptic, Shelf or tripose *.json"
)
_PAIR = ("intri.yml", "extri.yml")


def read_calibration(
    path: Path, unit: Unit | None = None, sizes_px: Mapping[str, tuple[int, int]] | None = None
) -> Cameras:
    """Read a calibration; the reader is chosen by file name and content.

    Args:
        path: a file, or for EasyMocap either of intri.yml and extri.yml or their folder.
        unit: length unit of the translations. None means what the file states, else the format's usual one: metres
            for TOML, OpenCV, EasyMocap and Shelf, cm for CMU Panoptic, mm for Qualisys.
        sizes_px: width and height by camera name, for OpenCV and EasyMocap files, which often do not say. Without it
            such a camera's principal point is taken to be the centre of its image.

    Returns:
        The rig; world as calibrated, mm.

    Raises:
        TriposeError: the file is missing, unreadable, of an unknown kind, incomplete, or describes an impossible
            camera; file, camera and key are named.
    """
    path = Path(path)
    try:
        return _read(path, unit, sizes_px)
    except TriposeError as error:
        raise TriposeError(f"{path}: {error}") from error


def write_calibration_toml(cameras: Cameras, path: Path, unit: Unit = "m") -> None:
    """Write a rig as anipose and Pose2Sim keep it.

    Both of them work in metres; in another unit their results are in that unit too. The table ``metadata``, which
    they ignore, states the unit and the up axis for `read_calibration`.
    """
    with atomic(path) as temporary:
        temporary.write_text(cameras_to_toml(cameras, unit), encoding="utf-8")


def write_calibration_json(cameras: Cameras, path: Path) -> None:
    """Write a rig as our own JSON: mm, every number exactly as it is."""
    with atomic(path) as temporary:
        temporary.write_text(cameras_to_json(cameras), encoding="utf-8")


def _read(path: Path, unit: Unit | None, sizes_px: Mapping[str, tuple[int, int]] | None) -> Cameras:
    folder = path if path.is_dir() else path.parent
    if path.is_dir() or path.name in _PAIR:
        missing = [name for name in _PAIR if not (folder / name).is_file()]
        if missing:
            raise TriposeError(f"{missing[0]} is missing; EasyMocap keeps intri.yml and extri.yml in one folder")
        return cameras_from_opencv([_text(folder / name) for name in _PAIR], unit, sizes_px)
    text = _text(path)
    if not text.strip():
        raise TriposeError("the file is empty")
    match path.suffix.lower():
        case ".toml":
            return cameras_from_toml(text, unit)
        case ".json":
            return cameras_from_json(text, unit, sizes_px)
        case ".yml" | ".yaml":
            return cameras_from_opencv([text], unit, sizes_px)
        case ".txt" | ".xml" if "<opencv_storage" in text:
            return cameras_from_opencv([text], unit, sizes_px)
        case ".txt" | ".xml" if text.lstrip().startswith("<"):
            return cameras_from_qualisys(text, unit)
    raise TriposeError(f"unknown kind of calibration; known are {KNOWN}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise TriposeError(f"{path.name} is not a text file in UTF-8") from None
    except OSError as error:
        raise TriposeError(f"{path.name} cannot be read: {error.strerror}") from None
