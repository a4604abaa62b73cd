from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tripose.discovery import find_calibration, find_keypoints, find_videos, keypoint_views, match_views
from tripose.errors import TriposeError

CALIBRATION = Path("Calib.toml")


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def test_equal_names_match_whatever_their_order():
    names = ["cam10", "cam2", "back", "Top"]
    assert match_views(names, sorted(names), CALIBRATION) == {n: n for n in names}


@pytest.mark.parametrize(
    ("camera", "view"),
    [
        ("cam_01", "cam01"),
        ("int_cam01_img", "cam01"),
        ("Cam1", "cam_001"),
        ("00_03", "hd_00_03"),
        ("caméra 1", "caméra_1"),
    ],
)
def test_names_match_by_their_words_and_numbers(camera, view):
    assert match_views([camera, "other"], [view, "other"], CALIBRATION)[camera] == view


def test_numbers_never_match_by_their_first_digit():
    assert match_views(["cam1", "cam10"], ["cam10", "cam1"], CALIBRATION) == {"cam1": "cam1", "cam10": "cam10"}
    with pytest.raises(TriposeError, match="no camera for the view 'cam100'"):
        match_views(["cam1", "cam10"], ["cam100", "cam1"], CALIBRATION)


def test_a_view_that_fits_two_cameras_is_never_guessed():
    with pytest.raises(TriposeError, match=r"'1' fits the cameras left_1, right_1.*recording\.yaml"):
        match_views(["left_1", "right_1"], ["1", "right_1"], CALIBRATION)
    with pytest.raises(TriposeError, match="both fit the camera 'cam1'"):
        match_views(["cam1", "cam2"], ["cam1_a", "cam1_b"], CALIBRATION)


def test_names_without_anything_in_common_name_both_sides():
    with pytest.raises(TriposeError, match=r"'left', 'right'; the calibration has cam1, cam2"):
        match_views(["cam1", "cam2"], ["left", "right"], CALIBRATION)


@given(st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=6), min_size=2, unique=True))
def test_a_rig_always_matches_itself(names):
    assert match_views(names, names[::-1], CALIBRATION) == {n: n for n in names}


def test_one_calibration_is_found_and_two_are_never_chosen_between(tmp_path):
    with pytest.raises(TriposeError, match="no calibration found"):
        find_calibration(tmp_path)
    touch(tmp_path, "calibration/Calib.toml", "Config.toml", "notes.json")
    assert find_calibration(tmp_path) == tmp_path / "calibration/Calib.toml"
    touch(tmp_path, "Calib.qca.txt")
    with pytest.raises(TriposeError, match=r"2 calibrations \(Calib.qca.txt, calibration/Calib.toml\)"):
        find_calibration(tmp_path)


def test_a_pair_of_easymocap_files_is_one_calibration(tmp_path):
    assert find_calibration(touch(tmp_path, "intri.yml", "extri.yml")) == tmp_path


def test_videos_before_images_before_the_folder_itself(tmp_path):
    touch(tmp_path, "a.mp4", "b.MP4", "calib.toml")
    assert find_videos(tmp_path) == {"a": tmp_path / "a.mp4", "b": tmp_path / "b.MP4"}
    touch(tmp_path, "images/c/000.jpg", "images/d/000.jpg")
    assert set(find_videos(tmp_path)) == {"c", "d"}
    touch(tmp_path, "videos/e.avi")
    assert set(find_videos(tmp_path)) == {"e"}


def test_keypoint_folders(tmp_path):
    assert find_keypoints(tmp_path, required=False) is None
    with pytest.raises(TriposeError, match="no videos, image folders or 2D keypoints"):
        find_keypoints(tmp_path, required=True)
    touch(tmp_path, "pose/cam1_json/0.json", "pose/cam2_json/0.json", "pose-3d/x.trc")
    assert find_keypoints(tmp_path, required=True) == tmp_path / "pose"
    assert set(keypoint_views(tmp_path / "pose")) == {"cam1", "cam2"}
    touch(tmp_path, "pose-associated/cam1_json/0.json")
    with pytest.raises(TriposeError, match=r"several keypoint folders \(pose, pose-associated\)"):
        find_keypoints(tmp_path, required=True)
    with pytest.raises(TriposeError, match="there is no such keypoint folder"):
        keypoint_views(tmp_path / "nowhere")
