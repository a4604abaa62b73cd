"""The cameras of Human3.6M, as the file ``metadata.xml`` of its code release tells them.

Its element ``w0`` holds 300 numbers in brackets. First come the poses of the cameras: 4 cameras, of each 11 subjects
(S1 to S11), of each six numbers: three angles, ``R = Rx Ry Rz`` from world to camera, and the place of the camera in
mm, ``x_camera = R (x_world - place)``. Then the lenses: 4 cameras, of each nine numbers, which are the same for all
subjects: focal lengths and principal point in px, ``k1 k2 k3``, and ``p1 p2``.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float

from tripose.cameras import Cameras
from tripose.data.human36m.lens import opencv_coefficients
from tripose.data.human36m.protocol import CAMERAS, SIZE_PX
from tripose.errors import TriposeError

_SUBJECTS = 11
_POSES = 6 * len(CAMERAS) * _SUBJECTS
_NUMBERS = _POSES + 9 * len(CAMERAS)


def read_cameras(path: Path) -> dict[str, Cameras]:
    """Read the rigs of all subjects, ``S1`` to ``S11``.

    Returns:
        By subject the four cameras, with their lens in OpenCV's terms; world of `read_poses_3d`, mm, z up.

    Raises:
        TriposeError: no such file, no XML, no 300 numbers in an element ``w0``, or impossible cameras.
    """
    from scipy.spatial.transform import Rotation

    numbers = _w0(path)
    pose = numbers[:_POSES].reshape(len(CAMERAS), _SUBJECTS, 6)
    focal_x, focal_y, centre_x, centre_y, k1, k2, k3, p1, p2 = numbers[_POSES:].reshape(len(CAMERAS), 9).T
    K = np.zeros((len(CAMERAS), 3, 3))
    K[:, 0, 0], K[:, 1, 1], K[:, 0, 2], K[:, 1, 2], K[:, 2, 2] = focal_x, focal_y, centre_x, centre_y, 1.0
    radial, tangential = np.stack([k1, k2, k3], -1).tolist(), np.stack([p1, p2], -1).tolist()
    lenses = [opencv_coefficients(*lens) for lens in zip(radial, tangential, strict=True)]
    rigs = {}
    for subject in range(_SUBJECTS):
        R = Rotation.from_euler("XYZ", pose[:, subject, :3]).as_matrix()
        t_mm = -np.einsum("vij,vj->vi", R, pose[:, subject, 3:])
        sizes = [SIZE_PX[camera] for camera in CAMERAS]
        try:
            rigs[f"S{subject + 1}"] = Cameras.build(CAMERAS, K, R, t_mm, sizes, lenses, up="z")
        except TriposeError as error:
            raise TriposeError(f"{path}: {error}") from error
    return rigs


def _w0(path: Path) -> Float[np.ndarray, " number"]:
    if not path.is_file():
        raise TriposeError(f"{path}: there is no such file; it is in the code release of Human3.6M (code-v1.2.zip)")
    content = path.read_bytes()
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise TriposeError(f"{path} declares a document type or entities, which Human3.6M's metadata does not")
    try:
        element = next(ElementTree.fromstring(content).iter("w0"), None)
    except ElementTree.ParseError as error:
        raise TriposeError(f"{path} is not an XML file, or truncated ({error})") from error
    if element is None:
        raise TriposeError(f"{path} has no element 'w0' with the cameras: it is not the metadata of Human3.6M")
    words = re.split(r"[\s,;]+", (element.text or "").strip(" \t\r\n[];,"))
    try:
        numbers = np.array([float(word) for word in words])
    except ValueError as error:
        raise TriposeError(f"{path}: the element 'w0' holds something else than numbers ({error})") from error
    if len(numbers) != _NUMBERS:
        raise TriposeError(f"{path}: the element 'w0' holds {len(numbers)} numbers, expected {_NUMBERS}")
    return numbers
