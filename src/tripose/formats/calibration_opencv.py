"""Calibrations in OpenCV's FileStorage (YAML or XML), one file or EasyMocap's intri.yml and extri.yml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tripose.cameras import Cameras
from tripose.errors import TriposeError
from tripose.formats.calibration_common import (
    RawCamera,
    Unit,
    build_cameras,
    choose_unit,
    coefficients,
    image_size,
    numbers,
    rotation,
    square,
    vector,
)


def cameras_from_opencv(
    texts: Sequence[str], unit: Unit | None = None, sizes_px: Mapping[str, tuple[int, int]] | None = None
) -> Cameras:
    """Read the texts of FileStorage files that together describe a rig; metres unless `unit` says otherwise.

    Per camera: ``K_<name>``, ``dist_<name>`` or ``D_<name>``, ``Rot_<name>`` or ``R_<name>`` (matrix or rotation
    vector), ``T_<name>`` or ``t_<name>``, and optionally ``W_<name>`` with ``H_<name>`` or ``size_<name>``. The list
    ``names``, where there is one, says which cameras there are and in which order.

    Raises:
        TriposeError: not a FileStorage, a missing key, an impossible camera.
    """
    nodes: dict[str, Any] = {}
    for text in texts:
        nodes |= _nodes(text)
    listed = nodes.get("names")
    names = listed if isinstance(listed, list) else [key[2:] for key in nodes if key.startswith("K_")]
    if not names:
        raise TriposeError("this OpenCV file holds no camera: no list 'names' and no key 'K_<name>'")
    return build_cameras([_camera(str(name), nodes) for name in names], choose_unit(unit, None, "m"), None, sizes_px)


def _camera(name: str, nodes: dict[str, Any]) -> RawCamera:
    K_key = _key(nodes, name, "K")
    lens_key = _key(nodes, name, "dist", "D")
    R_key = _key(nodes, name, "Rot", "R")
    t_key = _key(nodes, name, "T", "t")
    size = None
    if {f"W_{name}", f"H_{name}"} <= nodes.keys():
        pair = [numbers(nodes[f"{k}_{name}"], name, f"{k}_{name}").ravel() for k in "WH"]
        size = image_size(np.concatenate(pair), name, f"W_{name} and H_{name}")
    elif f"size_{name}" in nodes:
        size = image_size(nodes[f"size_{name}"], name, f"size_{name}")
    return RawCamera(
        name=name,
        K=square(nodes[K_key], name, K_key),
        R=rotation(nodes[R_key], name, R_key),
        t=vector(nodes[t_key], name, t_key),
        distortion=coefficients(nodes[lens_key], name, lens_key),
        size_px=size,
    )


def _key(nodes: dict[str, Any], name: str, *prefixes: str) -> str:
    for prefix in prefixes:
        if f"{prefix}_{name}" in nodes:
            return f"{prefix}_{name}"
    raise TriposeError(f"camera {name!r} has no {prefixes[0] + '_' + name!r}")


def _nodes(text: str) -> dict[str, Any]:
    """The top level of a FileStorage. It is parsed from memory: OpenCV opens no path with letters beyond ASCII."""
    import cv2

    try:
        storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)  # its nodes need it alive
        root = storage.root()
        return {key: _value(root.getNode(key)) for key in root.keys()}  # noqa: SIM118 (a FileNode, not a dict)
    except (cv2.error, SystemError):  # SystemError: what OpenCV 5 raises for a text that it cannot parse
        raise TriposeError("not a YAML or XML file of OpenCV's FileStorage") from None


def _value(node: Any) -> Any:
    if node.isMap():
        return node.mat() if "dt" in node.keys() else None  # noqa: SIM118
    if node.isSeq():
        return [_value(node.at(i)) for i in range(node.size())]
    if node.isString():
        return node.string()
    return int(node.real()) if node.isInt() else node.real() if node.isReal() else None
