"""From videos to poses on real recordings: the sample (fetched) and, where it lies beside, ZJU LightStage."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tripose.diagnosis import bone_statistics
from tripose.errors import TriposeError
from tripose.formats.keypoints import read_keypoints_npz
from tripose.pose import Pose3D
from tripose.recording import Recording
from tripose.skeleton import HALPE26, LIMB_JOINTS
from tripose.verbs.sample import sample_recording
from tripose.verbs.summary import joints_found

ROOT = Path(__file__).resolve().parents[2]
ZJU = ROOT.parent / "shared" / "data" / "zju_lightstage_single"
pytestmark = pytest.mark.slow


def run(*arguments, **kwargs):
    command = [sys.executable, "-c", "from tripose.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=1500, **kwargs)


def spread_mm(poses, upper, lower):
    bones = bone_statistics(poses)
    return max(bones[f"{side}_{upper}", f"{side}_{lower}"].std for side in ("left", "right"))


@pytest.fixture(scope="module")
def sample():
    try:
        return sample_recording()
    except TriposeError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def demo(sample, tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    done = run("demo", "--out", out)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_demo_makes_every_file_and_prints_its_table(demo):
    out, said = demo
    names = {p.name for p in out.iterdir()}
    expected = {f"balancing{suffix}" for suffix in (".nc", ".trc", ".c3d", ".csv")} | {"report.html"}
    assert expected | {f"overlay-cam0{i}.mp4" for i in (1, 2, 3, 4)} <= names
    assert not [n for n in names if n.startswith(".")]
    for word in ("reprojection px, median", "90 %", "limb joints found", "thigh", "forearm", "cam04"):
        assert word in said


def test_sample_joints_and_bones(demo):
    """Of the model that ships, which finds every joint, seen or not; on two processors bones varied by a tenth."""
    poses = Pose3D.load(demo[0] / "balancing.nc")
    assert poses.notes["method"] == "evidence (volumetric-synthetic)"
    assert poses.skeleton == HALPE26
    assert joints_found(poses) == 1.0
    assert spread_mm(poses, "hip", "knee") <= 12
    assert spread_mm(poses, "knee", "ankle") <= 14
    assert spread_mm(poses, "elbow", "wrist") <= 25


def test_sample_joints_and_bones_by_ransac(demo, sample, tmp_path):
    shutil.copy(demo[0] / "balancing.keypoints.npz", tmp_path)
    done = run("predict", sample, "--method", "ransac", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    poses = Pose3D.load(tmp_path / "balancing.nc")
    assert joints_found(poses) >= 0.95
    assert spread_mm(poses, "hip", "knee") <= 14
    assert spread_mm(poses, "knee", "ankle") <= 14
    assert poses.up == "z"


def test_sample_person_is_the_one_on_the_platform_in_every_view_and_frame(demo):
    poses = Pose3D.load(demo[0] / "balancing.nc")
    torso = poses.position_mm[:, 0, poses.skeleton.indices(["left_hip", "right_hip"])].mean(1)
    # By ransac, the hips stay within 0.41 m of their median place and move 23 mm a frame at most; a change of person is
    # a jump.
    assert np.linalg.norm(torso[:, :2] - np.median(torso[:, :2], axis=0), axis=-1).max() < 600
    assert np.linalg.norm(np.diff(torso, axis=0), axis=-1).max() < 60
    pose2d = read_keypoints_npz(demo[0] / "balancing.keypoints.npz")
    limbs = poses.skeleton.indices(LIMB_JOINTS)
    seen_px = pose2d.points_px[:, :, 0, pose2d.skeleton.indices(LIMB_JOINTS)]
    assert np.isfinite(seen_px).all(-1).any(-1).all()
    rig = Recording.open(sample_recording()).cameras
    body = torch.as_tensor(poses.position_mm[:, 0, limbs].reshape(-1, 3))
    projected = rig.project(body)[0].numpy().reshape(4, -1, len(limbs), 2).swapaxes(0, 1)
    off_px = np.nanmedian(np.linalg.norm(projected - seen_px, axis=-1), axis=-1)
    assert off_px.max() < 60  # the bystander's joints are hundreds of pixels away


def test_killed_and_resumed_gives_the_same_keypoints(demo, sample, tmp_path):
    kill_at_50 = f"""
