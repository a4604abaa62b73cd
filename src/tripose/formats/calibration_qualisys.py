"""Calibrations that Qualisys Track Manager exports (``*.qca.txt``, XML)."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np

from tripose.cameras import Cameras
from tripose.errors import TriposeError
from tripose.formats.calibration_common import RawCamera, Unit, build_cameras, choose_unit, image_size

# Lengths in the sensor plane are in 1/64 px.
_SUBPIXELS = 64.0
# Qualisys cameras look along -z with y up; OpenCV's look along +z with y down.
_HALF_TURN = np.diag([1.0, -1.0, -1.0])


def cameras_from_qualisys(text: str, unit: Unit | None = None) -> Cameras:
    """Read the text of a Qualisys calibration; lengths are mm, z is up, a camera is called by its serial number.

    Only video cameras are read where the file tells them from marker cameras. Focal lengths and centres are in 1/64 px
    and count from the corner of the sensor; distortion coefficients have no unit and are taken as they are (Pose2Sim
    divides them by 64 as well, which all but removes the distortion).

    Raises:
        TriposeError: no XML, a document type or entity (never part of such a file), a missing element or number, a
            rotated view or a skewed sensor (neither is supported), an impossible camera.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise TriposeError("the XML declares a document type or entities, which no Qualisys calibration does")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise TriposeError(f"not an XML file ({error})") from None
    elements = root.findall("cameras/camera")
    if not elements:
        raise TriposeError("this XML file holds no cameras/camera element, so it is no Qualisys calibration")
    # Pose2Sim writes the model "none" for the video cameras of its own files.
    videos = [e for e in elements if any(word in e.get("model", "none").lower() for word in ("video", "none"))]
    return build_cameras([_camera(e) for e in videos or elements], choose_unit(unit, None, "mm"), "z")


def _camera(element: ElementTree.Element) -> RawCamera:
    name = element.get("serial")
    if name is None:
        raise TriposeError("a camera has no 'serial'")
    if element.get("viewrotation", "0") != "0":
        raise TriposeError(
            f"camera {name!r}: viewrotation {element.get('viewrotation')} is not supported;"
            " set it to 0 in Qualisys Track Manager and export calibration and videos again"
        )
    if _number(element, name, "intrinsic", "skew", 0.0) != 0:
        raise TriposeError(f"camera {name!r}: a skewed sensor is not supported")
    left, top, right, bottom = (_number(element, name, "fov_video", k) for k in ("left", "top", "right", "bottom"))
    fu, fv, cu, cv = (
        _number(element, name, "intrinsic", k) / _SUBPIXELS
        for k in ("focalLengthU", "focalLengthV", "centerPointU", "centerPointV")
    )
    # r11 r12 r13 is the x axis of the camera in the world, and so on: the rows of world -> camera.
    axes = np.array([[_number(element, name, "transform", f"r{i}{j}") for j in (1, 2, 3)] for i in (1, 2, 3)])
    center = np.array([_number(element, name, "transform", k) for k in "xyz"])
    R = _HALF_TURN @ axes
    lens = ("radialDistortion1", "radialDistortion2", "tangentalDistortion1", "tangentalDistortion2")
    return RawCamera(
        name=name,
        K=np.array([[fu, 0.0, cu - left], [0.0, fv, cv - top], [0.0, 0.0, 1.0]]),
        R=R,
        t=-R @ center,
        distortion=(
            *(_number(element, name, "intrinsic", k) for k in lens),
            _number(element, name, "intrinsic", "radialDistortion3", 0.0),
        ),
        size_px=image_size([right - left + 1, bottom - top + 1], name, "fov_video"),
    )


def _number(camera: ElementTree.Element, name: str, tag: str, key: str, default: float | None = None) -> float:
    child = camera.find(tag)
    text = None if child is None else child.get(key)
    if text is None:
        if default is None:
            raise TriposeError(f"camera {name!r} has no {key!r} in its {tag!r} element")
        return default
    try:
        return float(text)
    except ValueError:
        raise TriposeError(f"camera {name!r}: {key!r} is {text!r}, not a number") from None
