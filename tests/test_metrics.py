"""The error measures: numbers by hand, slow twins, invariances, and the published evaluation's recorded figures."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from golden import FOLDER, golden
from reference import metrics as twin
from tripose import metrics
from tripose.errors import TriposeError
from tripose.skeleton import COCO17, H36M17, MPII16, Skeleton, custom

seeds = st.integers(0, 2**32 - 1)
NAN = math.nan


def poses(seed, rows=4, joints=17, spread_mm=30.0, gaps=0.0):
    """Predictions and truth; some of both are NaN."""
    random = np.random.default_rng(seed)
    truth = random.normal(0, 400, (rows, joints, 3)) + random.normal(0, 3000, (rows, 1, 3))
    predicted = truth + random.standard_t(1.5, truth.shape) * spread_mm
    predicted[random.random((rows, joints)) < gaps] = np.nan
    truth[random.random((rows, joints)) < gaps] = np.nan
    return predicted, truth


def by_name(errors, known):
    return {
        "mean": metrics.mean(errors),
        "median": metrics.percentile(errors, 50.0),
        "p99": metrics.percentile(errors, 99.0),
        "above": metrics.share_above(errors),
        "missing": metrics.missing(errors, known),
        "pck": metrics.pck(errors, known),
        "auc": metrics.auc(errors, known),
        "capped": metrics.capped_mean(errors, known),
    }


# --- Numbers by hand --------------------------------------------------------------------------------------------------


def test_figures_of_four_joints():
    errors = np.array([[0.0, 75.0], [150.0, 1000.0]])
    all_known = np.ones((2, 2), bool)
    assert by_name(errors, all_known) == pytest.approx(
        {
            "mean": 306.25,
            "median": 112.5,
            "p99": 150 + 0.97 * 850,
            "above": 0.25,
            "missing": 0.0,
            "pck": 0.75,
            "auc": (1 + 0.5 + 0 + 0) / 4,
            "capped": (0 + 75 + 150 + 500) / 4,
        }
    )


def test_a_missing_joint_is_counted_and_an_unknown_one_is_not():
    errors = np.array([[30.0, NAN, NAN]])
    known = np.array([[True, True, False]])
    found = by_name(errors, known)
    assert found == pytest.approx(
        {
            "mean": 30,
            "median": 30,
            "p99": 30,
            "above": 0,
            "missing": 0.5,
            "pck": 0.5,
            "auc": 0.5 * (1 - 30 / 150),
            "capped": (30 + 500) / 2,
        }
    )
    assert metrics.pck(errors, known, 20.0) == 0


def test_nothing_to_count_is_nan_without_a_warning(recwarn):
    assert all(math.isnan(v) for v in by_name(np.full((2, 3), NAN), np.zeros((2, 3), bool)).values())
    assert not recwarn


def test_distances_and_roots():
    truth = np.array([[[0.0, 0, 0], [10, 0, 0]]])
    predicted = np.array([[[3.0, 4, 0], [10, 0, 12]]])
    assert metrics.joint_errors(predicted, truth).tolist() == [[5, 12]]
    pair = Skeleton("pair", ("pelvis", "nose"), (), root="pelvis")
    assert metrics.relative_errors(predicted, truth, pair).tolist() == [[0, 13]]  # (-3, -4, 12)
    hips = custom("hips", ["left_hip", "right_hip"])
    # The middle is off by (1.5, 2, 6): what remains is (1.5, 2, -6) and its opposite.
    assert metrics.relative_errors(predicted, truth, hips)[0] == pytest.approx([6.5, 6.5])
    assert np.isnan(metrics.relative_errors(predicted, truth, custom("none", ["nose", "left_knee"]))).all()


def test_a_missing_root_leaves_nothing_relative():
    predicted, truth = poses(0)
    predicted[1, H36M17.index("pelvis")] = NAN
    relative = metrics.relative_errors(predicted, truth, H36M17)
    assert np.isnan(relative[1]).all()
    assert np.isfinite(relative[[0, 2, 3]]).all()


# --- Twins and invariances --------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(seed=seeds, gaps=st.sampled_from([0.0, 0.2]))
def test_errors_and_figures_equal_their_twins(seed, gaps):
    predicted, truth = poses(seed, gaps=gaps)
    errors, known = metrics.joint_errors(predicted, truth), metrics.known(truth)
    np.testing.assert_allclose(errors, twin.errors(predicted, truth), rtol=1e-12)
    hips = [COCO17.index("left_hip"), COCO17.index("right_hip")]
    np.testing.assert_allclose(
        metrics.relative_errors(predicted, truth, COCO17), twin.relative_errors(predicted, truth, hips), rtol=1e-10
    )
    mine, theirs = by_name(errors, known), twin.figures(errors, known)
    assert mine.pop("auc") == pytest.approx(theirs.pop("auc"), abs=1 / 3000)
    assert mine == pytest.approx(theirs)


@settings(max_examples=4, deadline=None)
@given(seed=seeds, spread_mm=st.sampled_from([5.0, 100.0]), mirrored=st.booleans())
def test_alignment_equals_its_twin(seed, spread_mm, mirrored):
    """No similarity comes nearer; a mirrored pose is not mirrored back."""
    random = np.random.default_rng(seed)
    truth = random.normal(0, 400, (1, 8, 3))
    predicted = truth * np.array([-1, 1, 1] if mirrored else [1, 1, 1]) + random.normal(0, spread_mm, truth.shape)
    truth[0, 5] = predicted[0, 2] = NAN
    slow = twin.aligned_errors_of_row(predicted[0], truth[0])
    fast = metrics.aligned_errors(predicted, truth)[0]
    np.testing.assert_array_equal(np.isnan(fast), np.isnan(slow))
    assert np.nansum(fast**2) == pytest.approx(np.nansum(slow**2), rel=1e-6)
    np.testing.assert_allclose(fast, slow, atol=0.05)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, gaps=st.sampled_from([0.0, 0.2]))
def test_aligned_errors_do_not_change_under_a_similarity_and_relative_ones_under_a_shift(seed, gaps):
    predicted, truth = poses(seed, gaps=gaps)
    random = np.random.default_rng(seed)
    rotation = Rotation.random(len(truth), rng=random).as_matrix()
    scale = random.uniform(0.3, 3, (len(truth), 1, 1))
    shift = random.normal(0, 5000, (len(truth), 1, 3))

    def moved_mm(points):
        return scale * (points @ rotation.mT) + shift

    np.testing.assert_allclose(
        metrics.aligned_errors(moved_mm(predicted), truth),
        metrics.aligned_errors(predicted, truth),
        atol=1e-7,
        rtol=1e-7,
    )
    np.testing.assert_allclose(
        metrics.relative_errors(predicted + shift, truth, H36M17),
        metrics.relative_errors(predicted, truth, H36M17),
        atol=1e-7,
    )
    np.testing.assert_allclose(metrics.aligned_errors(moved_mm(truth), truth), 0 * truth[..., 0], atol=1e-7)
    at_most = np.sqrt(np.nansum(metrics.joint_errors(predicted, truth) ** 2, axis=1))
    assert (np.sqrt(np.nansum(metrics.aligned_errors(predicted, truth) ** 2, axis=1)) <= at_most + 1e-6).all()


def test_alignment_of_degenerate_rows():
    truth = np.random.default_rng(0).normal(0, 400, (4, 5, 3))
    predicted = truth + 10
    predicted[0, 2:] = NAN  # two joints fit anything
    predicted[1] = 7.0  # all in one place: the best is the middle of the truth
    predicted[2] = NAN
    line = np.linspace(0, 1, 5)[:, None] * [100.0, 0, 0]
    predicted[3], truth[3] = line, line @ Rotation.from_euler("z", 1.0).as_matrix()
    errors = metrics.aligned_errors(predicted, truth)
    assert np.isnan(errors[[0, 2]]).all()
    np.testing.assert_allclose(errors[1], np.linalg.norm(truth[1] - truth[1].mean(0), axis=-1))
    np.testing.assert_allclose(errors[3], 0, atol=1e-9)


# --- Comparing methods ------------------------------------------------------------------------------------------------


def test_ratio_of_proportional_errors_is_certain():
    errors = np.abs(np.random.default_rng(0).normal(30, 10, (50, 17)))
    found = metrics.paired_ratio(0.8 * errors, errors, np.ones_like(errors, bool))
    assert (found.ratio, found.low, found.high) == pytest.approx((0.8, 0.8, 0.8))
    assert (found.joints, found.left_out) == (850, 0)


def test_ratio_counts_joints_that_both_found():
    first, second = np.array([[10.0, NAN, 30, NAN]]), np.array([[20.0, 5, NAN, NAN]])
    found = metrics.paired_ratio(first, second, np.array([[True, True, True, False]]))
    assert (found.ratio, found.joints, found.left_out) == (0.5, 1, 2)
    with pytest.raises(TriposeError, match="no joint in common"):
        metrics.paired_ratio(first[:, 1:], second[:, 1:], np.ones((1, 3), bool))


def test_the_interval_holds_the_true_ratio_about_as_often_as_it_says():
    random, held, trials = np.random.default_rng(1), 0, 120
    for trial in range(trials):
        hard = random.gamma(2, 20, (60, 1))
        second = hard * random.gamma(4, 0.25, (60, 5))
        first = 0.9 * hard * random.gamma(4, 0.25, (60, 5))
        found = metrics.paired_ratio(first, second, np.ones_like(first, bool), resamples=300, seed=trial)
        held += found.low < 0.9 < found.high
    assert 0.88 < held / trials < 1


def test_rows_of_a_cluster_are_drawn_together():
    """Every row given twice says nothing new: the interval stays as wide as with single rows."""
    random = np.random.default_rng(0)
    first, second = random.gamma(2, 20, (2, 40, 5))
    known = np.ones_like(first, bool)
    twice = [np.concatenate([a, a]) for a in (first, second, known)]
    once = metrics.paired_ratio(first, second, known)
    clustered = metrics.paired_ratio(*twice, cluster=np.tile(np.arange(40), 2))
    assert (clustered.ratio, clustered.low, clustered.high) == pytest.approx((once.ratio, once.low, once.high))
    apart = metrics.paired_ratio(*twice)
    assert apart.high - apart.low < 0.85 * (once.high - once.low)


# --- The published evaluation -----------------------------------------------------------------------------------------


PUBLISHED = ("dmg1_human36m_ret1", "dmg0_human36m_ret3", "dmg0_mpii_ret1", "dmg1_transferH36M")


@pytest.mark.parametrize("name", [pytest.param(name, marks=golden) for name in PUBLISHED])
def test_published_figures(name):
    damaged, kind, *_ = name.split("_")
    recorded = json.loads((FOLDER / "h36m_eval_golden.json").read_text())[name]
    with np.load(FOLDER / "h36m_labels_synth.npz") as labels:
        table = labels["table"]
        subject, scene = labels["subject_names"][table["subject_idx"]], labels["action_names"][table["action_idx"]]
    row = np.flatnonzero(np.isin(subject, ["S9", "S11"]))
    if damaged == "dmg0":
        is_damaged = (subject == "S9") & np.isin(scene, ["Greeting-2", "SittingDown-2", "Waiting-1"])
        row = row[~is_damaged[row]]
    row = row[:: 3 if name.endswith("ret3") else 1]
    skeleton = MPII16 if kind == "mpii" else H36M17
    truth = table["keypoints"][row, : len(skeleton)].astype(np.float64)
    predicted = truth + np.random.RandomState(77).standard_normal(truth.shape) * 12 + 4
    if kind == "transferH36M":
        joints = [10, 11, 15, 14, 1, 4]
        truth, predicted = truth[:, joints], predicted[:, joints]
        names = tuple(skeleton.joints[j] for j in joints)
        skeleton = Skeleton("limbs", names, (), root=names[0])
    absolute, relative = metrics.joint_errors(predicted, truth), metrics.relative_errors(predicted, truth, skeleton)
    assert metrics.mean(relative) == pytest.approx(recorded["scalar"], abs=1e-5)
    action = np.array([s.split("-")[0] for s in scene[row]])
    for figures, errors in zip(recorded.get("full", {}).values(), (absolute, relative), strict=False):
        for who in ("S9", "S11", "Average"):
            for what, value in figures[who].items():
                chosen = (subject[row] == who) | (who == "Average")
                chosen &= (action == what) | (what == "Average")
                assert metrics.mean(errors[chosen]) == pytest.approx(value, abs=1e-4, nan_ok=True)