import os
from pathlib import Path
from tripose.recording import Recording
from tripose.verbs import predict, stages
stages.PIECE_FRAMES = 20
stop = lambda done, total: os._exit(9) if done == 50 else None
predict.predict(Recording.open({str(sample)!r}), method="ransac", out=Path({str(tmp_path)!r}), progress=stop)
"""
    assert subprocess.run([sys.executable, "-c", kill_at_50], check=False).returncode == 9
    assert not list(tmp_path.glob("*.nc"))
    pieces = sorted(tmp_path.glob(".balancing.*/*.npz"))
    assert len(pieces) == 2
    pieces[1].write_bytes(pieces[1].read_bytes()[:500])  # as a power failure leaves it
    done = run("predict", sample, "--method", "ransac", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    resumed = read_keypoints_npz(tmp_path / "balancing.keypoints.npz")
    whole = read_keypoints_npz(demo[0] / "balancing.keypoints.npz")
    np.testing.assert_allclose(resumed.points_px, whole.points_px, atol=1e-3)
    assert not list(tmp_path.glob(".*"))


def cut(source: Path, target: Path, frames: int) -> None:
    """The first frames of a video, encoded again."""
    with av.open(str(source)) as read, av.open(str(target), "w") as write:
        stream = read.streams.video[0]
        out = write.add_stream("libx264", stream.average_rate, {"preset": "ultrafast"})
        out.width, out.height, out.pix_fmt = stream.width, stream.height, "yuv420p"
        for i, frame in enumerate(read.decode(stream)):
            if i == frames:
                break
            write.mux(out.encode(frame.reformat(format="yuv420p")))
        write.mux(out.encode())


@pytest.fixture
def short(sample, tmp_path):
    """Twelve frames of the sample."""
    folder = tmp_path / "short"
    (folder / "videos").mkdir(parents=True)
    (folder / "Calib.qca.txt").write_bytes((sample / "calibration" / "Calib.qca.txt").read_bytes())
    for video in sorted((sample / "videos").iterdir()):
        cut(video, folder / "videos" / video.name, 12)
    return folder


def test_a_truncated_video_is_said_and_what_decoded_is_kept(short, tmp_path):
    video = short / "videos" / "cam03.mp4"
    cut(video, tmp_path / "shorter.mp4", 7)
    video.write_bytes((tmp_path / "shorter.mp4").read_bytes())
    checked = run("check", short)
    assert "cam03 7" in checked.stdout
    done = run("predict", short, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    poses = Pose3D.load(tmp_path / "out" / "short.nc")
    assert len(poses.position_mm) == 12
    assert np.isnan(poses.reprojection_px[7:, 2]).all()
    assert joints_found(poses) > 0.9


def test_a_file_that_is_no_video_and_a_missing_one(short, tmp_path):
    (short / "videos" / "cam03.mp4").write_bytes(b"this is not a video")
    done = run("predict", short, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "cam03.mp4" in done.stderr
    assert "Traceback" not in done.stderr
    (short / "videos" / "cam03.mp4").unlink()
    done = run("predict", short, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert Pose3D.load(tmp_path / "out" / "short.nc").views == ("cam01", "cam02", "cam04")


def test_a_rotated_video_is_refused_with_the_cause(short, tmp_path):
    recording = Recording.open(short)
    turned = replace(recording.infos["cam01"])
    assert turned.size_px == (1080, 1920)
    with av.open(str(short / "videos" / "cam01.mp4")) as read, av.open(str(tmp_path / "r.mp4"), "w") as write:
        out = write.add_stream("libx264", 60)
        out.width, out.height, out.pix_fmt = 1920, 1088, "yuv420p"
        for frame in read.decode(video=0):
            image = np.rot90(frame.to_ndarray(format="rgb24"))
            image = np.pad(image, ((0, 8), (0, 0), (0, 0)))
            write.mux(out.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        write.mux(out.encode())
    (short / "videos" / "cam01.mp4").write_bytes((tmp_path / "r.mp4").read_bytes())
    done = run("predict", short, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "turned by 90 degrees" in done.stderr
    assert "recording.yaml" in done.stderr


def test_image_folders_give_what_videos_give(short, tmp_path):
    from tripose.video import read_frames

    images = tmp_path / "images"
    (images / "images").mkdir(parents=True)
    (images / "Calib.qca.txt").write_bytes((short / "Calib.qca.txt").read_bytes())
    (images / "recording.yaml").write_text("fps: 60\n")
    import cv2

    for video in (short / "videos").iterdir():
        folder = images / "images" / video.stem
        folder.mkdir()
        for frame in read_frames(video):
            cv2.imwrite(str(folder / f"{frame.index:04d}.png"), frame.image[..., ::-1])
    for folder in (short, images):
        done = run("predict", folder, "--method", "ransac", "--out", tmp_path / "out")
        assert done.returncode == 0, done.stderr
    a, b = (Pose3D.load(tmp_path / "out" / f"{n}.nc") for n in ("short", "images"))
    np.testing.assert_allclose(a.position_mm, b.position_mm, atol=1e-6)
    assert a.fps == b.fps == 60


@pytest.mark.skipif(not ZJU.exists(), reason="zju_lightstage_single is not here")
def test_zju_lightstage_and_memory(tmp_path):
    out = tmp_path / "out"

    def peak_kb(folder):
        """Largest resident size of a whole `tripose predict`."""
        argv = ["tripose", "predict", str(folder), "--out", str(out)]
        predict = f"import sys; sys.argv = {argv!r}; from tripose.cli import main; main()"
        script = (
            f"import subprocess, sys, resource\n"
            f"subprocess.run([sys.executable, '-c', {predict!r}], check=True)\n"
            f"print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        return int(done.stdout.strip().splitlines()[-1])

    short = tmp_path / "short"
    (short / "videos").mkdir(parents=True)
    for name in ("intri.yml", "extri.yml"):
        (short / name).write_bytes((ZJU / name).read_bytes())
    for video in (ZJU / "videos").iterdir():
        cut(video, short / "videos" / video.name, 80)
    short_kb, long_kb = peak_kb(short), peak_kb(ZJU)
    assert long_kb < 1.2 * short_kb, (short_kb, long_kb)

    learned = Pose3D.load(out / f"{ZJU.name}.nc")
    assert joints_found(learned) == 1.0
    assert spread_mm(learned, "hip", "knee") <= 15
    assert spread_mm(learned, "knee", "ankle") <= 13
    assert spread_mm(learned, "elbow", "wrist") <= 20
    assert run("predict", ZJU, "--method", "ransac", "--out", out).returncode == 0
    poses = Pose3D.load(out / f"{ZJU.name}.nc")
    limbs = poses.skeleton.indices(LIMB_JOINTS)
    assert len(poses.position_mm) == 800
    # In frame 488 two of four views see the left wrist, one with a score at the detector's threshold: processors
    # whose convolutions round differently find 9600 joints or 9599.
    assert joints_found(poses) >= 9599 / 9600 - 1e-9
    assert np.nanmedian(poses.reprojection_px[..., limbs]) <= 6.0
    assert spread_mm(poses, "hip", "knee") <= 17
    assert spread_mm(poses, "knee", "ankle") <= 17
    assert spread_mm(poses, "elbow", "wrist") <= 25
