"""A miniature of Human3.6M in the original file formats, with its truth; nothing in it is of the real data set."""

from __future__ import annotations

import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

import av
import cdflib.cdfwrite
import cv2
import h5py
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from tripose.cameras import Cameras
from tripose.data.human36m.lens import opencv_coefficients
from tripose.data.human36m.protocol import CAMERAS, JOINTS_OF_32, MISSING_VIEWS, SIZE_PX, original_name
from tripose.skeleton import H36M17
from walkers import body_part, look_at

FPS = 50
# Of the 32 joints the files repeat the pelvis and twice the neck, and end feet and hands in joints of their own.
_COPIES = {11: 0, 16: 13, 24: 13}
_ENDS = {4: 3, 5: 3, 9: 8, 10: 8, 20: 19, 21: 19, 22: 19, 23: 19, 28: 27, 29: 27, 30: 27, 31: 27}
COLOURS = np.random.default_rng(3).integers(90, 255, (32, 3))


@dataclass(frozen=True)
class Miniature:
    """What `write_human36m` wrote.

    Attributes:
        folder: of the files.
        cameras: subject -> its rig, with Human3.6M's lens.
        poses_mm: "S1/Directions-1" -> [frame, 32, 3], world; rounded to single precision as in the files.
        boxes_px: "S1/Directions-1" -> [frame, view, 4] left, upper, right, lower; NaN: no image.
    """

    folder: Path
    cameras: dict[str, Cameras]
    poses_mm: dict[str, np.ndarray]
    boxes_px: dict[str, np.ndarray]


def write_human36m(
    folder: Path,
    subjects: tuple[str, ...] = ("S1", "S9"),
    scenes: tuple[str, ...] = ("Directions-1", "Directions-2", "Sitting-1", "Sitting-2"),
    frames: int = 10,
    archives: bool = False,
) -> Miniature:
    """Write a few scenes of Human3.6M as the original download has them.

    Per subject ``MyPoseFeatures/D3_Positions`` and ``D2_Positions`` (CDF), ``Videos`` (mp4, 50 fps, of the original
    1000 x 1002 and 1000 x 1000 pixels) and ``MySegmentsMat/ground_truth_bb`` (MAT 7.3), under the original names; and
    ``metadata.xml`` with the cameras of eleven subjects. Somebody of 1.7 m walks in a circle between four cameras 4.5 m
    away and swings arms and legs: all joints are inside of all images, each a disc in its own colour (`COLOURS`). View
    54138969 of S11's Directions-2 is missing, as in the original.

    Takes 10 ms of computing for every image (a scene of 10 frames: half a second).

    Args:
        folder: made if it is not there.
        subjects: whose files are written.
        scenes: ``Directions-1`` and so on; the whole protocol has 30.
        frames: length of every scene.
        archives: pack the files of each subject into ``Poses_D3_Positions_S1.tgz`` and so on, and leave only those.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rigs = {f"S{i + 1}": _rig(i) for i in range(11)}
    (folder / "metadata.xml").write_text(metadata_xml(rigs))
    made = Miniature(folder, {s: rigs[s] for s in subjects}, {}, {})
    for i, subject in enumerate(subjects):
        for j, scene in enumerate(scenes):
            name = f"{subject}/{scene}"
            made.poses_mm[name] = _walk(frames, angle=2.4 * i + 0.7 * j)
            made.boxes_px[name] = _write_scene(folder, subject, scene, rigs[subject], made.poses_mm[name])
        write_cdf(folder / subject / "MyPoseFeatures/D3_Positions/_ALL 1.cdf", made.poses_mm[name].reshape(-1, 96))
        if archives:
            _pack(folder, subject)
    return made


def write_cdf(path: Path, rows: np.ndarray, compress: int = 6) -> None:
    """A pose file: the variable ``Pose`` of [1, frame, number] single-precision numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    file = cdflib.cdfwrite.CDF(path, cdf_spec={"Majority": "row_major"})
    spec = {"Variable": "Pose", "Data_Type": 21, "Num_Elements": 1, "Rec_Vary": True, "Dim_Sizes": list(rows.shape)}
    file.write_var(spec | {"Compress": compress}, var_data=rows[None].astype(np.float32))
    file.close()


