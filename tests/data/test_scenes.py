"""The index of a public data set: what goes in comes out, byte for byte the same, and damage is named."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from scene import ring
from tripose.data.footage import SceneFootage
from tripose.data.labelled import LabelledSamples, label_scene
from tripose.data.scenes import Detections, Scene, is_index, read_index, write_index
from tripose.errors import TriposeError
from tripose.evaluation.detected import evaluate_detected
from tripose.geometry.triangulate import triangulate
from tripose.skeleton import COCO17


def scene(name, views, rows, folder, boxes=True, seed=0):
    random = np.random.default_rng(seed)
    cameras = replace(ring(views, distortion=[-0.1, 0.02]), up="z")
    box = random.integers(0, 500, (rows, views, 4)).astype(float)
    box[..., 2:] += 500
    keypoints = random.uniform(-500, 500, (rows, 17, 3)).astype(np.float32).astype(float)
    keypoints[0, 3] = np.nan
    sources = {c: folder / name / c for c in cameras.names[1:]}
    return Scene(name, cameras, sources, np.arange(rows) * 5, keypoints, COCO17, box if boxes else None)


@pytest.mark.parametrize("boxes", [True, False])
def test_an_index_reads_as_written(tmp_path, boxes):
    made = [scene("S1/Walk-1", 3, 4, tmp_path, boxes), scene("S9/Sit-2", 2, 7, tmp_path.parent / "far", boxes, seed=1)]
    write_index(made, tmp_path / "index.npz")
    for found, expected in zip(read_index(tmp_path / "index.npz"), made, strict=True):
        assert (found.name, found.cameras.names, found.cameras.lens) == (
            expected.name,
            expected.cameras.names,
            expected.cameras.lens,
        )
        for part in ("K", "R", "t", "distortion", "size_px"):
            np.testing.assert_array_equal(getattr(found.cameras, part), getattr(expected.cameras, part))
        np.testing.assert_array_equal(found.frame, expected.frame)
        np.testing.assert_array_equal(found.keypoints_mm, expected.keypoints_mm)
        assert {c: p.resolve() for c, p in found.sources.items()} == dict(expected.sources)
        if boxes:
            np.testing.assert_array_equal(found.box_px, expected.box_px)
        else:
            assert found.box_px is None
    before = (tmp_path / "index.npz").read_bytes()
    write_index(read_index(tmp_path / "index.npz"), tmp_path / "index.npz")
    assert (tmp_path / "index.npz").read_bytes() == before


def detected(name, views, rows, folder, seed=0, noise_px=0.0):
    """A scene with detections of its joints; the first row is not seen by the last camera."""
    made, random = scene(name, views, rows, folder, boxes=False, seed=seed), np.random.default_rng(seed)
    points = made.cameras.project(torch.from_numpy(made.keypoints_mm.reshape(-1, 3)))[0].numpy()
    points = points.reshape(views, rows, 17, 2).swapaxes(0, 1).astype(np.float32).astype(float)
    points += random.normal(0, noise_px, points.shape) if noise_px else 0.0
    confidence = random.integers(1, 9, points.shape[:-1]) / 8
    points[0, -1] = np.nan
    return replace(made, detections=Detections(points, confidence))


def test_detections_are_kept_and_triangulated(tmp_path):
    made = [detected("walk", 4, 5, tmp_path), detected("sit", 3, 2, tmp_path, seed=1)]
    write_index(made, tmp_path / "index.npz")
    read = read_index(tmp_path / "index.npz")
    for found, expected in zip(read, made, strict=True):
        np.testing.assert_array_equal(found.detections.points_px, expected.detections.points_px)
        np.testing.assert_array_equal(found.detections.confidence, expected.detections.confidence)
    assert is_index(tmp_path / "index.npz")
    found = evaluate_detected(read, ("dlt", "ransac"), ("all", 2))
    assert sorted(set(found.n_views.tolist())) == [2, 3, 4]
    assert len(found) == 2 * 2 * 7
    assert list(dict.fromkeys(found.row.tolist())) == list(range(7))
    assert dict(zip(found.row.tolist(), found.group.tolist(), strict=True)) == {
        **dict.fromkeys(range(5), "walk"),
        5: "sit",
        6: "sit",
    }
    known = np.isfinite(found.truth_mm).all(-1)
    np.testing.assert_allclose(found.keypoints_mm[known], found.truth_mm[known], atol=0.5)


def test_where_robust_methods_find_nothing_the_dlt_answers(tmp_path):
    noisy = detected("walk", 2, 6, tmp_path, noise_px=60.0)
    found = evaluate_detected([noisy], ("dlt", "ransac"))
    by = {m: found.keypoints_mm[found.method == m] for m in ("dlt", "ransac")}
    alone = triangulate(noisy.cameras, noisy.detections.points_px, noisy.detections.confidence).position_mm.numpy()
    given_up = np.isnan(alone[..., 0]) & np.isfinite(by["dlt"][..., 0])
    assert given_up.sum() > 10
    np.testing.assert_array_equal(by["ransac"][given_up], by["dlt"][given_up])


def test_evaluating_an_index_without_detections_and_with_a_model(tmp_path):
    write_index([scene("walk", 2, 2, tmp_path)], tmp_path / "index.npz")
    with pytest.raises(TriposeError, match="scene 'walk' has no detections"):
        evaluate_detected(read_index(tmp_path / "index.npz"), ("dlt",))
    with pytest.raises(TriposeError, match="1 camera is chosen; triangulation needs at least 2"):
        evaluate_detected([detected("walk", 3, 4, tmp_path)], ("dlt",), (1,))
    with pytest.raises(TriposeError, match="the largest rig has 3"):
        evaluate_detected([detected("walk", 3, 4, tmp_path)], ("dlt",), (4,))
    with pytest.raises(TriposeError, match="there is no method"):
        evaluate_detected(read_index(tmp_path / "index.npz"), ())
    write_index([detected("walk", 3, 4, tmp_path)], tmp_path / "index.npz")
    command = [sys.executable, "-m", "tripose.cli", "evaluate", tmp_path / "index.npz", "--out", tmp_path / "out"]
    for words, sentence in (
        (["--model", "volumetric-synthetic"], "looks at images and not keypoints"),
        (["--every", "2"], "--every 2 takes rows of a stored data set"),
        (["--labels", "x.npy"], "--labels belongs to results.pkl"),
    ):
        refused = subprocess.run([*map(str, command), *words], capture_output=True, text=True, check=False)
        assert refused.returncode == 2
        assert sentence in " ".join(refused.stderr.split())
    done = subprocess.run([*map(str, command), "--views", "all,2"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "irls" in done.stdout
    assert (tmp_path / "out" / "views.png").exists()


def test_a_data_set_can_be_moved_with_its_images(tmp_path):
    (tmp_path / "a").mkdir()
    write_index([scene("walk", 2, 2, tmp_path / "a")], tmp_path / "a" / "index.npz")
    (tmp_path / "a").rename(tmp_path / "b")
    (moved,) = read_index(tmp_path / "b" / "index.npz")
    assert all(path.is_relative_to(tmp_path / "b") for path in moved.sources.values())


def test_a_missing_a_damaged_and_another_file(tmp_path):
    path = tmp_path / "index.npz"
    with pytest.raises(TriposeError, match=r"index\.npz: there is no such index"):
        read_index(path)
    write_index([scene("walk", 2, 2, tmp_path)], path)
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(TriposeError, match="is damaged"):
            read_index(path)
    random = np.random.default_rng(0)
    for _ in range(60):
        flipped = bytearray(whole)
        flipped[int(random.integers(len(whole)))] ^= int(random.integers(1, 256))
        path.write_bytes(bytes(flipped))
        with contextlib.suppress(TriposeError):  # or it was a byte that nothing depends on
            read_index(path)
    np.savez(path, about=np.array('{"format": "other"}'))
    with pytest.raises(TriposeError, match="is not an index of scenes"):
        read_index(path)


def test_boxes_say_what_is_cut_out_and_which_views_there_are(tmp_path):
    made = scene("walk", 3, 2, tmp_path)
    rng = np.random.default_rng(0)
    for name, path in made.sources.items():
        path.mkdir(parents=True)
        width, height = made.cameras.select([name]).size_px[0].tolist()
        for frame in (0, 5):
            cv2.imwrite(str(path / f"img_{frame:06d}.png"), rng.integers(0, 255, (height, width, 3), np.uint8))
    made.box_px[1, 2] = np.nan
    write_index([made], tmp_path / "index.npz")
    (read,) = read_index(tmp_path / "index.npz")
    samples = LabelledSamples((label_scene(read, tmp_path),), COCO17, 64)
    assert samples[0].cameras.names == made.cameras.names[1:]  # the first has no images
    assert samples[1].cameras.names == made.cameras.names[1:2]  # and the last no box
    left, upper, right, lower = made.box_px[0, 1]
    crop = samples[0].cameras.select(made.cameras.names[1:2])
    side = max(right - left, lower - upper)
    assert float(crop.K[0, 0, 0]) == pytest.approx(float(made.cameras.K[1, 0, 0]) * 64 / side, rel=1e-4)
    footage = SceneFootage(read, tmp_path)
    assert [image is None for image in footage.at(5)] == [True, False, False]
    assert footage.at(3) == (None, None, None)
