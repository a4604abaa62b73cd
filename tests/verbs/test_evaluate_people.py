"""``tripose evaluate RESULT.nc --labels INDEX.npz``: what a user types, reads, and gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from scene import ring, walk_mm
from tripose.data.scenes import Scene, write_index
from tripose.errors import TriposeError
from tripose.pose import Pose3D
from tripose.skeleton import COCO17, PANOPTIC19, custom
from tripose.verbs.evaluate_people import evaluate_people

JOINTS = [joint for joint in PANOPTIC19.joints if joint in COCO17.joints]
EVERY = 4


def tripose(*arguments):
    command = [sys.executable, "-m", "tripose.cli", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)


def refused(done, *parts):
    """One sentence on standard error, no traceback, exit code not zero."""
    assert done.returncode != 0, done.stdout
    (said,) = done.stderr.splitlines()
    assert all(str(part) in said for part in parts), said


def people_mm(frames=13):
    return np.stack([walk_mm(frames, angle=a) for a in (0.0, 2.0)], 1)


def poses(found_mm, name, confidence=0.9):
    persons = tuple(f"person_{i}" for i in range(found_mm.shape[1]))
    scores = np.where(np.isfinite(found_mm).all(-1), confidence, np.nan)
    return Pose3D(found_mm, scores, COCO17, 30.0, persons, notes={"recording": name})


def scene(name, keypoints_mm=None):
    """Every fourth frame has a truth of both people."""
    truth = people_mm()[::EVERY]
    rows = np.full((truth.shape[0] * 2, len(PANOPTIC19), 3), np.nan)
    rows[:, PANOPTIC19.indices(JOINTS)] = truth[:, :, COCO17.indices(JOINTS)].reshape(-1, len(JOINTS), 3)
    frame = np.repeat(np.arange(len(truth)) * EVERY, 2)
    return Scene(name, ring(2), {}, frame, rows if keypoints_mm is None else keypoints_mm, PANOPTIC19)


@pytest.fixture
def labels(tmp_path):
    write_index([scene("pizza1"), scene("ian5")], tmp_path / "index.npz")
    return tmp_path / "index.npz"


def test_results_are_pooled_in_one_table(labels, tmp_path):
    poses(people_mm() + np.array([30.0, 0, 0]), "pizza1").save(tmp_path / "a.nc")
    poses(people_mm()[:, :1], "elsewhere").save(tmp_path / "ian5.nc")  # by the name of the file
    out = tmp_path / "deep" / "eval"
    done = tripose("evaluate", tmp_path / "a.nc", tmp_path / "ian5.nc", "--labels", labels, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "joints compared, 13: nose, left_shoulder" in done.stderr
    for text in ("pizza1", "ian5", "all", "AP@25", "recall@500", str(out / "report.md")):
        assert text in done.stdout
    assert sorted(file.name for file in out.iterdir()) == ["metrics.json", "report.md"]
    held = json.loads((out / "metrics.json").read_text())
    assert held["about"]["truth"] == str(labels)
    first, second, both = held["people"]
    assert (first["scene"], first["ap_25mm"], first["ap_50mm"], first["recall_500mm"]) == ("pizza1", 0.0, 1.0, 1.0)
    assert (first["people"], first["mpjpe_mm"]) == (8, pytest.approx(30.0, abs=1e-3))
    assert (second["scene"], second["found"], second["ap_25mm"], second["recall_500mm"]) == ("ian5", 4, 0.5, 0.5)
    assert (both["scene"], both["people"], both["recall_500mm"]) == ("all", 16, 0.75)
    report = (out / "report.md").read_text()
    assert "| pizza1 | 8 | 8 | 0.0 % | 100.0 % |" in report


def test_one_result_is_one_row(labels, tmp_path):
    poses(people_mm(), "ian5").save(tmp_path / "a.nc")
    said = []
    (row,) = evaluate_people([tmp_path / "a.nc"], labels, tmp_path / "eval", say=said.append)
    assert (row["scene"], row["ap_25mm"]) == ("ian5", 1.0)
    assert len(said) == 1


def test_nobody_near_is_null(labels, tmp_path):
    poses(people_mm() + 3000.0, "ian5").save(tmp_path / "a.nc")
    evaluate_people([tmp_path / "a.nc"], labels, tmp_path / "eval")
    (row,) = json.loads((tmp_path / "eval" / "metrics.json").read_text())["people"]
    assert (row["mpjpe_mm"], row["recall_500mm"]) == (None, 0.0)


def test_bad_input_is_one_sentence(labels, tmp_path):
    file, out = tmp_path / "a.nc", tmp_path / "eval"
    good = poses(people_mm(), "ian5")
    good.save(file)

    def fails(match, results=(file,), index=labels):
        with pytest.raises(TriposeError, match=match):
            evaluate_people(results, index, out)

    fails("a.nc holds poses without a truth: --labels", index=None)
    fails("none.npz: there is no such index", index=tmp_path / "none.npz")
    fails("there is no file .*none.nc", [tmp_path / "none.nc"])
    good.save(tmp_path / "b.nc")
    fails("a.nc and .*b.nc are both of the scene 'ian5'", [file, tmp_path / "b.nc"])
    poses(people_mm(), "band4").save(file)
    fails("index.npz has no scene 'band4' or 'a', after which .*a.nc is named; it has pizza1, ian5")
    poses(people_mm(12), "ian5").save(file)
    fails("a.nc ends at frame 11, and .*index.npz has a truth of 'ian5' up to 12")
    poses(np.full_like(people_mm(), np.nan), "ian5").save(file)
    fails("a.nc holds nobody")
    few = ("left_wrist", "right_wrist", "tail")
    replace(
        good, position_mm=people_mm()[:, :, :3], confidence=good.confidence[:, :, :3], skeleton=custom("few", few)
    ).save(file)
    fails(r"a.nc: the joints of few have 2 names in common with .* count \(left_wrist, right_wrist\); at least 6")
    good.save(file)
    write_index([scene("ian5", np.full((8, 19, 3), np.nan))], tmp_path / "empty.npz")
    fails("empty.npz: the scene 'ian5' has no truth", index=tmp_path / "empty.npz")
    assert not out.exists()
    out.write_text("")
    fails("eval cannot be made")


def test_the_command_line_refuses_in_one_sentence(labels, tmp_path):
    file = tmp_path / "a.nc"
    poses(people_mm(), "band4").save(file)
    refused(tripose("evaluate", file, "--labels", labels), file, "no scene 'band4'")
    refused(tripose("evaluate", file), file, "--labels")
    refused(tripose("evaluate", file, "--labels", labels, "--model", "x"), file, "leave out --model")
    refused(tripose("evaluate", labels, "--labels", labels), labels, "--labels belongs to")