def write_mat(path: Path, masks: list[np.ndarray], dense: bool = False) -> None:
    """A MAT file of version 7.3: the cell array (or array) ``Masks`` of [row, column], in MATLAB's memory order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        if dense:
            file.create_dataset("Masks", data=np.stack([m.T for m in masks]).astype(np.uint8), compression=3)
        else:
            references = file.create_dataset("Masks", (len(masks), 1), h5py.ref_dtype)
            references.attrs["MATLAB_class"] = np.bytes_("cell")
            for i, mask in enumerate(masks):
                one = file.create_dataset(f"#refs#/{i}", data=mask.T.astype(np.uint8), compression=3)
                one.attrs["MATLAB_class"] = np.bytes_("logical")
                references[i, 0] = one.ref
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(116) + bytes(8) + b"\x00\x02IM")


def metadata_xml(rigs: dict[str, Cameras]) -> str:
    """The cameras of S1 to S11 as ``metadata.xml`` has them, in their element ``w0`` between others."""
    numbers: list[float] = []
    for view in range(len(CAMERAS)):
        for i in range(11):
            rig = rigs[f"S{i + 1}"]
            numbers += Rotation.from_matrix(rig.R[view].numpy()).as_euler("XYZ").tolist()
            numbers += rig.centers_mm[view].tolist()
    for K, (k1, k2, p1, p2, k3, *_) in zip(rigs["S1"].K.tolist(), rigs["S1"].distortion.tolist(), strict=True):
        numbers += [K[0][0], K[1][1], K[0][2], K[1][2], k1, k2, k3, 2 * p1, 2 * p2]
    w0 = " ".join(map(repr, numbers))
    return f"<metadata>\n<mapping><tr><td/></tr></mapping>\n<w0>[{w0}]</w0>\n<dbcameras/>\n</metadata>\n"


def _rig(number: int) -> Cameras:
    """Four cameras of a subject: lenses are the same for all, places are not."""
    R, t = look_at(np.deg2rad([65, -60, 120, -115]) + 0.02 * number, 4500 + 20 * number, 1550, target_mm=850)
    focal = np.array([1145.0, 1149.5, 1149.0, 1145.5])
    K = [[[f, 0, 512 + v], [0, f - 1.5, 505 - v], [0, 0, 1]] for v, f in enumerate(focal)]
    radial = [(-0.2 - 0.005 * v, 0.24, 0.002 * v) for v in range(4)]
    tangential = [(-0.003 + 0.001 * v, 0.001 * v - 0.0015) for v in range(4)]
    lens = [opencv_coefficients(*both) for both in zip(radial, tangential, strict=True)]
    return Cameras.build(CAMERAS, K, R, t, [SIZE_PX[c] for c in CAMERAS], lens, up="z")


def _walk(frames: int, angle: float) -> np.ndarray:
    """[frame, 32, 3] mm: somebody on a circle of half a metre, in single precision."""
    time = np.arange(frames) / FPS
    phase = 2 * np.pi * 0.9 * time + angle
    limbs = {n: body_part(n, phase) for n in H36M17.joints if n.startswith(("left_", "right_")) or n == "nose"}
    limbs["pelvis"] = (limbs["left_hip"] + limbs["right_hip"]) / 2
    limbs["neck"] = (limbs["left_shoulder"] + limbs["right_shoulder"]) / 2
    limbs["spine"] = (limbs["pelvis"] + limbs["neck"]) / 2
    limbs["head_top"] = limbs["nose"] + [0, -60, 130]
    body = np.zeros((frames, 32, 3))
    for place, name in zip(JOINTS_OF_32, H36M17.joints, strict=True):
        body[:, place] = limbs[name]
    for place, other in _COPIES.items():
        body[:, place] = body[:, other]
    for place, other in _ENDS.items():
        body[:, place] = body[:, other] + [5.0 * place, 60, -40]
    turn = 0.8 * time + angle
    cos, sin = np.cos(turn), np.sin(turn)
    rotation = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    body[..., :2] = np.einsum("tij,tnj->tni", rotation, body[..., :2]) + 500 * np.stack([cos, sin], -1)[:, None]
    return body.astype(np.float32).astype(np.float64)


def _write_scene(folder: Path, subject: str, scene: str, rig: Cameras, poses_mm: np.ndarray) -> np.ndarray:
    """Write all files of a scene; returns the boxes [frame, view, 4]."""
    name, features = original_name(subject, scene), folder / subject / "MyPoseFeatures"
    write_cdf(features / "D3_Positions" / f"{name}.cdf", poses_mm.reshape(-1, 96))
    points = rig.project(torch.from_numpy(poses_mm).reshape(-1, 3))[0].numpy().reshape(4, len(poses_mm), 32, 2)
    boxes = np.full((len(poses_mm), 4, 4), np.nan)
    for view, camera in enumerate(CAMERAS):
        write_cdf(features / "D2_Positions" / f"{name}.{camera}.cdf", points[view].reshape(-1, 64))
        if (subject, scene, camera) in MISSING_VIEWS:
            continue
        width, height = SIZE_PX[camera]
        low, high = np.floor(points[view].min(1)) - 30, np.ceil(points[view].max(1)) + 30
        boxes[:, view] = np.concatenate([low, high], -1).clip(0, [width, height] * 2)
        masks = []
        for left, upper, right, lower in boxes[:, view].astype(int):
            masks.append(np.zeros((height, width), np.uint8))
            masks[-1][upper:lower, left:right] = 1
        write_mat(folder / subject / "MySegmentsMat/ground_truth_bb" / f"{name}.{camera}.mat", masks)
        _write_video(folder / subject / "Videos" / f"{name}.{camera}.mp4", points[view], (width, height))
    return boxes


def _write_video(path: Path, points_px: np.ndarray, size_px: tuple[int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", FPS)
        stream.width, stream.height = size_px
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"preset": "ultrafast", "crf": "18", "g": "10"}
        for joints in points_px:
            image = np.full((size_px[1], size_px[0], 3), 60, np.uint8)
            for joint in reversed(range(32)):  # the joints that the skeleton has lie over their copies
                cv2.circle(image, np.round(joints[joint]).astype(int).tolist(), 9, COLOURS[joint].tolist(), -1)
            yuv = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(yuv, format="yuv420p")))
        container.mux(stream.encode())


def _pack(folder: Path, subject: str) -> None:
    places = {
        "Poses_D3_Positions": "MyPoseFeatures/D3_Positions",
        "Poses_D2_Positions": "MyPoseFeatures/D2_Positions",
        "Videos": "Videos",
        "Segments_mat_gt_bb": "MySegmentsMat/ground_truth_bb",
    }
    for name, place in places.items():
        with tarfile.open(folder / f"{name}_{subject}.tgz", "w:gz") as tar:
            tar.add(folder / subject / place, f"{subject}/{place}")
    shutil.rmtree(folder / subject)
