"""Own data sets on disk: dots painted where the truth is are found there again, whatever the truth is kept in."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from scene import ring, walk_mm
from tripose.data.batch import Sample
from tripose.data.own import open_labelled
from tripose.data.shards import open_shards
from tripose.errors import TriposeError
from tripose.formats.calibration import write_calibration_toml
from tripose.formats.export import export
from tripose.pose import Pose3D
from tripose.skeleton import COCO17, HALPE26, custom
from tripose.verbs.prepare import prepare_own
from tripose.video_writer import write_video

FRAMES, STEP, SIZE_PX = 14, 4, 320
WRIST = COCO17.index("left_wrist")
LENS = [-0.25, 0.08, 0.001, -0.001]


def rig(views: int = 3):
    return ring(views, distortion=LENS).resize(torch.full((views, 2), SIZE_PX))


def truth_of(people: int = 1, skeleton=COCO17) -> Pose3D:
    """Fast walkers, so that a neighbouring frame is many pixels away."""
    bodies = [walk_mm(FRAMES * STEP, angle=2.5 * i)[::STEP] for i in range(people)]
    position = np.stack(bodies, 1)
    names = tuple(f"person_{i}" for i in range(people))
    return Pose3D(position, np.ones(position.shape[:3]), skeleton, 30.0, names, up="z")


def paint(cameras, points_mm: np.ndarray) -> list[np.ndarray]:
    """What each camera sees of white dots in the dark."""
    images = []
    y, x = np.mgrid[0:SIZE_PX, 0:SIZE_PX]
    for at in cameras.project(torch.as_tensor(points_mm))[0].numpy():
        light = sum(np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * 3.0**2)) for u, v in at if np.isfinite(u))
        images.append(np.repeat((255 * np.clip(light, 0, 1)).astype(np.uint8)[..., None], 3, -1))
    return images


def write_own(folder: Path, poses: Pose3D, *, truth: str = "truth.nc", images: bool = False) -> Path:
    """One recording with videos, or with folders of images that count from 101."""
    cameras = rig()
    folder.mkdir(parents=True)
    write_calibration_toml(cameras, folder / "Calib.toml")
    shown = [paint(cameras, frame[:, WRIST]) for frame in poses.position_mm]
    for view, name in enumerate(cameras.names):
        if images:
            (folder / "images" / name).mkdir(parents=True)
            for i, frame in enumerate(shown):
                cv2.imwrite(str(folder / "images" / name / f"frame_{101 + i:05d}.png"), frame[view])
        else:
            (folder / "videos").mkdir(exist_ok=True)
            with write_video(folder / "videos" / f"{name}.mp4", 30.0, (SIZE_PX, SIZE_PX)) as append:
                for frame in shown:
                    append(frame[view])
    if truth.endswith(".csv"):
        export(poses, folder / truth)
    else:
        poses.save(folder / truth)
    return folder


def describe(folder: Path, **more: object) -> Path:
    content = {"splits": {"train": ["walk01"]}, **more}
    (folder / "dataset.yaml").write_text(yaml.safe_dump(content))
    return folder


def annotate(recording: Path, poses: Pose3D, first: int = 0, frames: range = range(FRAMES)) -> None:
    """Exact 2D labels; the right ankle is hidden in cam1 and not labelled in cam2."""
    ankle = COCO17.index("right_ankle")
    (recording / "annotations").mkdir()
    cameras = rig()
    for view, name in enumerate(cameras.names):
        images, annotations = [], []
        for i in frames:
            points = cameras.project(torch.as_tensor(poses.position_mm[i, 0]))[0][view].numpy()
            flags = np.full(17, 2.0)
            flags[ankle] = (1, 0, 2)[view]
            keypoints = np.column_stack([points, flags])
            keypoints[flags == 0] = 0
            images.append({"id": 7 + i, "file_name": f"{name}/frame_{first + i:05d}.png"})
            annotations.append({"id": i, "image_id": 7 + i, "keypoints": keypoints.ravel().tolist()})
        categories = [{"id": 1, "name": "person", "keypoints": list(COCO17.joints)}]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (recording / "annotations" / f"{name}.json").write_text(json.dumps(content))


def dot_errors_px(sample: Sample) -> list[float]:
    """Distance of the dot in each crop from the true wrist."""
    expected = sample.cameras.project(torch.as_tensor(sample.keypoints_mm))[0][:, WRIST].numpy()
    errors = []
    for image, at in zip(sample.images, expected, strict=True):
        weight = np.clip(image[..., 0].astype(float) - 80, 0, None)
        y, x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]]
        found = np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()
        errors.append(float(np.linalg.norm(found - at)))
    return errors


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """Two recordings: one with videos, one with images; nobody changes it."""
    folder = tmp_path_factory.mktemp("own")
    write_own(folder / "walk01", truth_of())
    write_own(folder / "walk02", truth_of(), truth="truth.csv", images=True)
    return describe(folder, splits={"train": ["walk01"], "val": ["walk02"]})


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_dot_is_where_the_truth_is(own, split):
    samples = open_labelled(own, COCO17, split)
    assert len(samples) == FRAMES
    in_order = [samples[i] for i in range(FRAMES)]
    for sample in in_order:
        assert sample.images.shape == (3, 256, 256, 3)
        assert sample.cameras.names == ("cam1", "cam2", "cam3")
        assert sample.cameras.lens == ("pinhole",) * 3
        assert sample.cameras.up == "z"
        assert sample.visible.all()
        assert sample.group == {"train": "walk01", "val": "walk02"}[split]
        assert max(dot_errors_px(sample)) < 0.5
    # The same dot a frame later is elsewhere, so frames are told apart.
    moved = [np.linalg.norm(a.keypoints_mm[WRIST] - b.keypoints_mm[WRIST]) for a, b in itertools.pairwise(in_order)]
    assert min(moved) > 30
    for i in (9, 2, 2, 13, 0):
        np.testing.assert_array_equal(samples[i].images, in_order[i].images)
    with pytest.raises(IndexError):
        samples[FRAMES]


def test_other_skeletons_get_the_joints_that_there_are(own):
    sample = open_labelled(own, HALPE26)[0]
    np.testing.assert_array_equal(sample.keypoints_mm[:17], truth_of().position_mm[0, 0])
    assert np.isnan(sample.keypoints_mm[17:]).all()
    assert not sample.visible[:, 17:].any()


def test_csv_and_netcdf_say_the_same(own):
    from_nc, from_csv = open_labelled(own, COCO17, "train"), open_labelled(own, COCO17, "val")
    for a, b in zip(from_nc.clips, from_csv.clips, strict=True):
        np.testing.assert_allclose(a.keypoints_mm, b.keypoints_mm, atol=1e-3)
        np.testing.assert_array_equal(a.frame, b.frame)


def test_everybody_is_a_sample(tmp_path):
    poses = truth_of(people=2)
    poses.position_mm[3, 1] = np.nan
    write_own(tmp_path / "walk01", poses)
    samples = open_labelled(describe(tmp_path, every=3), COCO17)
    assert samples.clips[0].frame.tolist() == [0, 0, 3, 6, 6, 9, 9, 12, 12]
    for row in (0, 1, 2, 5):
        sample = samples[row]
        # Neighbours are in the crop as well: the own dot is there, if not alone.
        at = np.rint(sample.cameras.project(torch.as_tensor(sample.keypoints_mm))[0][:, WRIST].numpy()).astype(int)
        assert all(sample.images[v, y, x, 0] > 150 for v, (x, y) in enumerate(at))


def test_a_csv_by_hand(own, tmp_path):
    recording = shutil.copytree(own / "walk01", tmp_path / "walk01")
    (recording / "truth.nc").unlink()
    body = truth_of().position_mm[:, 0]
    lines = ["frame,joint,x_m,y_m,z_m"]
    for frame in (5, 2):
        for joint, (x, y, z) in zip(COCO17.joints, body[frame] / 1000, strict=True):
            name = {"left_knee": "LKNE", "right_knee": "KneeRight", "left_hip": "l.hip"}.get(joint, joint)
            lines.append(f"{frame},{name},{x},{y},{z}" if joint != "nose" else f"{frame},{name},,,")
        lines.append(f"{frame},C7,0,0,0")
    (recording / "truth.csv").write_text("\n".join(lines))
    samples = open_labelled(describe(tmp_path, joints={"LKNE": "left_knee", "C7": None}), COCO17)
    assert samples.clips[0].frame.tolist() == [2, 5]
    expected = body[[2, 5]].copy()
    expected[:, 0] = np.nan
    np.testing.assert_allclose(samples.clips[0].keypoints_mm, expected, atol=1e-9)
    assert not samples[0].visible[:, 0].any()
    assert max(dot_errors_px(samples[1])) < 0.5


@pytest.mark.parametrize(("images", "first"), [(False, 0), (True, 101)])
def test_annotations_are_triangulated(own, tmp_path, images, first):
    poses = truth_of()
    recording = shutil.copytree(own / ("walk02" if images else "walk01"), tmp_path / "walk01")
    for path in recording.glob("truth.*"):
        path.unlink()
    annotate(recording, poses, first, range(3, 9))
    lonely = json.loads((recording / "annotations" / "cam1.json").read_text())
    lonely["annotations"] = lonely["annotations"][1:]
    (recording / "annotations" / "cam1.json").write_text(json.dumps(lonely))
    with pytest.warns(UserWarning, match="annotations: the truth is triangulated"):
        samples = open_labelled(describe(tmp_path), COCO17)
    assert samples.clips[0].frame.tolist() == [3, 4, 5, 6, 7, 8]
    expected = poses.position_mm[3:9, 0].copy()
    ankle = COCO17.index("right_ankle")
    expected[0, ankle] = np.nan  # seen by cam3 alone
    np.testing.assert_allclose(samples.clips[0].keypoints_mm, expected, atol=0.1)
    visible = samples[1].visible
    assert visible[:, ankle].tolist() == [False, False, True]
    assert visible.sum() == 3 * 17 - 2
    assert samples[0].visible[0].sum() == 16  # nobody labelled cam1 in the first frame
    assert max(dot_errors_px(samples[2])) < 0.5


def test_prepared_data_is_the_same(own, tmp_path):
    told = []
    written = prepare_own(own, tmp_path / "shards", skeleton=COCO17, progress=lambda *n: told.append(n))
    assert written == {"train": FRAMES, "val": FRAMES}
    assert told[-1] == (2 * FRAMES, 2 * FRAMES)
    stored, direct = open_shards(tmp_path / "shards" / "train", "coco17"), open_labelled(own, COCO17)
    assert len(stored) == FRAMES
    for i in (0, 7):
        np.testing.assert_allclose(stored[i].keypoints_mm, direct[i].keypoints_mm)
        np.testing.assert_array_equal(stored[i].visible, direct[i].visible)
        torch.testing.assert_close(stored[i].cameras.K, direct[i].cameras.K)
        assert stored[i].group == "walk01"
        assert stored[i].cameras.names == direct[i].cameras.names
        assert stored[i].cameras.up == "z"
        assert np.abs(stored[i].images.astype(int) - direct[i].images).mean() < 1
        assert max(dot_errors_px(stored[i])) < 0.5


def test_preparing_goes_on_where_it_was_interrupted(own, tmp_path):
    out = tmp_path / "shards"

    def interrupt(done: int, total: int | None) -> None:
        if done > FRAMES:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_own(own, out, skeleton=COCO17, progress=interrupt)
    assert [p.name for p in out.iterdir() if not p.name.startswith(".")] == ["train"]
    before = (out / "train" / "00000000.safetensors").stat().st_mtime_ns
    assert prepare_own(own, out, skeleton=COCO17) == {"val": FRAMES}
    assert prepare_own(own, out, skeleton=COCO17) == {}
    assert sorted(p.name for p in out.iterdir()) == ["train", "val"]
    assert (out / "train" / "00000000.safetensors").stat().st_mtime_ns == before


def test_up_comes_from_the_standing_body(own, tmp_path):
    recording = shutil.copytree(own / "walk01", tmp_path / "walk01")
    write_calibration_toml(replace(rig(), up=None), recording / "Calib.toml")
    assert open_labelled(describe(tmp_path), COCO17)[0].cameras.up == "z"
    shutil.copytree(recording, tmp_path / "walk02")
    (tmp_path / "walk02" / "recording.yaml").write_text("up: y")
    with pytest.raises(TriposeError, match=r"the axis that points up differs \(walk01 z, walk02 y\)"):
        open_labelled(describe(tmp_path, splits={"train": ["walk01", "walk02"]}), COCO17)


def _relabel(recording: Path, change) -> None:
    """Exchange the truth of a recording by 2D labels, then change the document of cam1."""
    (recording / "truth.nc").unlink()
    annotate(recording, truth_of())
    path = recording / "annotations" / "cam1.json"
    content = json.loads(path.read_text())
    change(content["annotations"])
    path.write_text(json.dumps(content))


def _table(recording: Path, text: str) -> None:
    (recording / "truth.nc").unlink()
    (recording / "truth.csv").write_text(text)


def _poses(recording: Path, **changes: object) -> None:
    replace(truth_of(), **changes).save(recording / "truth.nc")


POSITION_MM = truth_of().position_mm
TABLE = "frame,joint,x_mm,y_mm,z_mm\n"
BREAK = {
    "no truth": lambda r: (r / "truth.nc").unlink(),
    "two truths": lambda r: export(truth_of(), r / "truth.csv"),
    "length": lambda r: _poses(r, position_mm=POSITION_MM[:9], confidence=truth_of().confidence[:9]),
    "rate": lambda r: _poses(r, fps=120.0),
    "unit": lambda r: _poses(r, position_mm=POSITION_MM / 1000),
    "world": lambda r: _poses(r, position_mm=POSITION_MM + np.array([0, 0, 30_000.0])),
    "nothing": lambda r: _poses(r, position_mm=POSITION_MM * np.nan),
    "joint": lambda r: _poses(r, skeleton=custom("mine", ("snout", *COCO17.joints[1:]))),
    "twice": lambda r: _poses(r, skeleton=custom("mine", ("LeftKnee", *COCO17.joints[1:]))),
    "damaged": lambda r: (r / "truth.nc").write_bytes((r / "truth.nc").read_bytes()[:200]),
    "columns": lambda r: _table(r, "frame,joint,x,y,z\n0,nose,1,2,3\n"),
    "number": lambda r: _table(r, TABLE + "0,nose,1,2,3\n0,left_eye,1,two,3\n"),
    "frame": lambda r: _table(r, TABLE + "99,nose,1,2,3\n"),
    "camera": lambda r: (_relabel(r, list), (r / "annotations/cam2.json").rename(r / "annotations/left.json")),
    "crowd": lambda r: _relabel(r, lambda labels: labels.append({**labels[0], "id": 99})),
    "short": lambda r: _relabel(r, lambda labels: labels[3]["keypoints"].extend([1, 2, 2])),
    "no images": lambda r: shutil.rmtree(r / "videos"),
}


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("no truth", r"walk01: there is no truth; one of truth.nc, truth.csv, annotations has to be there"),
        ("two truths", r"walk01: there is both truth.nc and truth.csv"),
        ("length", r"truth.nc has 9 frames and the videos have 14: they do not belong together"),
        ("rate", r"truth.nc has 120 frames per second and the videos have 30"),
        ("unit", r"truth.nc: thighs and shanks come out 0\.4\d* mm long, .*; 1000 times as long would fit"),
        ("nothing", r"truth.nc: not one joint of coco17 has a position"),
        ("world", r"truth.nc: 0% of the known joints are in some image; .* world frame"),
        ("joint", r"truth.nc: no skeleton has a joint 'snout'; under joints: in dataset.yaml say .*snout: left_knee"),
        ("twice", r"truth.nc: two of its joints are 'left_knee', one of them 'LeftKnee'"),
        ("damaged", r"truth.nc cannot be read as netCDF-4"),
        ("columns", r"truth.csv needs the columns frame, joint, x_mm, y_mm, z_mm .* it has frame, joint, x, y, z"),
        ("number", r"truth.csv, line 3: could not convert string to float: 'two'"),
        ("frame", r"truth.csv labels frame 99, but the videos have 14 frames"),
        ("camera", r"no camera for the view 'left'; the calibration has cam1, cam2, cam3"),
        ("crowd", r"cam1.json: 2 people are labelled in frame 0"),
        ("short", r"cam1.json: people have 17, 18 joints, but 17 are named"),
        ("no images", r"walk01: no videos, image folders or 2D keypoints found"),
    ],
)
def test_bad_data_is_one_sentence(own, tmp_path, what, said):
    shutil.copytree(own / "walk01", tmp_path / "walk01")
    BREAK[what](describe(tmp_path) / "walk01")
    with pytest.raises(TriposeError, match=said):
        open_labelled(tmp_path, COCO17)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"dataset.yaml: there is no such file"),
        ("splits: {train: [walk01]}\nsplit: 3", r"dataset.yaml: split: Extra inputs .*known keys are splits, joints"),
        ("splits: {train: [walk09]}", r"dataset.yaml: there is no recording 'walk09'"),
        ("splits: {train: [walk01], val: [walk01]}", r"the recording 'walk01' is named twice"),
        ("splits: {val: [walk01]}", r"there is no split 'train', only val"),
        ("splits: {train: []}", r"the split 'train' has no labelled person"),
        ("splits: [", r"dataset.yaml: not a YAML file"),
        ("splits: {train: [walk01]}\nevery: 0", r"every: Input should be greater than or equal to 1"),
    ],
)
def test_a_bad_description_is_one_sentence(tmp_path, content, said):
    (tmp_path / "walk01").mkdir()
    if content is not None:
        (tmp_path / "dataset.yaml").write_text(content)
    with pytest.raises(TriposeError, match=said):
        open_labelled(tmp_path, COCO17)


def test_moments_without_images_are_left_out(own, tmp_path):
    recording = shutil.copytree(own / "walk02", tmp_path / "walk01")
    images = recording / "images"
    (images / "cam2" / "frame_00105.png").unlink()
    for name in ("cam1", "cam2", "cam3"):
        (images / name / "frame_00109.png").unlink()
    samples = open_labelled(describe(tmp_path), COCO17)
    assert samples[4].cameras.names == ("cam1", "cam3")
    assert max(dot_errors_px(samples[4])) < 0.5
    with pytest.raises(TriposeError, match=r"walk01: no image of frame 8 shows the person"):
        samples[8]
    with pytest.warns(UserWarning, match=r"1 labelled moments of 'train' have no image and are left out"):
        assert prepare_own(tmp_path, tmp_path / "shards", skeleton=COCO17) == {"train": FRAMES - 1}
