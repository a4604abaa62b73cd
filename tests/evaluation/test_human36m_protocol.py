"""The protocol of Human3.6M equals its published numbers, a twin of plain loops, and says what is missing."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest

from golden import FOLDER, golden
from reference import human36m as twin
from scene import ring
from tripose.data.batch import Sample
from tripose.data.human36m.legacy import read_labels, read_results, write_results
from tripose.data.human36m.protocol import ACTIONS, SCENES, TRAIN_SUBJECTS
from tripose.data.joints import TRANSFER_JOINTS
from tripose.errors import TriposeError
from tripose.evaluation.human36m import (
    MEAN_OF_ACTIONS,
    damaged_rows,
    kept_rows,
    protocol_errors,
    protocol_table,
)
from tripose.evaluation.human36m_report import by_action, human36m_markdown, human36m_table, is_human36m
from tripose.evaluation.human36m_results import write_official
from tripose.evaluation.predictions import Predictions
from tripose.evaluation.tables import ALL, MEAN_OF_GROUPS, all_tables, errors_of
from tripose.evaluation.transfer import Transferred
from tripose.skeleton import COCO17, H36M17, MPII16, Skeleton, custom
from tripose.verbs.evaluate import evaluate_results

NAN = math.nan


def by_cell(table):
    return {(row["subject"], row["action"]): row for row in table}


def published(key):
    """A key of the published file as one of ours."""
    return tuple(ALL if part == "Average" else part for part in key)


def random_poses(seed, rows=60, joints=17, gaps=0.0):
    """Predictions, truth, subjects and scenes; scenes are of very different lengths."""
    random = np.random.default_rng(seed)
    truth = random.normal(0, 400, (rows, joints, 3))
    predicted = truth + random.normal(0, 30, truth.shape) + 10
    predicted[random.random((rows, joints)) < gaps] = NAN
    truth[random.random((rows, joints)) < gaps] = NAN
    subject = random.choice(["S11", "S9", "S9"], rows)
    scene = random.choice(["Walking-1", "Walking-1", "Walking-2", "Greeting-1", "Greeting-2", "Waiting-1"], rows)
    return predicted, truth, subject, scene


# --- Against what is published ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """A data set of which only the truth counts."""

    truth_mm: np.ndarray
    skeleton: Skeleton = H36M17

    def __len__(self):
        return len(self.truth_mm)

    def __getitem__(self, index):
        return Sample(np.zeros((1, 2, 2, 3), np.uint8), ring(1), self.truth_mm[index])


def transferred(predicted_mm, skeleton, truth_mm):
    """Errors of a model with other joints, as `tripose evaluate` has them."""
    samples = Transferred(Rows(truth_mm), skeleton)
    truth = np.stack([samples[i].keypoints_mm for i in range(len(samples))])
    return protocol_errors(predicted_mm, truth, samples.skeleton)


KINDS = {"human36m": H36M17, "mpii": MPII16, "transferH36M": H36M17, "transferCMU": H36M17}
NAMES = [f"dmg{damaged}_{kind}" for damaged in (0, 1) for kind in ("transferH36M", "transferCMU")] + [
    f"dmg{damaged}_{kind}_ret{every}" for damaged in (0, 1) for kind in ("human36m", "mpii") for every in (1, 3)
]


@pytest.mark.parametrize("name", [pytest.param(name, marks=golden) for name in NAMES])
def test_every_published_number(name):
    whole = json.loads((FOLDER / "h36m_eval_golden.json").read_text())
    recorded = whole[name]
    damaged, kind, *every = name.split("_")
    labels = read_labels(FOLDER / "h36m_labels_synth.npy", undistorted=True)
    rows = kept_rows(labels.subject, labels.scene, damaged=damaged == "dmg1", every=int(every[0][3:]) if every else 1)
    assert len(rows) == recorded.get("n", len(rows))
    assert len(kept_rows(labels.subject, labels.scene, damaged=True, subjects=TRAIN_SUBJECTS)) == whole["train_len"]
    skeleton = KINDS[kind]
    truth = labels.keypoints_mm[rows, : len(skeleton)]
    predicted = truth + np.random.RandomState(77).standard_normal(truth.shape) * 12 + 4
    if kind.startswith("transfer"):  # "CMU": the same numbers, read as joints of COCO
        errors = transferred(predicted, COCO17 if kind == "transferCMU" else H36M17, truth)
    else:
        errors = protocol_errors(predicted, truth, skeleton)
    table = by_cell(protocol_table(errors, labels.subject[rows], labels.scene[rows]))
    assert table[ALL, ALL]["relative_mm"] == pytest.approx(recorded["scalar"], abs=1e-4)
    compared = 0
    full = recorded.get("full", {})
    for metric, figure in (("per_pose_error", "mean_mm"), ("per_pose_error_relative", "relative_mm")):
        for who, actions in full.get(metric, {}).items():
            for what, value in actions.items():
                if math.isnan(value):  # a subject that is not tested
                    assert published((who, what)) not in table
                else:
                    assert table[published((who, what))][figure] == pytest.approx(value, abs=1e-4)
                    compared += 1
    assert compared == (2 * 3 * 16 if full else 0)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=golden) for n in ("dmg0_human36m_ret3", "dmg1_human36m_ret1", "dmg1_mpii_ret1")]
)
def test_the_command_makes_the_published_table_of_published_files(name, tmp_path):
    recorded = json.loads((FOLDER / "h36m_eval_golden.json").read_text())[name]
    path, skeleton, every = FOLDER / "h36m_labels_synth.npy", KINDS[name.split("_")[1]], int(name[-1])
    labels = read_labels(path, undistorted=True)
    rows = kept_rows(labels.subject, labels.scene, damaged=name.startswith("dmg1"), every=every)
    truth = labels.keypoints_mm[rows, : len(skeleton)]
    write_results(tmp_path / "results.pkl", truth + np.random.RandomState(77).standard_normal(truth.shape) * 12 + 4)
    words = ["evaluate", tmp_path / "results.pkl", "--labels", path, "--every", every, "--out", tmp_path / "out"]
    command = [sys.executable, "-m", "tripose.cli", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    table = json.loads((tmp_path / "out" / "metrics.json").read_text())["human36m"]
    (average,) = (r for r in table if (r["scenes"], r["subject"], r["action"]) == ("all", ALL, ALL))
    assert average["relative_mm"] == pytest.approx(recorded["scalar"], abs=1e-4)
    again = read_results(tmp_path / "out" / "results-results.pkl")
    np.testing.assert_array_equal(again, read_results(tmp_path / "results.pkl"))


def test_results_stay_in_their_folder_whatever_a_method_is_called(tmp_path):
    found = predictions(["S9/Walking-1", "S11/Greeting-1"])
    found = replace(found, method=np.char.replace(found.method.astype("U20"), found.method[0], "../../far"))
    (tmp_path / "in" / "results-..").mkdir(parents=True)
    write_official(found, tmp_path / "in")
    files = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.pkl")}
    assert len(files) == 2
    assert "in/results-..-..-far.pkl" in files


def test_results_need_labels_that_fit(tmp_path):
    write_results(tmp_path / "results.pkl", np.zeros((3, 17, 3)))
    with pytest.raises(TriposeError, match=r"results\.pkl holds predictions without a truth: --labels"):
        evaluate_results(tmp_path / "results.pkl", None, tmp_path / "out")
    write_results(tmp_path / "other.pkl", np.zeros((3, 19, 3)))
    if FOLDER.exists():
        labels = FOLDER / "h36m_labels_synth.npy"
        with pytest.raises(TriposeError, match=r"holds predictions for 3 rows, but the test set of .* has"):
            evaluate_results(tmp_path / "results.pkl", labels, tmp_path / "out")
        with pytest.raises(TriposeError, match="holds 19 joints"):
            evaluate_results(tmp_path / "other.pkl", labels, tmp_path / "out")


# --- Against the twin -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skeleton", [H36M17, MPII16])
@pytest.mark.parametrize("seed", range(3))
def test_tables_are_those_of_plain_loops(seed, skeleton):
    predicted, truth, subject, scene = random_poses(seed, joints=len(skeleton))
    table = by_cell(protocol_table(protocol_errors(predicted, truth, skeleton), subject, scene))
    assert {who for who, _ in table} == {"S9", "S11", ALL}
    for root, figure in ((None, "mean_mm"), (6, "relative_mm")):
        slow = twin.published_table(predicted.tolist(), truth.tolist(), subject.tolist(), scene.tolist(), root)
        for key, value in slow.items():
            assert table[published(key)][figure] == pytest.approx(value, abs=1e-9)
        for who, value in twin.paper_average(slow).items():
            assert table[published((who,))[0], MEAN_OF_ACTIONS][figure] == pytest.approx(value, abs=1e-9)
    assert all(row["missing"] == row["relative_missing"] == 0 for row in table.values())
    assert table[ALL, ALL]["rows"] == table[ALL, MEAN_OF_ACTIONS]["rows"] == len(subject)
    assert table["S9", "Walking"]["rows"] == ((subject == "S9") & np.char.startswith(scene, "Walking")).sum()


@pytest.mark.parametrize("seed", range(3))
def test_what_is_missing_is_in_no_mean_and_is_told(seed):
    predicted, truth, subject, scene = random_poses(seed, gaps=0.15)
    table = by_cell(protocol_table(protocol_errors(predicted, truth, H36M17), subject, scene))
    for root, figure, share in ((None, "mean_mm", "missing"), (6, "relative_mm", "relative_missing")):
        slow = twin.table_with_gaps(predicted.tolist(), truth.tolist(), subject.tolist(), scene.tolist(), root)
        assert set(map(published, slow)) == {key for key in table if key[1] != MEAN_OF_ACTIONS}
        for key, (value, gone) in slow.items():
            assert table[published(key)][figure] == pytest.approx(value, abs=1e-9)
            assert table[published(key)][share] == pytest.approx(gone, abs=1e-12)
            assert gone > 0


def test_leaving_out_the_worst_does_not_go_unnoticed():
    predicted, truth, subject, scene = random_poses(0)
    whole = by_cell(protocol_table(protocol_errors(predicted, truth, H36M17), subject, scene))[ALL, ALL]
    worst = np.linalg.norm(predicted - truth, axis=-1).mean(1).argsort()[-15:]
    predicted[worst] = NAN
    part = by_cell(protocol_table(protocol_errors(predicted, truth, H36M17), subject, scene))[ALL, ALL]
    assert part["mean_mm"] < whole["mean_mm"]
    assert (part["missing"], part["relative_missing"]) == (15 / 60, 15 / 60)
    predicted, truth, subject, scene = random_poses(0)
    predicted[:6, H36M17.index("pelvis")] = NAN
    part = by_cell(protocol_table(protocol_errors(predicted, truth, H36M17), subject, scene))[ALL, ALL]
    assert part["missing"] == pytest.approx(6 / 60 / 17)
    assert part["relative_missing"] == 6 / 60


def test_an_action_that_nothing_was_found_of():
    predicted, truth, subject, scene = random_poses(1)
    predicted[np.char.startswith(scene, "Walking")] = NAN
    table = by_cell(protocol_table(protocol_errors(predicted, truth, H36M17), subject, scene))
    assert math.isnan(table[ALL, "Walking"]["mean_mm"])
    assert table[ALL, "Walking"]["missing"] == 1
    others = [table[ALL, action]["mean_mm"] for action in ("Greeting", "Waiting")]
    assert table[ALL, MEAN_OF_ACTIONS]["mean_mm"] == pytest.approx(np.mean(others))
    assert table[ALL, MEAN_OF_ACTIONS]["missing"] == pytest.approx(1 / 3)


# --- Rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damaged", [True, False])
@pytest.mark.parametrize("every", [1, 2, 7])
def test_rows_of_the_test_set(damaged, every):
    subject = np.repeat(["S1", "S9", "S11"], 90)
    scene = np.tile(np.repeat(SCENES, 3), 3)
    rows = kept_rows(subject, scene, damaged=damaged, every=every)
    assert rows.tolist() == twin.tested_rows(subject.tolist(), scene.tolist(), damaged, every)
    assert damaged_rows(subject, scene).sum() == 9
    assert damaged_rows(subject[rows], scene[rows]).any() == damaged


def test_every_zeroth_frame_is_refused():
    with pytest.raises(TriposeError, match="every 0-th frame"):
        kept_rows(np.array(["S9"]), np.array(["Posing-1"]), damaged=True, every=0)


# --- Transfer ---------------------------------------------------------------------------------------------------------


def test_transfer_compares_six_joints_to_the_first():
    """The places of the joints in both skeletons are the published ones."""
    random = np.random.default_rng(0)
    truth, predicted = random.normal(0, 400, (5, 17, 3)), random.normal(0, 400, (5, 17, 3))
    errors = transferred(predicted, COCO17, truth)
    for row in range(5):
        ours, theirs = truth[row, [10, 11, 15, 14, 1, 4]], predicted[row, [10, 8, 9, 7, 14, 13]]
        limbs = COCO17.indices(TRANSFER_JOINTS)
        np.testing.assert_allclose(errors.absolute[row, limbs], twin.joint_distances(theirs, ours))
        np.testing.assert_allclose(errors.relative[row, limbs], twin.joint_distances(theirs, ours, root=0))
    assert (errors.relative[:, limbs[0]] == 0).all()
    assert errors.known.sum(1).tolist() == 5 * [6]


def test_a_skeleton_without_the_joints_is_refused():
    with pytest.raises(TriposeError, match="skeleton face has no right_wrist: face and h36m17 cannot be compared"):
        Transferred(Rows(np.zeros((1, 17, 3))), custom("face", ("nose",)))


def test_arrays_that_do_not_fit_are_refused(unchecked):
    pose = np.zeros((4, 17, 3))
    with pytest.raises(TriposeError, match=r"the predictions are \[4, 17, 3\], but skeleton 'mpii16' has 16"):
        protocol_errors(pose, pose[:, :16], MPII16)
    with pytest.raises(TriposeError, match=r"the labels are \[4, 17, 2\]"):
        protocol_errors(pose, pose[..., :2], H36M17)
    with pytest.raises(TriposeError, match="predictions for 4 rows, but labels for 3"):
        protocol_errors(pose, pose[:3], H36M17)


# --- The report -------------------------------------------------------------------------------------------------------


def predictions(groups, seed=0, gaps=0.0):
    """Two methods with four views, one of them with two as well."""
    rows = len(groups)
    parts = []
    for i, (method, views) in enumerate([("dlt", 4), ("mine", 4), ("mine", 2)]):
        found, truth, _, _ = random_poses(seed, rows)
        found = found + i * 20
        found[np.random.default_rng(i).random(found.shape[:2]) < gaps] = NAN
        parts.append((method, np.arange(4) < views, found, truth))
    return Predictions(
        row=np.tile(np.arange(rows), 3),
        method=np.repeat([p[0] for p in parts], rows),
        views=np.repeat([p[1] for p in parts], rows, axis=0),
        keypoints_mm=np.concatenate([p[2] for p in parts]),
        truth_mm=np.concatenate([p[3] for p in parts]),
        group=np.tile(groups, 3),
        skeleton=H36M17,
    )


GROUPS = ["S9/Greeting-2"] * 4 + ["S9/Greeting-1"] * 2 + ["S11/Greeting-2", "S11/Walking-1", "S9/Walking-2"]


def test_tables_of_each_method_and_number_of_views():
    kept = predictions(GROUPS, gaps=0.1)
    table = human36m_table(kept, errors_of(kept))
    heads = [(row["method"], row["views"], row["scenes"]) for row in table]
    assert list(dict.fromkeys(heads)) == [
        ("dlt", 4, "all"),
        ("dlt", 4, "without damaged"),
        ("mine", 4, "all"),
        ("mine", 4, "without damaged"),
        ("mine", 2, "all"),
        ("mine", 2, "without damaged"),
    ]
    some = kept.select((kept.method == "mine") & (kept.n_views == 2) & (kept.group != "S9/Greeting-2"))
    subject, scene = zip(*[g.split("/") for g in some.group], strict=True)
    errors = protocol_errors(some.keypoints_mm, some.truth_mm, H36M17)
    expected = protocol_table(errors, np.array(subject), np.array(scene))
    assert [{"method": "mine", "views": 2, "scenes": "without damaged", **row} for row in expected] == table[
        -len(expected) :
    ]
    json.dumps(table)  # plain Python numbers


def test_sound_scenes_are_told_once():
    kept = predictions(["S11/Greeting-2", "S9/Walking-1"])
    assert {row["scenes"] for row in human36m_table(kept, errors_of(kept))} == {"all"}


def test_markdown():
    kept = predictions(GROUPS, gaps=0.1)
    table = human36m_table(kept, errors_of(kept))
    text = human36m_markdown(table)
    blocks = text.split("### ")
    assert [block.splitlines()[0] for block in blocks[1:]] == [
        "Relative to the pelvis",
        "Relative to the pelvis, without the damaged scenes of S9",
        "Absolute",
        "Absolute, without the damaged scenes of S9",
    ]
    assert "| method | views | subject | Greeting | Walking | mean of actions | all frames | missing |" in text
    row = {
        r["action"]: r for r in table if (r["method"], r["views"], r["scenes"], r["subject"]) == ("mine", 2, "all", ALL)
    }
    cells = [f"{row[a]['mean_mm']:.1f}" for a in ("Greeting", "Walking", MEAN_OF_ACTIONS, ALL)]
    assert f"| mine | 2 | all | {' | '.join(cells)} | {100 * row[ALL]['missing']:.1f} % |" in blocks[3]


def test_which_predictions_are_of_human36m():
    assert is_human36m(predictions(GROUPS))
    assert not is_human36m(predictions(["S9/Greeting-2", "val"]))
    assert not is_human36m(predictions(["S2/Greeting-2"]))
    assert not is_human36m(predictions(GROUPS).select(np.zeros(3 * len(GROUPS), dtype=bool)))


def test_general_tables_by_action():
    """The mean of groups is then that of actions."""
    kept = predictions([f"S9/{action}-{trial}" for action in ACTIONS for trial in (1, 2)])
    shown = by_action(kept)
    assert set(shown.group) == set(ACTIONS)
    general = all_tables(shown, errors_of(shown))["by_group"]
    ours = human36m_table(kept, errors_of(kept))
    for method, views in (("dlt", 4), ("mine", 2)):
        head = {"method": method, "views": views}
        first = next(r for r in general if r.items() >= {**head, "group": MEAN_OF_GROUPS}.items())
        second = next(r for r in ours if r.items() >= {**head, "subject": ALL, "action": MEAN_OF_ACTIONS}.items())
        assert first["mean_mm"] == pytest.approx(second["mean_mm"])
        assert first["relative_mm"] == pytest.approx(second["relative_mm"])
