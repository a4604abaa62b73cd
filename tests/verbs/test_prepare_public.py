"""Public data sets from files in their original formats: prepare, train two steps, evaluate."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import torch

from data.h36m_files import write_human36m
from data.panoptic_files import write_panoptic
from people import small_model
from tripose.data.human36m.protocol import CAMERAS, JOINTS_OF_32, original_name
from tripose.data.joints import TRANSFER_JOINTS
from tripose.data.scenes import read_index
from tripose.data.shards import open_shards
from tripose.models.weights import save_model
from tripose.video import read_frames

pytestmark = pytest.mark.slow

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def tripose(*words, ok=True):
    done = subprocess.run(
        [sys.executable, "-m", "tripose.cli", *map(str, words)], capture_output=True, text=True, env=ENVIRONMENT
    )
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def state(folder):
    return {p.relative_to(folder): (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*") if p.is_file()}


def train_and_evaluate(data, test, config, out, *changes):
    small = ["model.image_size_px=[128, 128]", "model.backbone=resnet18", "init=null", "steps=2", "batch_size=2"]
    quick = ["data.workers=0", "validate_every=2", "images_every=0", "log_every=1", *changes]
    sets = [f"data.train.folder={data / 'train'}", f"data.val.folder={data / test}", *small, *quick]
    words = [w for s in sets for w in ("--set", s)]
    tripose("train", f"configs/{config}.yaml", "--out", out / "run", *words)
    tripose("evaluate", data / test, "--model", f"net={out / 'run' / 'last'}", "--out", out / "eval")
    return json.loads((out / "eval" / "metrics.json").read_text())


@pytest.fixture(scope="module")
def human36m(tmp_path_factory):
    """Two subjects as downloaded, and what was prepared of them."""
    folder = tmp_path_factory.mktemp("human36m")
    made = write_human36m(folder / "src", frames=6, archives=True)
    said = tripose("prepare", "human36m", folder / "src", folder / "dst", "--every", 3, "--side-px", 128)
    return folder, made, said


def test_human36m_is_prepared_with_its_truth(human36m):
    folder, made, said = human36m
    assert "there is nothing of S5, S6, S7, S8, S11" in " ".join(said.split())
    assert "crops of 128 px take about 0.0 GB" in " ".join(said.split())
    scenes = {s.name: s for s in read_index(folder / "dst" / "index.npz")}
    assert scenes.keys() == made.poses_mm.keys()
    samples = open_shards(folder / "dst" / "test", "h36m17")
    assert len(samples) == 4 * 2
    assert {samples[i].group for i in range(8)} == {name for name in scenes if name.startswith("S9")}
    sample = samples[0]
    assert sample.images.shape == (4, 128, 128, 3)
    scene = scenes[sample.group]
    np.testing.assert_allclose(sample.keypoints_mm, scene.keypoints_mm[0], atol=1e-3)
    assert scene.frame.tolist() == [0, 3]
    as_mpii = open_shards(folder / "dst" / "test", "mpii16")[0]
    np.testing.assert_array_equal(as_mpii.keypoints_mm, sample.keypoints_mm[:16])
    # The crop shows the person: every joint is in it, and it is not empty.
    points = sample.cameras.project(torch.from_numpy(sample.keypoints_mm))[0].numpy()
    assert ((points > -2) & (points < 130)).all()
    assert sample.images.std() > 5


def test_preparing_again_does_nothing_and_an_interrupted_run_ends_the_same(human36m, tmp_path):
    folder, _, _ = human36m
    before = state(folder / "dst")
    tripose("prepare", "human36m", folder / "src", folder / "dst", "--every", 3, "--side-px", 128)
    assert state(folder / "dst") == before
    said = " ".join(tripose("prepare", "human36m", folder / "src", folder / "dst", "--side-px", 128, ok=False).split())
    assert "was begun with other settings" in said  # every 3rd frame, not every 5th
    assert state(folder / "dst") == before
    # Sources are told as they lie: another folder for what is unpacked would be another index.
    words = ["prepare", "human36m", folder / "dst" / "original", tmp_path / "dst", "--every", 3, "--side-px", 128]
    (folder / "dst" / "original" / "metadata.xml").write_bytes((folder / "src" / "metadata.xml").read_bytes())
    running = subprocess.Popen(
        [sys.executable, "-m", "tripose.cli", *map(str, words), "--workers", "1"],
        env=ENVIRONMENT,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("dst/.scenes/*.npz")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    kept = len(list(tmp_path.glob("dst/.scenes/*.npz")))
    assert kept
    tripose(*words)
    tripose("prepare", *words[1:3], tmp_path / "other", *words[4:])
    assert (tmp_path / "dst/index.npz").read_bytes() == (tmp_path / "other/index.npz").read_bytes()


def test_human36m_is_trained_on_and_judged_by_the_papers_table(human36m, tmp_path):
    folder, _, _ = human36m
    metrics = train_and_evaluate(folder / "dst", "test", "human36m_algebraic", tmp_path)
    rows = [r for r in metrics["human36m"] if r["subject"] == "all"]
    assert {r["action"] for r in rows} == {"Directions", "Sitting", "all", "mean of actions"}
    report = (tmp_path / "eval" / "report.md").read_text()
    assert "## Human3.6M" in report
    assert "Relative to the pelvis" in report


def test_a_model_of_other_joints_is_compared_where_they_mean_the_same(human36m, tmp_path):
    save_model(small_model("algebraic", confidences="none"), tmp_path / "coco")
    data = human36m[0] / "dst" / "test"
    said = tripose("evaluate", data, "--model", tmp_path / "coco", "--every", 3, "--out", tmp_path / "eval")
    metrics = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert "has no coco17: 6 joints are compared with h36m17" in " ".join(said.split())
    assert metrics["about"]["skeleton"] == "coco17-transfer, 17 joints"
    assert metrics["about"]["rows"] == "3"  # of 8
    compared = {row["joint"] for row in metrics["by_joint"] if row["mean_mm"] is not None}
    assert compared == set(TRANSFER_JOINTS)
    assert metrics["human36m"]
    again = tripose("evaluate", tmp_path / "eval" / "predictions.npz", "--out", tmp_path / "again")
    assert "dlt" in again
    assert json.loads((tmp_path / "again" / "metrics.json").read_text())["human36m"] == metrics["human36m"]


def write_extracted(made, folder):
    """The same scenes as the published code has them: labels, and every image as JPEG; images as they were taken."""
    subjects, scenes = list(made.cameras), sorted({name.split("/")[1] for name in made.poses_mm})
    camera = np.dtype([("R", "f4", (3, 3)), ("t", "f4", (3, 1)), ("K", "f4", (3, 3)), ("dist", "f4", (5,))])
    row = [("subject_idx", "i1"), ("action_idx", "i1"), ("frame_idx", "i2"), ("keypoints", "f4", (17, 3))]
    cameras, table = np.zeros((len(subjects), 4), camera), []
    for i, subject in enumerate(subjects):
        rig = made.cameras[subject]
        cameras[i]["K"], cameras[i]["R"], cameras[i]["t"] = rig.K, rig.R, rig.t[..., None]
        k1, k2, p1, p2, k3 = rig.distortion[:, :5].T.numpy()
        cameras[i]["dist"] = np.stack([k1, k2, 2 * p1, 2 * p2, k3], -1)
    for name, poses in made.poses_mm.items():
        subject, scene = name.split("/")
        for frame in range(0, len(poses), 3):
            box = np.nan_to_num(made.boxes_px[name][frame])[:, [1, 0, 3, 2]]
            table.append((subjects.index(subject), scenes.index(scene), frame, poses[frame][list(JOINTS_OF_32)], box))
        for camera_name in CAMERAS:
            place = folder / subject / scene / "imageSequence" / camera_name
            place.mkdir(parents=True)
            video = made.folder / subject / "Videos" / f"{original_name(subject, scene)}.{camera_name}.mp4"
            for frame in read_frames(video):
                cv2.imwrite(str(place / f"img_{frame.index + 1:06d}.jpg"), frame.image[..., ::-1])
    content = {"subject_names": subjects, "camera_names": list(CAMERAS), "action_names": scenes, "cameras": cameras}
    content["table"] = np.array(table, dtype=[*row, ("bbox_by_camera_tlbr", "i2", (4, 4))])
    np.save(folder / "human36m-multiview-labels-GTbboxes.npy", content, allow_pickle=True)


def test_labels_and_images_of_the_published_code_give_the_same_samples(tmp_path):
    made = write_human36m(tmp_path / "src", ("S9",), ("Directions-1",), frames=4)
    write_extracted(made, tmp_path / "official")
    for src, out in (("src", "a"), ("official", "b")):
        tripose("prepare", "human36m", tmp_path / src, tmp_path / out, "--every", 3, "--side-px", 128)
    ours, theirs = (open_shards(tmp_path / out / "test", "h36m17") for out in ("a", "b"))
    assert len(ours) == len(theirs) == 2
    for a, b in zip(ours, theirs, strict=True):
        assert (a.group, a.cameras.names) == (b.group, b.cameras.names)
        np.testing.assert_allclose(a.keypoints_mm, b.keypoints_mm, atol=1e-3)
        torch.testing.assert_close(a.cameras.P, b.cameras.P, rtol=1e-6, atol=1e-3)
        assert np.abs(a.images.astype(int) - b.images).mean() < 2  # JPEG twice


def test_a_damaged_file_is_named_and_the_rest_goes_on(human36m, tmp_path):
    made = write_human36m(tmp_path / "src", ("S1",), ("Directions-1", "Directions-2"), frames=3)
    poses = made.folder / "S1/MyPoseFeatures/D3_Positions/Directions.cdf"
    whole = poses.read_bytes()
    poses.write_bytes(whole[: len(whole) // 2])
    words = ["prepare", "human36m", made.folder, tmp_path / "dst", "--every", 1, "--side-px", 128]
    said = " ".join(tripose(*words, ok=False).split())
    assert "1 of 2 scenes cannot be read, S1/Directions-2 among them" in said
    assert "Directions.cdf" in said.replace(" ", "")
    poses.write_bytes(whole)
    tripose(*words)
    assert len(open_shards(tmp_path / "dst" / "train", "h36m17")) == 6


def test_without_cameras_nothing_is_prepared(tmp_path):
    made = write_human36m(tmp_path / "src", ("S1",), ("Directions-1",), frames=2)
    (made.folder / "metadata.xml").unlink()
    said = tripose("prepare", "human36m", made.folder, tmp_path / "dst", ok=False)
    assert "metadata.xml" in said


def test_panoptic_is_prepared_trained_on_and_evaluated(tmp_path):
    cameras = ("00_01", "00_02", "00_10", "00_13", "00_00", "00_03", "00_05")
    frames = range(400, 404)  # the protocol leaves the first ones out
    made = write_panoptic(tmp_path / "src", ("171204_pose1", "171204_pose5"), cameras, frames, tar=True)
    said = " ".join(tripose("prepare", "panoptic", tmp_path / "src", tmp_path / "dst", "--side-px", 128).split())
    assert "results will be without" in said
    assert "171204_pose6" in said
    train, val = (open_shards(tmp_path / "dst" / split, "coco17") for split in ("train", "val"))
    assert (len(train), len(val)) == (4, 4)
    assert set(train[0].cameras.names) == {"00_00", "00_03", "00_05"}
    assert set(val[0].cameras.names) == {"00_01", "00_02", "00_10", "00_13"}
    assert val[0].cameras.up == "-y"
    truth = made["171204_pose5"].keypoints_mm[0]
    np.testing.assert_allclose(val[0].keypoints_mm[0], truth[1], atol=1e-3)  # the nose
    metrics = train_and_evaluate(tmp_path / "dst", "val", "panoptic_algebraic", tmp_path, "data.views=[2, 3]")
    assert {r["group"] for r in metrics["by_group"]} >= {"171204_pose5"}
    assert "human36m" not in metrics
