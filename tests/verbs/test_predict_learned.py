"""Learned prediction of a film whose truth is known, by models that start as MoveNet Thunder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from scene import observe, ring, walk_mm, write_recording
from tripose.errors import TriposeError
from tripose.learned import Person, boxes_around, estimate
from tripose.models.config import Algebraic, Evidence, Volumetric
from tripose.models.movenet_weights import start_from_thunder
from tripose.models.weights import build_model, load_model, save_model
from tripose.pose import Pose3D
from tripose.recording import Recording
from tripose.skeleton import HALPE26, LIMB_JOINTS
from tripose.verbs import stages
from tripose.verbs.check import check, is_sound
from tripose.verbs.predict import predict

FRAMES = 6
LIMBS = HALPE26.indices(LIMB_JOINTS)
SHARED = {"skeleton": "halpe26", "backbone": "movenet", "image_size_px": (256, 256)}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Folders ``algebraic`` and ``evidence``; the 3D network of the second is random."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    algebraic = build_model(Algebraic(**SHARED, confidences="none", multiplier=1.0, window_px=24.0))
    evidence = build_model(Evidence(**SHARED))
    for model, network in ((algebraic, algebraic.backbone), (evidence, evidence.algebraic.backbone)):
        start_from_thunder(network, HALPE26)
        save_model(model, folder / model.config.method)
    return folder


@pytest.fixture(scope="module")
def stroll(bodies, tmp_path_factory) -> Path:
    """A recording of three small videos, and its truth."""
    from tripose.data.synthetic.film import film
    from tripose.verbs import synth

    folder = tmp_path_factory.mktemp("recordings") / "stroll"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synth, "film", partial(film, size_px=(480, 360)))
        synth.synth_recording(0, FRAMES, folder, views=3)
    return folder


@pytest.fixture(scope="module")
def predicted(stroll, models, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out")
    command = [sys.executable, "-m", "tripose.cli", "predict", stroll, "--model", models / "algebraic", "--out", out]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def alone(stroll) -> Path:
    """The same recording, of one camera."""
    folder = stroll.parent / "alone"
    folder.mkdir()
    for name in ("calibration.toml", "cam02.mp4"):
        shutil.copy(stroll / name, folder)
    return folder


@pytest.fixture
def keypoints(tmp_path) -> Recording:
    """A recording without images."""
    cameras = ring(3)
    return Recording.open(write_recording(tmp_path / "walk", cameras, observe(cameras, [walk_mm(6)])))


class Killed(Exception):
    pass


def kill_at(frame):
    """A progress callback that stops the run."""

    def told(done, total):
        if done == frame:
            raise Killed

    return told


# --- Several cameras -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_model_finds_the_person(stroll, predicted):
    poses, truth = Pose3D.load(predicted / "stroll.nc"), Pose3D.load(stroll / "truth.nc")
    assert poses.skeleton == HALPE26
    assert poses.views == ("cam01", "cam02", "cam03")
    assert poses.position_mm.shape == truth.position_mm.shape
    off_mm = np.linalg.norm(poses.position_mm - truth.position_mm, axis=-1)[:, 0]
    assert np.median(off_mm[:, LIMBS]) < 80
    assert np.isfinite(poses.position_mm).all()
    assert np.median(poses.n_views) == 3
    assert ((poses.confidence >= 0) & (poses.confidence <= 1)).all()
    assert np.nanmedian(poses.reprojection_px[..., LIMBS]) < 6
    spread_mm = np.sqrt(np.diagonal(poses.covariance_mm2, axis1=-2, axis2=-1)[poses.n_views > 1])
    assert 1 < np.median(spread_mm) < 60


@pytest.mark.slow
def test_what_ships_finds_the_person_better(stroll, tmp_path):
    poses, truth = predict(Recording.open(stroll), out=tmp_path), Pose3D.load(stroll / "truth.nc")
    assert poses.notes["method"] == "evidence (volumetric-synthetic)"
    classical = predict(Recording.open(stroll), method="ransac", out=tmp_path)
    off_mm, classical_mm = (
        np.linalg.norm(p.position_mm[:, 0, LIMBS] - truth.position_mm[:, 0, LIMBS], axis=-1) for p in (poses, classical)
    )
    assert np.median(off_mm) < 30
    assert np.median(off_mm) < 0.9 * np.nanmedian(classical_mm)
    with pytest.raises(TriposeError, match="min_views is 3, which only dlt, ransac and irls know"):
        predict(Recording.open(stroll), min_views=3)


@pytest.mark.slow
def test_notes_say_what_made_it(predicted):
    poses = Pose3D.load(predicted / "stroll.nc")
    assert poses.notes["method"] == "algebraic (algebraic)"
    assert poses.notes["calibration"] == "calibration.toml"
    assert {p.name for p in predicted.iterdir()} == {"stroll.nc", "stroll.keypoints.npz"}


@pytest.mark.slow
def test_a_finished_prediction_is_not_repeated_and_another_model_is_another_one(stroll, predicted, models, tmp_path):
    shutil.copytree(predicted, tmp_path, dirs_exist_ok=True)
    recording, told = Recording.open(stroll), []
    again = predict(recording, model=models / "algebraic", out=tmp_path, progress=lambda *_: told.append(_))
    assert told == []
    np.testing.assert_array_equal(again.position_mm, Pose3D.load(predicted / "stroll.nc").position_mm)
    trained = tmp_path / "trained"
    shutil.copytree(models / "evidence", trained)
    other = predict(recording, model=trained, out=tmp_path, progress=lambda *_: told.append(_))
    assert other.notes["method"] == "evidence (trained)"
    # The keypoints of the person are those of before.
    assert told == [(FRAMES + i, 2 * FRAMES) for i in range(1, FRAMES + 1)]
    model = load_model(trained)
    with torch.no_grad():
        next(model.volume_net.parameters()).mul_(1.5)
    save_model(model, trained)  # the same name, other weights
    told.clear()
    predict(recording, model=trained, out=tmp_path, progress=lambda *_: told.append(_))
    assert len(told) == FRAMES


@pytest.mark.slow
def test_killed_and_resumed_gives_the_same_poses(stroll, predicted, models, tmp_path):
    script = f"""
