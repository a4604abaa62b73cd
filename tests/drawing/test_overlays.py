"""Skeletons drawn into videos: limbs lie where OpenCV projects them, on the right side and at the right time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tripose.cameras import Cameras
from tripose.drawing import overlay
from tripose.errors import TriposeError
from tripose.pose import Pose2D, Pose3D
from tripose.skeleton import COCO17
from tripose.video import read_frames
from tripose.video_writer import write_video
from walkers import BAD, rig, walk


def gray_video(path: Path, frames: int, fps: float, size_px: tuple[int, int] = (640, 480)) -> Path:
    with write_video(path, fps, size_px) as write:
        for _ in range(frames):
            write(np.full((size_px[1], size_px[0], 3), 128, dtype=np.uint8))
    return path


def read(path: Path) -> list[np.ndarray]:
    return [frame.image.astype(int) for frame in read_frames(path)]


def still() -> Pose3D:
    """Someone who stands without the left wrist, and 250 mm further along x in the second half; 25 fps."""
    poses = walk(20)
    position = np.repeat(poses.position_mm[:1], 20, 0)
    position[10:, ..., 0] += 250
    position[:, :, COCO17.index("left_wrist")] = np.nan
    return replace(poses, position_mm=position, fps=25.0)


def opencv_pixels(cameras: Cameras, name: str, points_mm: np.ndarray) -> np.ndarray:
    one = cameras.select([name])
    rotation = cv2.Rodrigues(one.R[0].numpy())[0]
    pixels = cv2.projectPoints(points_mm, rotation, one.t[0].numpy(), one.K[0].numpy(), one.distortion[0, :5].numpy())[
        0
    ]
    return pixels[:, 0]


def side_at(image: np.ndarray, pixel: np.ndarray) -> str:
    x, y = np.rint(pixel).astype(int)
    red, _, blue = image[y - 1 : y + 2, x - 1 : x + 2].mean((0, 1))
    return "left" if blue > red + 60 else "right" if red > blue + 60 else "nothing"


def test_limbs_are_drawn_where_opencv_projects_them(tmp_path):
    cameras, poses = rig(), still()
    videos = {name: gray_video(tmp_path / f"{i}.mp4", 20, 25.0) for i, name in enumerate(("left", BAD))}
    written = overlay(poses, cameras, videos, tmp_path / "out")
    assert [p.name for p in written] == ["overlay-left.mp4", "overlay-b_right_b.mp4"]
    for name, path in zip(videos, written, strict=True):
        images = read(path)
        assert len(images) == 20
        assert images[0].shape == (480, 640, 3)
        for time in (2, 17):
            pixels = opencv_pixels(cameras, name, poses.position_mm[time, 0])
            for bone in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow")):
                for side in ("left", "right"):
                    ends = [pixels[COCO17.index(f"{side}_{joint}")] for joint in bone]
                    assert side_at(images[time], np.mean(ends, 0)) == side
            assert side_at(images[time], pixels[COCO17.index("right_wrist")]) == "right"
        corner = images[5][:40, :40]
        assert (corner > 200).all(-1).any()  # the frame number


def test_detections_are_crosses_and_large_videos_shrink(tmp_path):
    cameras, poses = rig(), still()
    points = np.full((20, 1, 1, 17, 2), np.nan)
    points[..., 0, :] = (320.5, 100.5)
    found = Pose2D(points, np.nan_to_num(points[..., 0] * 0 + 1), COCO17, ("front",), 25.0)
    videos = {"front": gray_video(tmp_path / "a.mp4", 20, 25.0)}
    [path] = overlay(
        replace(poses, position_mm=poses.position_mm * np.nan), cameras, videos, tmp_path, pose2d=found, max_side_px=320
    )
    image = read(path)[3]
    assert image.shape == (240, 320, 3)
    yellow = (image[..., :2].min(-1) - image[..., 2] > 60).nonzero()
    assert np.mean(yellow[1]) == pytest.approx(160, abs=0.75)
    assert np.mean(yellow[0]) == pytest.approx(50, abs=0.75)


@pytest.mark.parametrize(("video_fps", "written", "stride"), [(50.0, 20, 1), (12.5, 10, 2), (25.1, 20, 1)])
def test_poses_and_video_of_different_rates_meet_in_time(tmp_path, video_fps, written, stride):
    cameras, poses = rig(), still()
    videos = {"left": gray_video(tmp_path / "a.mp4", round(0.8 * video_fps), video_fps)}
    [path] = overlay(poses, cameras, videos, tmp_path)
    images = read(path)
    assert len(images) == written
    knee = COCO17.index("right_knee")
    for i, image in enumerate(images):
        before, after = (opencv_pixels(cameras, "left", poses.position_mm[t, 0])[knee] for t in (0, 19))
        moved = i * stride >= 10
        assert side_at(image, after if moved else before) == "right"
        assert side_at(image, before if moved else after) == "nothing"
    with av.open(str(path)) as container:
        assert float(container.duration / av.time_base) == pytest.approx(0.8, abs=0.01)


def test_no_camera_name_leaves_the_folder(tmp_path):
    names = ("../x", "..", "x", "a/b")
    cameras = rig().rename(names)
    videos = dict.fromkeys(names, gray_video(tmp_path / "a.mp4", 2, 25.0))
    out = tmp_path / "out"
    written = overlay(still(), cameras, videos, out)
    assert len(set(written)) == 4
    assert sorted(out.iterdir()) == sorted(written)
    assert all(p.resolve().parent == out.resolve() for p in written)


def test_a_video_that_is_not_the_cameras_is_refused(tmp_path):
    videos = {"front": gray_video(tmp_path / "a.mp4", 2, 25.0, (480, 640))}
    with pytest.raises(TriposeError, match=r"a.mp4: the frames are 480x640 px, but camera 'front' .* 640x480"):
        overlay(still(), rig(), videos, tmp_path)
    with pytest.raises(TriposeError, match="no camera named 'top'"):
        overlay(still(), rig(), {"top": tmp_path / "a.mp4"}, tmp_path)
