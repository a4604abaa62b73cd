from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest

from clips import number_of, picture, write_clip
from scene import observe, ring, walk_mm, write_recording
from tripose.errors import TriposeError
from tripose.formats.calibration import write_calibration_toml
from tripose.recording import Recording
from tripose.verbs.keypoints import read_views
from tripose.verbs.predict import predict


def rig_for(folder, views=2):
    cameras = ring(views)
    write_calibration_toml(cameras.resize(cameras.size_px.new_tensor([[128, 64]] * views)), folder / "Calib.toml")


def images(folder, name, frames):
    place = folder / "images" / name
    place.mkdir(parents=True)
    for i in frames:
        cv2.imwrite(str(place / f"{i:04d}.png"), picture(i)[..., ::-1])


def sets(recording, start=0):
    return [
        (s.index, *(None if image is None else number_of(image) for image in s.images)) for s in recording.frames(start)
    ]


def test_image_folders_that_share_their_numbers_are_aligned_by_them(tmp_path):
    rig_for(tmp_path)
    images(tmp_path, "cam1", range(10))
    images(tmp_path, "cam2", range(3, 10))
    found = sets(Recording.open(tmp_path))
    assert found == [(i, i, i if i >= 3 else None) for i in range(10)]
    assert sets(Recording.open(tmp_path), 5) == found[5:]


def test_image_folders_with_counts_of_their_own_start_together(tmp_path):
    rig_for(tmp_path)
    images(tmp_path, "cam1", range(5))
    images(tmp_path, "cam2", range(100, 105))
    assert sets(Recording.open(tmp_path)) == [(i, i, 100 + i) for i in range(5)]


@pytest.mark.parametrize("start", [0, 1, 7, 20])
def test_resampled_views_go_on_as_they_would_have(tmp_path, start):
    rig_for(tmp_path)
    (tmp_path / "videos").mkdir()
    write_clip(tmp_path / "videos" / "cam1.mp4", 40, 30)
    write_clip(tmp_path / "videos" / "cam2.mp4", 160, 120, skip=frozenset({79, 80, 81}))
    recording = Recording.open(tmp_path)
    whole = sets(recording)
    assert [b for _, _, b in whole[:19]] == [4 * i for i in range(19)]
    assert sets(recording, start) == whole[start:]


def test_nearly_equal_rates_do_not_drift(tmp_path):
    rig_for(tmp_path)
    (tmp_path / "videos").mkdir()
    write_clip(tmp_path / "videos" / "cam1.mp4", 250, 30)
    write_clip(tmp_path / "videos" / "cam2.mp4", 250, Fraction(149, 5))
    for index, a, b in sets(Recording.open(tmp_path)):
        if a is not None and b is not None:
            assert abs(a / 30 - b / 29.8) <= 0.5 / 29.8 + 1e-3, index


def test_rotate_deg_goes_by_camera_or_view_and_typos_are_refused(tmp_path):
    rig_for(tmp_path)
    (tmp_path / "videos").mkdir()
    for name in ("cam1_h264", "cam2_h264"):
        write_clip(tmp_path / "videos" / f"{name}.mp4", 3)
    (tmp_path / "recording.yaml").write_text("rotate_deg: {cam1: 180, cam2_h264: 180}")
    assert dict(Recording.open(tmp_path).rotate_deg) == {"cam1": 180, "cam2": 180}
    (tmp_path / "recording.yaml").write_text("rotate_deg: {nonsense: 90}")
    with pytest.raises(TriposeError, match="rotate_deg names 'nonsense'"):
        Recording.open(tmp_path)
    (tmp_path / "recording.yaml").write_text("1: 2")
    with pytest.raises(TriposeError, match=r"recording\.yaml"):
        Recording.open(tmp_path)


def test_two_files_of_one_view_are_refused_and_unused_keypoints_do_not_disturb(tmp_path):
    rig_for(tmp_path)
    (tmp_path / "videos").mkdir()
    (tmp_path / "pose").mkdir()
    for name in ("cam1", "cam2"):
        write_clip(tmp_path / "videos" / f"{name}.mp4", 3)
    assert len(Recording.open(tmp_path).videos) == 2
    write_clip(tmp_path / "videos" / "cam1.mkv", 3)
    with pytest.raises(TriposeError, match="the same view"):
        Recording.open(tmp_path)


def test_a_camera_that_sees_nobody_and_one_that_starts_late(tmp_path):
    cameras = ring(4)
    observed = observe(cameras, [walk_mm(12)])
    observed[:, 2] = np.nan
    folder = write_recording(tmp_path / "walk", cameras, observed)
    for i in range(3):
        (folder / "pose" / "cam2_json" / f"cam2_{i:012d}_keypoints.json").unlink()
    everybody = read_views(Recording.open(folder))
    assert np.isnan(everybody.points_px[:3, 1]).all()
    np.testing.assert_allclose(everybody.points_px[3:, 1], observed[3:, 1, :, :, :2])
    poses = predict(Recording.open(folder))
    assert np.linalg.norm(poses.position_mm[:, 0] - walk_mm(12), axis=-1).mean() < 12


def test_options_and_damaged_results_are_noticed(tmp_path):
    cameras = ring(4)
    folder = write_recording(tmp_path / "walk", cameras, observe(cameras, [walk_mm(5)]))
    (folder / "Calib.toml").write_text((folder / "Calib.toml").read_text().partition("[metadata]")[0])
    assert predict(Recording.open(folder), out=tmp_path).up == "z"
    assert predict(Recording.open(folder, up="y"), out=tmp_path).up == "y"
    (tmp_path / "walk.nc").write_bytes(b"cut off")
    assert predict(Recording.open(folder), out=tmp_path).up == "z"