import os
from pathlib import Path
from tripose.recording import Recording
from tripose.verbs import predict, stages
stages.PIECE_FRAMES = 3
stop = lambda done, total: os._exit(9) if done == {FRAMES + 5} else None
predict.predict(
    Recording.open({str(stroll)!r}), model={str(models / "algebraic")!r}, out=Path({str(tmp_path)!r}), progress=stop
)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    assert not (tmp_path / "stroll.nc").exists()
    (piece,) = tmp_path.glob(".stroll.*.learned/*.npz")
    assert piece.name == "000000000.npz"
    told = []
    predict(
        Recording.open(stroll), model=models / "algebraic", out=tmp_path, progress=lambda done, _: told.append(done)
    )
    assert told == [FRAMES + i for i in range(4, FRAMES + 1)]
    found, whole = (Pose3D.load(folder / "stroll.nc") for folder in (tmp_path, predicted))
    np.testing.assert_allclose(found.position_mm, whole.position_mm, atol=0.1)
    np.testing.assert_allclose(found.reprojection_px, whole.reprojection_px, atol=0.01)
    assert {p.name for p in tmp_path.iterdir()} == {"stroll.nc", "stroll.keypoints.npz"}


@pytest.mark.slow
def test_which_way_is_up_a_standing_body_tells(stroll, tmp_path):
    """As `dlt` and its kind do: a calibration that says nothing, of a world with another axis up."""
    folder = tmp_path / "stroll"
    shutil.copytree(stroll, folder)
    text = (folder / "calibration.toml").read_text()
    assert 'up = "z"' in text
    (folder / "calibration.toml").write_text(text.replace('up = "z"\n', ""))
    recording = Recording.open(folder)
    assert recording.cameras.up is None
    poses, known = predict(recording), predict(Recording.open(stroll))
    assert poses.up == "z"
    assert "taken from the standing body" in poses.notes["up"]
    np.testing.assert_allclose(poses.position_mm, known.position_mm, atol=0.1)


