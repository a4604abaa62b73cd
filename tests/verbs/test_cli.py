"""The command line in a process of its own: what a user types, reads, and gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from scene import observe, ring, walk_mm, write_recording
from tripose.cli import recordings
from tripose.formats.calibration import write_calibration_toml
from tripose.pose import Pose3D
from tripose.verbs import predict


def tripose(*arguments, cwd=None):
    command = [sys.executable, "-m", "tripose.cli", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False, timeout=300)


def refused(done, *parts):
    """One sentence on standard error, no traceback, exit code not zero."""
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stderr + done.stdout
    said = [line for line in done.stderr.splitlines() if "error:" in line]
    assert len(said) == 1, done.stderr
    for part in parts:
        assert str(part) in said[0]


@pytest.fixture
def recording(tmp_path):
    cameras = ring(4)
    return write_recording(tmp_path / "walk", cameras, observe(cameras, [walk_mm(20)]))


def test_help_is_quick_and_lists_the_verbs():
    start = time.monotonic()
    done = tripose("--help")
    assert time.monotonic() - start < 5
    assert done.returncode == 0
    for verb in ("demo", "check", "predict", "export", "view"):
        assert verb in done.stdout


def test_from_keypoints_to_files_and_report(recording, tmp_path):
    out = tmp_path / "out"
    done = tripose("predict", recording, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "100.0 % of limb joints" in done.stdout
    poses = Pose3D.load(out / "walk.nc")
    assert np.linalg.norm(poses.position_mm[:, 0] - walk_mm(20), axis=-1).mean() < 10
    for suffix in ("trc", "c3d", "csv", "parquet", "json"):
        done = tripose("export", out / "walk.nc", "--to", tmp_path / f"walk.{suffix}")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / f"walk.{suffix}").stat().st_size > 1000
    done = tripose("view", out / "walk.nc", "--recording", recording)
    assert done.returncode == 0, done.stderr
    assert "cam1" in (out / "walk.html").read_text()


def test_predict_is_idempotent_and_notices_changes(recording, tmp_path):
    out = tmp_path / "out"
    assert tripose("predict", recording, "--out", out).returncode == 0
    first = (out / "walk.nc").stat()
    assert tripose("predict", recording, "--out", out).returncode == 0
    assert (out / "walk.nc").stat().st_mtime_ns == first.st_mtime_ns
    assert tripose("predict", recording, "--out", out, "--method", "dlt").returncode == 0
    assert Pose3D.load(out / "walk.nc").notes["method"] == "dlt"
    assert not list(out.glob(".*"))


def test_a_skeleton_of_25_joints(tmp_path):
    cameras = ring(4)
    coco = observe(cameras, [walk_mm(10)])
    observed = np.full((*coco.shape[:3], 25, 3), np.nan)
    observed[:, :, :, :17] = coco
    folder = write_recording(tmp_path / "walk", cameras, observed)
    refused(tripose("predict", folder, "--out", tmp_path / "out"), "25")
    done = tripose("predict", folder, "--skeleton", "body25b", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    poses = Pose3D.load(tmp_path / "out" / "walk.nc")
    assert poses.skeleton.name == "body25b"
    assert np.linalg.norm(poses.position_mm[:, 0, :17] - walk_mm(10), axis=-1).mean() < 10
    # The same joints under another name are another result, not the finished one.
    done = tripose("predict", folder, "--skeleton", "body25", "--out", tmp_path / "out")
    assert done.returncode != 0 or Pose3D.load(tmp_path / "out" / "walk.nc").skeleton.name == "body25"


def test_recordings_of_one_name_do_not_overwrite_each_other(tmp_path):
    cameras = ring(3)
    for name in ("a", "b"):
        write_recording(tmp_path / name / "walk", cameras, observe(cameras, [walk_mm(3)]))
    refused(tripose("predict", "a/walk", "b/walk", "--out", "out", cwd=tmp_path), "walk", "same name")
    assert not (tmp_path / "out").exists()


def test_shards_share_the_work_and_one_failure_does_not_stop_the_others(tmp_path):
    cameras = ring(3)
    for name in ("a", "b", "c"):
        write_recording(tmp_path / name, cameras, observe(cameras, [walk_mm(3)]))
    (tmp_path / "b" / "Calib.toml").unlink()
    done = tripose("predict", "a", "b", "c", "--out", "out", cwd=tmp_path)
    refused(done, "b: no calibration found")
    assert {p.name for p in (tmp_path / "out").glob("*.nc")} == {"a.nc", "c.nc"}
    assert tripose("predict", "a", "b", "c", "--out", "half", "--shard", "0/2", cwd=tmp_path).returncode == 0
    assert {p.name for p in (tmp_path / "half").glob("*.nc")} == {"a.nc", "c.nc"}
    refused(tripose("predict", "a", "--shard", "2/2", cwd=tmp_path), "--shard is '2/2'")


def test_names_with_spaces_and_other_alphabets(tmp_path):
    cameras = ring(3)
    folder = write_recording(tmp_path / "动作 捕捉 é", cameras, observe(cameras, [walk_mm(3)]))
    done = tripose("predict", folder, "--out", tmp_path / "ein Ordner")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ein Ordner" / "动作 捕捉 é.nc").exists()


# --- Bad input: one clear sentence, an exit code, nothing lost -------------------------------------------------------


def test_no_recording(tmp_path):
    refused(tripose("predict", tmp_path / "nowhere"), "nowhere", "no such recording")


def test_missing_camera(recording):
    text = (recording / "Calib.toml").read_text().replace("cam2", "cam9")
    (recording / "Calib.toml").write_text(text)
    refused(tripose("predict", recording), "Calib.toml", "'cam2'", "cam9")


def test_unknown_calibration_type(recording, tmp_path):
    other = tmp_path / "calibration.xyz"
    other.write_text("hello")
    refused(tripose("predict", recording, "--calibration", other), "calibration.xyz")


@pytest.mark.parametrize("views", [0, 1])
def test_no_or_one_usable_view(recording, views):
    for i in range(views, 4):
        for file in (recording / "pose" / f"cam{i + 1}_json").iterdir():
            file.unlink()
        (recording / "pose" / f"cam{i + 1}_json").rmdir()
    refused(tripose("predict", recording), "walk")


def test_wrong_unit(recording):
    write_calibration_toml(ring(4), recording / "Calib.toml", unit="mm")
    text = (recording / "Calib.toml").read_text()
    (recording / "Calib.toml").write_text(text.partition("[metadata]")[0])
    refused(tripose("predict", recording), "Calib.toml", "--unit mm")
    assert tripose("predict", recording, "--unit", "mm", "--out", recording / "out").returncode == 0


def test_nan_in_the_calibration(recording):
    lines = (recording / "Calib.toml").read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("translation"))
    lines[at] = "translation = [ nan, 0.0, 4.0]"
    (recording / "Calib.toml").write_text("\n".join(lines))
    refused(tripose("predict", recording), "Calib.toml", "'cam1'", "not finite")


def test_keypoint_count_that_does_not_fit_the_skeleton(recording):
    refused(tripose("predict", recording, "--skeleton", "halpe26"), "17", "26")
    refused(tripose("predict", recording, "--skeleton", "octopus"), "octopus", "coco17")


def test_output_folder_that_cannot_be_written(recording, tmp_path):
    (tmp_path / "file").write_text("in the way")
    refused(tripose("predict", recording, "--out", tmp_path / "file" / "out"), "file", "cannot be written")


def test_wrong_poses_file(tmp_path):
    (tmp_path / "poses.nc").write_text("not netCDF")
    refused(tripose("export", tmp_path / "poses.nc", "--to", tmp_path / "x.trc"), "poses.nc")
    refused(tripose("export", tmp_path / "none.nc", "--to", tmp_path / "x.trc"), "none.nc")


def test_two_calibrations_are_not_guessed_between(recording):
    write_calibration_toml(ring(4), recording / "Calib_old.toml")
    refused(tripose("predict", recording), "2 calibrations", "--calibration")
    done = tripose("predict", recording, "--calibration", recording / "Calib.toml", "--out", recording / "out")
    assert done.returncode == 0, done.stderr


def test_mistyped_recording_yaml(recording):
    (recording / "recording.yaml").write_text("calibratoin: Calib.toml\n")
    refused(tripose("predict", recording), "recording.yaml", "calibratoin")


# --- check ----------------------------------------------------------------------------------------------------------


def findings(done):
    return json.loads(done.stdout)["findings"]


def test_check_of_a_sound_recording(recording):
    done = tripose("check", recording)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the unit is right" in done.stdout


@pytest.mark.parametrize("other", ["cam2", "cam3"])
def test_check_names_swapped_cameras(recording, other):
    pose = recording / "pose"
    (pose / "cam1_json").rename(pose / "x")
    (pose / f"{other}_json").rename(pose / "cam1_json")
    (pose / "x").rename(pose / f"{other}_json")
    done = tripose("check", recording, "--json")
    assert done.returncode == 1
    bad = [f["text"] for f in findings(done) if f["level"] == "bad"]
    assert any(f"'cam1' and '{other}'" in text and "exchanged" in text for text in bad), bad


@pytest.mark.parametrize("degrees", [2, 3, 8])
def test_check_names_the_camera_that_was_moved(tmp_path, degrees):
    from scipy.spatial.transform import Rotation

    cameras = ring(4)
    folder = write_recording(tmp_path / "walk", cameras, observe(cameras, [walk_mm(20)]))
    turn = cameras.R.new_tensor(Rotation.from_euler("y", degrees, degrees=True).as_matrix())
    R, t = cameras.R.clone(), cameras.t.clone()
    R[2], t[2] = turn @ R[2], turn @ t[2]
    write_calibration_toml(replace(cameras, R=R, t=t), folder / "Calib.toml")
    done = tripose("check", folder, "--json")
    assert done.returncode == 1
    bad = [f["text"] for f in findings(done) if f["level"] == "bad"]
    assert bad
    assert all("'cam3'" in text for text in bad), bad


def test_check_of_a_wrong_unit_and_of_a_broken_calibration(recording):
    write_calibration_toml(ring(4), recording / "Calib.toml", unit="mm")
    text = (recording / "Calib.toml").read_text()
    (recording / "Calib.toml").write_text(text.partition("[metadata]")[0])
    done = tripose("check", recording)
    assert done.returncode == 1
    assert "--unit mm" in done.stdout
    (recording / "Calib.toml").write_text("[cam1\n")
    done = tripose("check", recording)
    assert done.returncode == 1
    assert "Calib.toml" in done.stdout
    assert "Traceback" not in done.stderr


def test_check_of_two_cameras_at_one_place(tmp_path):
    cameras = ring(2)
    same = replace(cameras, R=cameras.R[[0, 0]], t=cameras.t[[0, 0]])
    folder = write_recording(tmp_path / "walk", same, observe(same, [walk_mm(5)]))
    done = tripose("check", folder)
    assert done.returncode == 1
    assert "same place" in done.stdout


def test_check_counts_an_unused_camera_as_sound(tmp_path):
    cameras = ring(4)
    folder = write_recording(tmp_path / "walk", cameras, observe(cameras, [walk_mm(20)])[:, :3])
    done = tripose("check", folder)
    assert done.returncode == 0, done.stdout
    assert "without a view: cam4" in done.stdout


def test_nothing_leaves_the_output_folder(recording, tmp_path):
    before = {p for p in tmp_path.rglob("*") if "out" not in p.parts}
    assert tripose("predict", recording, "--out", tmp_path / "out").returncode == 0
    assert {p for p in tmp_path.rglob("*") if "out" not in p.relative_to(tmp_path).parts} == before
    assert Path(recording / "Calib.toml").exists()


def test_the_command_knows_the_methods_that_python_knows():
    """Written out twice, so that the command line starts without torch."""
    assert get_args(recordings.Method) == get_args(predict.Method)
