"""Tables of four rows whose errors are known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tripose import metrics
from tripose.errors import TriposeError
from tripose.evaluation.markdown import error_cells, markdown
from tripose.evaluation.predictions import Predictions, merge
from tripose.evaluation.tables import ALL, MEAN_OF_GROUPS, all_tables, errors_of, methods_of
from tripose.skeleton import Skeleton

TRIO = Skeleton("trio", ("pelvis", "neck", "nose"), (), root="pelvis")
NAN = math.nan
BODY_MM = np.array([[0.0, 0, 1000], [0, 0, 1500], [100, 0, 1700]])
# Errors along y, mm: [row joint]. NaN: not found.
FIRST = [[10.0, 20, 30], [40, 50, NAN], [200, 0, 10], [0, 0, 0]]
SECOND = [[20.0, 40, 60], [80, 100, 7], [400, 0, 20], [NAN, 0, 0]]
GROUPS = ["sit", "sit", "walk", "walk"]


def predicted(method, errors, views=(True, True, False), cameras=("left", "right", "top")):
    found = BODY_MM + np.array(errors)[..., None] * [0.0, 1, 0]
    truth = np.broadcast_to(BODY_MM, found.shape).copy()
    truth[3, 1] = NAN
    return Predictions(
        row=np.arange(4),
        method=np.full(4, method),
        views=np.tile(views, (4, 1)),
        keypoints_mm=found,
        truth_mm=truth,
        group=np.array(GROUPS),
        skeleton=TRIO,
        cameras=cameras,
    )


@pytest.fixture
def tables():
    whole = merge(
        predicted("mine", FIRST),
        predicted("dlt", SECOND),
        predicted("mine", [[5.0] * 3] * 4, (True, True, True)),
        predicted("mine", [[100.0] * 3] * 4, (False, True, True)),
    )
    assert methods_of(whole) == ["dlt", "mine"]
    return all_tables(whole, errors_of(whole))


def one(table, **chosen):
    (row,) = [r for r in table if all(r[k] == v for k, v in chosen.items())]
    return row


def test_groups(tables):
    sitting = one(tables["by_group"], method="dlt", views=2, group="sit")
    assert sitting["rows"] == 2
    assert sitting["mean_mm"] == pytest.approx((20 + 40 + 60 + 80 + 100 + 7) / 6)
    assert sitting["relative_mm"] == pytest.approx((0 + 20 + 40 + 0 + 20 + 73) / 6)
    assert sitting["missing"] == 0
    walking = one(tables["by_group"], method="dlt", views=2, group="walk")
    assert walking["mean_mm"] == pytest.approx((400 + 0 + 20 + 0) / 4)  # without what is unknown or not found
    assert walking["above_150mm"] == 1 / 4
    assert walking["pck_150mm"] == 3 / 5
    assert walking["missing"] == 1 / 5
    assert walking["relative_missing"] == 2 / 5  # the root of a row is missing
    assert walking["capped_500mm"] == pytest.approx((400 + 0 + 20 + 0 + 500) / 5)
    both = one(tables["by_group"], method="dlt", views=2, group=ALL)
    assert both["mean_mm"] == pytest.approx((307 + 420) / 10)
    assert both["rows"] == 4
    mean = one(tables["by_group"], method="dlt", views=2, group=MEAN_OF_GROUPS)
    assert mean["mean_mm"] == pytest.approx((307 / 6 + 420 / 4) / 2)
    # Of two views, `mine` has two pairs of cameras for every row.
    pairs = one(tables["by_group"], method="mine", views=2, group="sit")
    assert pairs["rows"] == 2
    assert pairs["mean_mm"] == pytest.approx((10 + 20 + 30 + 40 + 50 + 600) / 11)
    assert one(tables["by_group"], method="mine", views=3, group="walk")["median_mm"] == 5
    assert not [r for r in tables["by_group"] if r["method"] == "dlt" and r["views"] == 3]


def test_aligned_figures_are_those_of_the_metrics(tables):
    kept = predicted("dlt", SECOND)
    expected = metrics.mean(metrics.aligned_errors(kept.keypoints_mm, kept.truth_mm))
    row = one(tables["by_group"], method="dlt", views=2, group=ALL)
    assert row["aligned_mm"] == pytest.approx(expected)
    assert row["aligned_missing"] == pytest.approx(2 / 11)  # the last row has two joints in common with its truth


def test_joints(tables):
    neck = one(tables["by_joint"], method="dlt", views=2, joint="neck")
    assert (neck["mean_mm"], neck["median_mm"], neck["missing"]) == (pytest.approx(140 / 3), 40, 0)
    nose = one(tables["by_joint"], method="mine", views=2, joint="nose")
    assert nose["missing"] == 1 / 8


def test_pairs(tables):
    assert [(r["method"], r["first"], r["second"]) for r in tables["by_pair"]] == [
        ("dlt", "left", "right"),
        ("mine", "left", "right"),
        ("mine", "right", "top"),
    ]
    assert one(tables["by_pair"], method="mine", first="right")["mean_mm"] == 100
    unnamed = predicted("mine", FIRST, cameras=())
    assert all_tables(unnamed, errors_of(unnamed))["by_pair"] == []


def test_ratios_compare_the_same_views_and_joints(tables):
    row = one(tables["ratios"], group="sit")
    assert (row["method"], row["against"], row["views"]) == ("mine", "dlt", 2)
    assert row["ratio"] == pytest.approx(0.5)
    assert (row["low"], row["high"]) == pytest.approx((0.5, 0.5))
    assert (row["joints"], row["left_out"]) == (5, 1)
    assert len(tables["ratios"]) == 3  # sit, walk, all; of three views there is one method


def test_one_group_is_told_once():
    kept = predicted("dlt", SECOND)
    rows = np.flatnonzero(kept.group == "sit")
    alone = kept.select(rows)
    assert [r["group"] for r in all_tables(alone, errors_of(alone))["by_group"]] == ["sit"]


def test_markdown_shows_what_the_tables_say(tables):
    text = markdown(tables, {"data": "four rows"})
    assert "- data: four rows" in text
    assert error_cells(tables["by_group"])[1] == ["mine", "sit", "3", "5.0", "5.0", "5.0", "0.0 %", "0.0 %"]
    assert "| dlt | sit | 2 | 2 | 51.2 | 50.0 | 99.0 | 0.0 % | 25.5 |" in text
    assert "| mine | dlt | sit | 2 | 0.500 | 0.500 | 0.500 | 30.0 | 60.0 | 5 | 1 |" in text
    assert "| left | right | 72.7 | 36.0 |" in text
    assert "| right | top |  | 100.0 |" in text
    assert "![curves.png](curves.png)" in text


def test_nothing_to_evaluate_is_said():
    kept = predicted("dlt", SECOND)
    with pytest.raises(TriposeError, match="nothing to evaluate: no samples"):
        errors_of(kept.select(np.zeros(4, bool)))
    blind = Predictions(**{**kept.__dict__, "truth_mm": np.full_like(kept.truth_mm, NAN)})
    with pytest.raises(TriposeError, match="nothing to evaluate: no joint has a truth"):
        errors_of(blind)
