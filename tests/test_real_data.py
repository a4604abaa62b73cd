"""Numbers on real recordings, where they lie beside the repository; skipped where they do not."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from tripose.cameras import Cameras
from tripose.formats.calibration import read_calibration
from tripose.formats.keypoints import read_keypoints
from tripose.geometry.triangulate import triangulate
from tripose.skeleton import BODY25B, LIMB_JOINTS
from tripose.track import follow_keypoints

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
needs = {
    name: pytest.mark.skipif(not (DATA / name).exists(), reason=f"{name} is not here")
    for name in ("shelf_4dassociation", "pose2sim_single", "humaneva_motion")
}


def loader(name):
    """The reading functions that lie with the data."""
    spec = importlib.util.spec_from_file_location(f"check_{name}", DATA / name / "check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def error_mm(found, truth):
    distance = np.linalg.norm(found.position_mm.numpy() - truth, axis=-1)
    assert np.isnan(distance).mean() < 0.01
    return float(np.nanmean(distance))


@pytest.fixture(scope="module")
def shelf():
    """gate in px -> (points [view, n, 2], scores, truth in mm): per joint the candidate nearest to the truth."""
    if not (DATA / "shelf_4dassociation").exists():
        pytest.skip("shelf_4dassociation is not here")
    check = loader("shelf_4dassociation")
    parts, truths, found = (
        check.load_cameras(),
        check.load_skeletons("gt.txt"),
        [check.load_detections(v) for v in range(5)],
    )
    cameras = Cameras.build(
        [str(v) for v in range(5)], [c["K"] for c in parts], [c["R"] for c in parts], [1000 * c["t"] for c in parts],
        [[check.W, check.H]] * 5,
    )  # fmt: skip
    sets = {60: ([], [], []), 250: ([], [], [])}
    for frame, people in enumerate(truths):
        for person in people.values():
            for joint, theirs in check.TO_BODY25.items():
                if person[joint, 3] <= 0:
                    continue
                points, score, off = np.full((5, 2), np.nan), np.zeros(5), np.full(5, np.inf)
                for view, camera in enumerate(parts):
                    at, depth = check.project(person[joint, :3], camera)
                    candidates = found[view][frame][0][theirs]
                    if depth > 0 and len(candidates) and 0 <= at[0] < check.W and 0 <= at[1] < check.H:
                        distance = np.linalg.norm(candidates[:, :2] - at, axis=1)
                        nearest = distance.argmin()
                        points[view], score[view] = candidates[nearest, :2], candidates[nearest, 2]
                        off[view] = distance[nearest]
                for gate, (all_points, all_scores, all_truth) in sets.items():
                    kept = np.where(off < gate, score, 0.0)
                    if (kept > 0).sum() >= 2:
                        all_points.append(points)
                        all_scores.append(kept)
                        all_truth.append(1000 * person[joint, :3])
    return cameras, {
        gate: (torch.tensor(np.array(p)).movedim(0, 1), torch.tensor(np.array(s)).T, np.array(t))
        for gate, (p, s, t) in sets.items()
    }


@pytest.mark.parametrize(
    ("gate", "method", "limit_mm"),
    [(60, "dlt", 51.0), (60, "ransac", 50.5), (60, "irls", 50.5), (250, "ransac", 60.0), (250, "irls", 60.0)],
)
def test_shelf_with_association_given(shelf, gate, method, limit_mm):
    cameras, sets = shelf
    points, score, truth = sets[gate]
    assert error_mm(triangulate(cameras, points, score, method=method), truth) <= limit_mm


def test_shelf_gross_errors_hurt_the_dlt(shelf):
    cameras, sets = shelf
    points, score, truth = sets[250]
    assert error_mm(triangulate(cameras, points, score, method="dlt"), truth) == pytest.approx(81, abs=1.5)


def openpose(folder):
    """[time, view, person, joint, ...] of the four views; people filled up with NaN."""
    views = [read_keypoints(DATA / "pose2sim_single" / folder / f"cam0{i}_json", BODY25B, 60.0) for i in (1, 2, 3, 4)]
    frames, people = 100, max(v.points_px.shape[2] for v in views)
    points, score = np.full((frames, 4, people, 25, 2), np.nan), np.zeros((frames, 4, people, 25))
    for i, view in enumerate(views):
        count = view.points_px.shape[2]
        points[: len(view.points_px[:frames]), i, :count] = view.points_px[:frames, 0]
        score[: len(view.points_px[:frames]), i, :count] = view.confidence[:frames, 0]
    return points, score


@needs["pose2sim_single"]
def test_dlt_equals_pose2sims_own_triangulation():
    # That program divides the distortion coefficients by 64 and ignores them when it triangulates.
    check = loader("pose2sim_single")
    names, expected_m = check.load_trc(str(DATA / "pose2sim_single/pose-3d/S00_P00_T01_BalancingTrial_0-100.trc"))
    theirs = [check.BODY_25B.index(n) for n in names]
    points, score = (a[:, :, 0][:, :, theirs] for a in openpose("pose-associated"))
    cameras = read_calibration(DATA / "pose2sim_single/calibration/Calib_qualisys_a948c20.toml").undistorted()
    weight = torch.as_tensor(np.where(score > 0.3, score, 0.0))
    found = triangulate(cameras, torch.as_tensor(points), weight, method="dlt").position_mm.numpy()
    assert np.nanmedian(np.linalg.norm(found - 1000 * expected_m, axis=-1)) < 0.01


@needs["pose2sim_single"]
def test_distortion_helps_openposes_keypoints():
    points, score = (torch.as_tensor(a[:, :, 0]) for a in openpose("pose-associated"))
    cameras = read_calibration(DATA / "pose2sim_single/calibration/Calib_scene_eca0229.toml")
    limbs = BODY25B.indices(LIMB_JOINTS)

    def median_px(rig):
        return float(triangulate(rig, points, score, method="irls").reprojection_px[..., limbs].nanmedian())

    assert median_px(cameras) <= 9.0
    assert median_px(cameras) < median_px(cameras.undistorted())


@needs["pose2sim_single"]
def test_the_person_is_found_among_everybody_as_pose2sims_users_chose():
    cameras = read_calibration(DATA / "pose2sim_single/calibration/Calib_scene_eca0229.toml")
    points, score = openpose("pose")
    chosen, _ = openpose("pose-associated")
    assert points.shape[2] == 3
    followed, _ = follow_keypoints(cameras, points, score, 60.0)
    off = np.linalg.norm(followed - chosen[:, :, 0], axis=-1)
    assert (off[np.isfinite(off)] < 0.01).mean() > 0.995
    assert (np.isfinite(chosen[:, :, 0, :, 0]) & ~np.isfinite(followed[..., 0])).mean() < 0.005


@needs["humaneva_motion"]
def test_exact_projections_through_strong_lenses_come_back_exactly():
    import json

    folder = DATA / "humaneva_motion"
    parts = json.loads((folder / "cameras.json").read_text())
    arrays = np.load(folder / "humaneva15.npz")
    name = next(k for k in arrays.files if k.startswith("3d__") and "__S1__" in k)
    truth_mm = 1000 * arrays[name].astype(float)
    views = [f"S1_C{i}" for i in (1, 2, 3)]
    rig = Cameras.build(
        views,
        [np.reshape(parts[v]["K"], (3, 3)) for v in views],
        [np.reshape(parts[v]["R"], (3, 3)) for v in views],
        [1000 * np.ravel(parts[v]["t"]) for v in views],
        [parts[v]["size"] for v in views],
        [parts[v]["dist"] for v in views],
    )
    points = np.stack([arrays[name.replace("3d__", "2d__") + f"__C{i}"] for i in (1, 2, 3)], 1).astype(float)
    sound = np.isfinite(truth_mm).all((1, 2)) & np.isfinite(points).all((1, 2, 3))
    found = triangulate(rig, torch.as_tensor(points[sound]), method="dlt").position_mm.numpy()
    off_mm = np.linalg.norm(found - truth_mm[sound], axis=-1)
    assert np.median(off_mm) < 0.1
    assert np.quantile(off_mm, 0.99) < 1.0