@pytest.mark.slow
def test_a_volumetric_model_is_told_where_the_person_is(stroll):
    torch.manual_seed(0)
    model = build_model(Volumetric(**SHARED | {"backbone": "resnet18", "image_size_px": (128, 128)}, net="light"))
    recording, truth = Recording.open(stroll), Pose3D.load(stroll / "truth.nc")
    body_mm = truth.position_mm[:, 0]
    pelvis_mm = body_mm[:, HALPE26.index("pelvis")].copy()
    pelvis_mm[1] = np.nan
    person = Person(boxes_around(body_mm, recording.cameras), centers_mm=pelvis_mm)
    made = list(estimate(recording.frames(0), recording.cameras, person, model.eval()))
    off_mm = np.stack([e.position_mm for e in made]) - pelvis_mm[:, None]
    assert np.isnan(off_mm[1]).all()
    assert np.abs(np.delete(off_mm, 1, 0)).max() < 1250  # in its cuboid; the weights are random
    with pytest.raises(ValueError, match="give centers_mm"):
        list(estimate(recording.frames(0), recording.cameras, Person(person.boxes_px), model))


def test_a_method_that_nobody_knows_is_named(keypoints):
    with pytest.raises(TriposeError, match="no method is called 'RANSAC'; there are auto, dlt, ransac"):
        predict(keypoints, method="RANSAC")


# --- One camera ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_one_camera_shows_where_the_person_is(alone, stroll, models, tmp_path, monkeypatch):
    """The 3D network is random, so it is the place that counts."""
    monkeypatch.setattr(stages, "PIECE_FRAMES", 3)
    recording = Recording.open(alone)
    assert recording.cameras.names == ("cam02",)
    assert recording.unused_cameras == ("cam01", "cam03")
    whole = predict(recording, model=models / "evidence")
    assert whole.position_mm.shape == (FRAMES, 1, 26, 3)
    assert np.isfinite(whole.position_mm).all()
    off_mm = (whole.position_mm - Pose3D.load(stroll / "truth.nc").position_mm)[:, 0, HALPE26.index("pelvis")]
    assert np.linalg.norm(off_mm, axis=-1).max() < 500
    assert (whole.n_views <= 1).all()
    assert np.isnan(whole.covariance_mm2).all()  # how deep it is, the camera does not tell
    for frame in (5, FRAMES + 5):
        with pytest.raises(Killed):
            predict(recording, model=models / "evidence", out=tmp_path, progress=kill_at(frame))
    resumed = predict(recording, model=models / "evidence", out=tmp_path)
    np.testing.assert_allclose(resumed.position_mm, whole.position_mm, atol=0.1)


@pytest.mark.slow
def test_one_camera_is_too_few_for_triangulation(alone, models):
    recording = Recording.open(alone)
    needs_two = r"1 usable view \(cam02\); triangulation needs at least 2; the volumetric model can do with one"
    for method in ("ransac", "algebraic"):
        with pytest.raises(TriposeError, match=needs_two):
            predict(recording, method=method)
    with pytest.raises(TriposeError, match=r"the model .*algebraic needs at least 2 views; .*alone has one"):
        predict(recording, model=models / "algebraic")
    findings = check(recording)
    assert is_sound(findings)  # for the volumetric model
    assert (findings[-1].level, "--height-mm" in findings[-1].text) == ("warn", True)


def test_one_view_of_keypoints_opens_and_is_refused_by_its_number(tmp_path):
    cameras = ring(3)
    folder = write_recording(tmp_path / "walk", cameras, observe(cameras, [walk_mm(4)])[:, :1])
    recording = Recording.open(folder)
    assert recording.cameras.names == ("cam1",)
    for method in ("ransac", "auto", "volumetric"):
        with pytest.raises(TriposeError, match=r"1 usable view \(cam1\); triangulation needs at least 2"):
            predict(recording, method=method)
    assert not is_sound(check(recording))


# --- What cannot be --------------------------------------------------------------------------------------------------


def test_keypoint_files_are_no_images(keypoints, models):
    with pytest.raises(TriposeError, match="has keypoint files and no videos; the method 'volumetric' needs images"):
        predict(keypoints, method="volumetric")
    with pytest.raises(TriposeError, match=r"has keypoint files and no videos; the model .*algebraic needs images"):
        predict(keypoints, model=models / "algebraic")
    assert predict(keypoints, method="auto").notes["method"] == "fusion (fusion-simulated)"


@pytest.mark.slow
def test_a_model_that_nobody_knows_is_named(stroll, tmp_path):
    sentence = "nobody-knows is neither a folder nor a model that ships with the package"
    with pytest.raises(TriposeError, match=sentence):
        predict(Recording.open(stroll), model="nobody-knows", out=tmp_path)
    assert not list(tmp_path.iterdir())  # told before an hour of videos is looked at
