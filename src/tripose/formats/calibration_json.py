"""Calibrations in JSON: our own, CMU Panoptic's, and the plain K / RT dictionaries of the Shelf data set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tripose.cameras import Cameras
from tripose.errors import TriposeError
from tripose.formats.calibration_common import (
    RawCamera,
    Unit,
    build_cameras,
    checked_up,
    choose_unit,
    coefficients,
    image_size,
    kept_coefficients,
    numbers,
    require,
    rotation,
    square,
    vector,
)

FORMAT = "tripose-cameras-1"


def cameras_from_json(
    text: str, unit: Unit | None = None, sizes_px: Mapping[str, tuple[int, int]] | None = None
) -> Cameras:
    """Read the text of a JSON calibration.

    Three layouts are known. Ours states its format, unit and up axis. CMU Panoptic's lists ``cameras`` with a
    ``type``, in cm with y down; only the HD cameras are read, whose frames the 3D poses of that data set number. A
    dictionary of ``name -> {K: 9 numbers, RT: 12 numbers, imgSize, distCoeff}``, the last two optional, is in metres
    unless `unit` says otherwise.

    Raises:
        TriposeError: no JSON, another layout, no HD camera, a missing key, an impossible camera.
    """
    try:
        document = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise TriposeError(f"not a JSON file ({error})") from None
    if isinstance(document, dict) and str(document.get("format", "")).startswith("tripose-cameras"):
        return _from_ours(document, unit)
    if isinstance(document, dict) and isinstance(document.get("cameras"), list):
        return _from_panoptic(document["cameras"], unit)
    tables = document.items() if isinstance(document, dict) else []
    if all(isinstance(table, dict) for _, table in tables) and any("RT" in table for _, table in tables):
        raw = [_plain_camera(name, table) for name, table in tables]
        return build_cameras(raw, choose_unit(unit, None, "m"), None, sizes_px)
    raise TriposeError(
        f"this JSON is no calibration; known are {FORMAT!r}, CMU Panoptic's 'cameras' list, and name -> K, RT, imgSize"
    )


def cameras_to_json(cameras: Cameras) -> str:
    """The JSON text of a rig; nothing is lost or rounded, lengths are mm."""
    entries = [
        {
            "name": name,
            "size_px": cameras.size_px[i].tolist(),
            "K": cameras.K[i].tolist(),
            "R": cameras.R[i].tolist(),
            "t": cameras.t[i].tolist(),
            "distortion": kept_coefficients(cameras, i),
            "fisheye": cameras.lens[i] == "fisheye",
        }
        for i, name in enumerate(cameras.names)
    ]
    document = {"format": FORMAT, "unit": "mm", "up": cameras.up, "cameras": entries}
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _from_ours(document: dict[str, Any], unit: Unit | None) -> Cameras:
    if document["format"] != FORMAT:
        raise TriposeError(f"the format is {document['format']!r}, this version reads {FORMAT!r}")
    if "unit" not in document:
        raise TriposeError("the key 'unit' is missing")
    raw = [
        RawCamera(
            name=name,
            K=square(require(table, "K", name), name, "K"),
            R=rotation(require(table, "R", name), name, "R"),
            t=vector(require(table, "t", name), name, "t"),
            distortion=coefficients(table.get("distortion", []), name, "distortion"),
            size_px=image_size(require(table, "size_px", name), name, "size_px"),
            fisheye=bool(table.get("fisheye", False)),
        )
        for name, table in _named(document.get("cameras"))
    ]
    return build_cameras(raw, choose_unit(unit, document["unit"], "mm"), checked_up(document.get("up")))


def _from_panoptic(entries: list[Any], unit: Unit | None) -> Cameras:
    named = _named(entries)
    kinds = {str(table.get("type", "none")) for _, table in named}
    raw = [
        RawCamera(
            name=name,
            K=square(require(table, "K", name), name, "K"),
            R=rotation(require(table, "R", name), name, "R"),
            t=vector(require(table, "t", name), name, "t"),
            distortion=coefficients(require(table, "distCoef", name), name, "distCoef"),
            size_px=image_size(require(table, "resolution", name), name, "resolution"),
        )
        for name, table in named
        if table.get("type") == "hd"
    ]
    if not raw:
        raise TriposeError(f"no camera of type 'hd'; the types in the file are {', '.join(sorted(kinds)) or 'none'}")
    return build_cameras(raw, choose_unit(unit, None, "cm"), "-y")


def _plain_camera(name: str, table: dict[str, Any]) -> RawCamera:
    RT = numbers(require(table, "RT", name), name, "RT")
    if RT.size != 12:
        raise TriposeError(f"camera {name!r}: 'RT' has {RT.size} numbers, expected 12 (3 rows of R | t)")
    RT = RT.reshape(3, 4)
    return RawCamera(
        name=name,
        K=square(require(table, "K", name), name, "K"),
        R=RT[:, :3],
        t=RT[:, 3],
        distortion=coefficients(table.get("distCoeff", []), name, "distCoeff"),
        size_px=image_size(table["imgSize"], name, "imgSize") if "imgSize" in table else None,
    )


def _named(entries: object) -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise TriposeError("'cameras' is not a list of cameras")
    nameless = [i for i, e in enumerate(entries) if "name" not in e]
    if nameless:
        raise TriposeError(f"camera number {nameless[0]} has no 'name'")
    return [(str(e["name"]), e) for e in entries]
