"""Calibrations in TOML, as anipose, Pose2Sim and Caliscope keep them: metres, one table per camera."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
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
    require,
    rotation,
    square,
    vector,
)
from tripose.formats.writing import MM_PER_UNIT


def cameras_from_toml(text: str, unit: Unit | None) -> Cameras:
    """Read the text of a TOML calibration.

    Every table with a matrix, a lens or a pose is a camera; others (``metadata``, a calibration board) are not.
    Cameras without a pose and those that Caliscope ignores are left out. A camera is called by its ``name`` where
    the names are unique, else by its table; Caliscope's ``[cameras.0]`` is ``cam_0``, as in its own exports. The table
    ``metadata`` may state ``unit`` (else metres) and ``up``, as our writer does.

    Raises:
        TriposeError: no TOML, no camera with a pose, a missing key, an impossible camera.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TriposeError(f"not a TOML file ({error})") from None
    tables = list(_camera_tables(document))
    if not tables:
        raise TriposeError("this TOML file holds no camera: a table with matrix, distortions, rotation, translation")
    posed = [(section, table) for section, table in tables if _is_posed(table)]
    if not posed:
        raise TriposeError(f"none of the {len(tables)} cameras in this file has a rotation and a translation")
    names = [str(table.get("name", section)) for section, table in posed]
    if len(set(names)) < len(names):
        names = [section for section, _ in posed]
    metadata = document.get("metadata", {})
    stated: dict[str, Any] = metadata if isinstance(metadata, dict) else {}
    return build_cameras(
        [_camera(name, table) for name, (_, table) in zip(names, posed, strict=True)],
        choose_unit(unit, stated.get("unit"), "m"),
        checked_up(stated.get("up")),
    )


def cameras_to_toml(cameras: Cameras, unit: Unit) -> str:
    """The TOML text of a rig that anipose, Pose2Sim and `cameras_from_toml` read.

    Rotations become rotation vectors, so a matrix that is only roughly a rotation is replaced by the nearest one.
    """
    from scipy.spatial.transform import Rotation

    lines = []
    for i, name in enumerate(cameras.names):
        K, R, t = (value[i].detach().cpu().double().numpy() for value in (cameras.K, cameras.R, cameras.t))
        lines += [
            f"[{_quoted('metadata_' if name == 'metadata' else name)}]",
            f"name = {_quoted(name)}",
            f"size = {cameras.size_px[i].tolist()}",
            f"matrix = {K.tolist()}",
            f"distortions = {kept_coefficients(cameras, i)}",
            f"rotation = {Rotation.from_matrix(R).as_rotvec().tolist()}",
            f"translation = {(t / MM_PER_UNIT[unit]).tolist()}",
            f"fisheye = {str(cameras.lens[i] == 'fisheye').lower()}",
            "",
        ]
    lines += ["[metadata]", "adjusted = false", "error = 0.0", f"unit = {_quoted(unit)}"]
    if cameras.up is not None:
        lines.append(f"up = {_quoted(cameras.up)}")
    return "\n".join(lines) + "\n"


def _camera_tables(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for section, table in document.items():
        if not isinstance(table, dict):
            continue
        if table.keys() & {"matrix", "distortions", "rotation", "translation"}:
            yield section, table
        elif section == "cameras":  # Caliscope from 2024 on
            yield from ((f"cam_{key}", inner) for key, inner in table.items() if isinstance(inner, dict))


def _is_posed(table: dict[str, Any]) -> bool:
    # TOML has no null: Caliscope leaves the key out, older versions write the text "null"
    missing = [table.get(key, "null") in ("null", [], None) for key in ("rotation", "translation")]
    return not all(missing) and not table.get("ignore", False)


def _camera(name: str, table: dict[str, Any]) -> RawCamera:
    return RawCamera(
        name=name,
        K=square(require(table, "matrix", name), name, "matrix"),
        R=rotation(require(table, "rotation", name), name, "rotation"),
        t=vector(require(table, "translation", name), name, "translation"),
        distortion=coefficients(require(table, "distortions", name), name, "distortions"),
        size_px=image_size(require(table, "size", name), name, "size"),
        fisheye=bool(table.get("fisheye", False)),
    )


def _quoted(text: str) -> str:
    # JSON's escapes are TOML's, except that TOML also wants DEL escaped
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
