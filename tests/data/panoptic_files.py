"""CMU Panoptic in miniature, in its original file formats: people who sway in small pictures; truth known."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np
import torch

from clips import picture
from tripose.cameras import Cameras

SIZE_PX = (320, 180)
CAMERAS = ("00_01", "00_02", "00_10", "00_13")
FPS = Fraction(30000, 1001)

# A standing person, mm, y down, facing +z, so that the left is at -x: joints of PANOPTIC19 by parts of the body.
_ARM = np.array([[155, -1400, 0], [200, -1130, 0], [210, -900, 60]], float)
_LEG = np.array([[90, -900, 0], [95, -500, 20], [95, -90, 0]], float)
_EYE_EAR = np.array([[30, -1590, 110], [75, -1570, 20]], float)
_LEFT = [-1, 1, 1]
_BODY_MM = np.concatenate(
    [
        np.array([[0, -1400, 0], [0, -1550, 130], [0, -900, 0]], float),
        *(_ARM * _LEFT, _LEG * _LEFT),
        *(_ARM, _LEG),
        *(_EYE_EAR * _LEFT, _EYE_EAR),
    ]
)
_LENS = [-0.222445, 0.199192, 8.73054e-05, 0.000982243, 0.0238445]


@dataclass(frozen=True)
class Written:
    """What a sequence holds, to the last digit of its files.

    Attributes:
        cameras: all 31 HD cameras, mm.
        frame: of each row.
        person: of each row.
        keypoints_mm: [row, 19, 3]; NaN where the file says that a joint is missing.
    """

    cameras: Cameras
    frame: np.ndarray
    person: np.ndarray
    keypoints_mm: np.ndarray


def write_panoptic(
    folder: Path,
    sequences: Sequence[str] = ("171204_pose1",),
    cameras: Sequence[str] = CAMERAS,
    frames: Sequence[int] = range(4, 12),
    people: int = 1,
    images: Literal["videos", "images"] = "videos",
    *,
    tar: bool = False,
) -> dict[str, Written]:
    """Write sequences as ``getData.sh`` and ``extractAll.sh`` leave them.

    Every calibration has 31 HD, two VGA and one Kinect camera; of the left ankle of the first person the second frame
    knows nothing. Images start at frame 0 and show their number (see `clips.number_of`) and discs at the joints.

    Args:
        folder: gets a folder for each sequence.
        sequences: their names.
        cameras: HD cameras that have images.
        frames: those with poses.
        people: how many there are; their ids are 0, 1, ...
        images: videos, or a folder of JPEG files for each camera.
        tar: whether the poses are in their archive, not unpacked.
    """
    written = {}
    for i, name in enumerate(sequences):
        place = folder / name
        place.mkdir(parents=True)
        rig = _write_calibration(place / f"calibration_{name}.json", turn=0.1 * i)
        truth = _write_poses(place, frames, people, tar)
        written[name] = Written(rig, *truth)
        for camera in cameras:
            _write_images(place, camera, written[name], images)
    return written


def _write_calibration(path: Path, turn: float) -> Cameras:
    entries = [_entry("vga", 1, n, [640, 480], 0.5 * n) for n in (1, 2)]
    entries += [_entry("hd", 0, n, list(SIZE_PX), turn + 2 * np.pi * n * 7 / 31) for n in range(31)]
    entries += [_entry("kinect-color", 50, 1, [1920, 1080], 0.3)]
    path.write_text(json.dumps({"calibDataSource": "171204_calib_norm", "cameras": entries}, indent="\t"))
    hd = [e for e in entries if e["type"] == "hd"]
    return Cameras.build(
        [e["name"] for e in hd],
        [e["K"] for e in hd],
        [e["R"] for e in hd],
        10 * np.array([e["t"] for e in hd])[..., 0],
        [e["resolution"] for e in hd],
        [e["distCoef"] for e in hd],
        up="-y",
    )


def _entry(kind: str, panel: int, node: int, size: list[int], angle: float) -> dict:
    """A camera 3 m from the middle, 1.2 m above the floor, that looks at 0.9 m; lengths in cm."""
    center = np.array([300 * np.cos(angle), -120, 300 * np.sin(angle)])
    z = np.array([0, -90, 0]) - center
    z /= np.linalg.norm(z)
    x = np.cross([0, 1, 0], z)
    x /= np.linalg.norm(x)
    R = np.array([x, np.cross(z, x), z])
    return {
        "name": f"{panel:02d}_{node:02d}",
        "type": kind,
        "resolution": size,
        "panel": panel,
        "node": node,
        "K": [[1.2 * size[1], 0, size[0] / 2 - 3], [0, 1.2 * size[1], size[1] / 2 + 2], [0, 0, 1]],
        "distCoef": _LENS,
        "R": R.round(10).tolist(),
        "t": (-R @ center)[:, None].round(8).tolist(),
    }


def _write_poses(
    place: Path, frames: Sequence[int], people: int, tar: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows, files = [], {}
    for i, frame in enumerate(frames):
        bodies = []
        for person in range(people):
            sway = [150 * np.sin(0.4 * frame + person), 0, 700 * (person - (people - 1) / 2)]
            cm = np.array([[float(f"{v / 10:.6g}") for v in joint] for joint in _BODY_MM + sway])
            score = np.full(19, 0.55)
            if i == 1 and person == 0:
                cm[8], score[8] = 0, -1
            bodies.append({"id": person, "joints19": np.c_[cm, score].ravel().tolist()})
            rows.append((frame, person, np.where(score[:, None] > 0, 10 * cm, np.nan)))
        document = {"version": 0.7, "univTime": 53541.542 + 33.3667 * frame, "fpsType": "hd_29_97", "bodies": bodies}
        files[f"body3DScene_{frame:08d}.json"] = json.dumps(document).encode()
    if tar:
        with tarfile.open(place / "hdPose3d_stage1_coco19.tar", "w") as archive:
            for name, content in files.items():
                entry = tarfile.TarInfo(f"hdPose3d_stage1_coco19/{name}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    else:
        (place / "hdPose3d_stage1_coco19").mkdir()
        for name, content in files.items():
            (place / "hdPose3d_stage1_coco19" / name).write_bytes(content)
    frame, person, keypoints = zip(*rows, strict=True)
    return np.array(frame), np.array(person), np.stack(keypoints)


def _write_images(place: Path, camera: str, truth: Written, kind: str) -> None:
    shown = [_picture(truth, camera, number) for number in range(int(truth.frame.max()) + 1)]
    if kind == "images":
        folder = place / "hdImgs" / camera
        folder.mkdir(parents=True)
        for number, image in enumerate(shown):
            cv2.imwrite(str(folder / f"{camera}_{number:08d}.jpg"), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        return
    folder = place / "hdVideos"
    folder.mkdir(exist_ok=True)
    with av.open(str(folder / f"hd_{camera}.mp4"), "w") as container:
        stream = container.add_stream("libx264", FPS)
        stream.width, stream.height = SIZE_PX
        stream.pix_fmt, stream.options = "yuv420p", {"crf": "18"}
        stream.codec_context.time_base = 1 / FPS
        for number, image in enumerate(shown):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, 1 / FPS
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _picture(truth: Written, camera: str, number: int) -> np.ndarray:
    image = picture(number % 256, SIZE_PX)
    view = truth.cameras.select([camera])
    for person in truth.keypoints_mm[truth.frame == number]:
        points = view.project(torch.from_numpy(person))[0][0].numpy()
        for x, y in points[np.isfinite(points).all(1)]:
            cv2.circle(image, (round(float(x)), round(float(y))), 3, (40, 220, 60), -1)
    return image
