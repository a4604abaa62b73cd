"""Predictions are kept, read again and put together; what does not belong together is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tripose.errors import TriposeError
from tripose.evaluation.predictions import Predictions, merge
from tripose.skeleton import COCO17, MPII16, Skeleton

NAN = np.nan


def predictions(rows, method="dlt", views=((True, True),), skeleton=COCO17, cameras=("left", "right"), seed=0):
    """Every row from every choice of views; what is predicted depends on nothing but that."""
    entries = [(r, v) for r in rows for v in views]
    found = np.stack(
        [
            np.random.default_rng([seed, len(method), r, *map(int, v)]).normal(0, 500, (len(skeleton), 3))
            for r, v in entries
        ]
    )
    truth = np.stack([np.random.default_rng(r).normal(0, 500, (len(skeleton), 3)) for r, _ in entries])
    found[0, 0] = truth[:, -1] = NAN
    return Predictions(
        row=np.array([r for r, _ in entries]),
        method=np.full(len(entries), method),
        views=np.array([v for _, v in entries]),
        keypoints_mm=found,
        truth_mm=truth,
        group=np.array(["even" if r % 2 == 0 else "odd" for r, _ in entries]),
        skeleton=skeleton,
        cameras=cameras,
    )


def same(a, b):
    assert (a.skeleton, a.cameras) == (b.skeleton, b.cameras)
    for name in ("row", "method", "views", "keypoints_mm", "truth_mm", "group"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


# --- On disk ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("skeleton", "cameras"), [(COCO17, ("left", "right")), (Skeleton("pair", ("spine", "nose"), (), root="spine"), ())]
)
def test_what_is_saved_is_read(tmp_path, skeleton, cameras):
    kept = predictions([3, 1, 2], skeleton=skeleton, cameras=cameras)
    kept.save(tmp_path / "predictions.npz")
    same(Predictions.load(tmp_path / "predictions.npz"), kept)
    with np.load(tmp_path / "predictions.npz", allow_pickle=False) as content:
        assert all(content[name].dtype != object for name in content)
    assert [p.name for p in tmp_path.iterdir()] == ["predictions.npz"]


def test_files_that_are_something_else_are_refused(tmp_path, unchecked):
    path = tmp_path / "predictions.npz"
    with pytest.raises(TriposeError, match="there is no file of predictions"):
        Predictions.load(path)
    path.write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(TriposeError, match=r"predictions\.npz cannot be read"):
        Predictions.load(path)
    np.savez(path, row=np.arange(3))
    with pytest.raises(TriposeError, match=r"predictions\.npz does not hold predictions"):
        Predictions.load(path)
    np.savez(path, **dict.fromkeys(("row", "method"), np.array([{}], dtype=object)))
    with pytest.raises(TriposeError, match=r"predictions\.npz cannot be read"):  # a pickle inside
        Predictions.load(path)
    predictions([1, 2]).save(path)
    with np.load(path) as content:
        held = dict(content)
    np.savez(path, **{**held, "keypoints_mm": held["keypoints_mm"][:, :16]})
    with pytest.raises(TriposeError, match=r"npz: the predictions are \[2, 16, 3\], but skeleton 'coco17' has 17"):
        Predictions.load(path)
    np.savez(path, **{**held, "joints": held["joints"][::-1]})
    with pytest.raises(TriposeError, match="joints that are not those of skeleton 'coco17'"):
        Predictions.load(path)
    with pytest.raises(TriposeError, match="there is no folder"):
        predictions([1]).save(tmp_path / "none" / "predictions.npz")


def test_parts_that_do_not_fit_are_refused(unchecked):
    kept = predictions([1, 2])
    with pytest.raises(TriposeError, match=r"group must be \[2\], got \[1\]"):
        replace(kept, group=kept.group[:1])
    with pytest.raises(TriposeError, match="2 views, but 3 camera names"):
        replace(kept, cameras=("a", "b", "c"))


# --- Putting together -------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(parts=st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=5, unique=True), min_size=1, max_size=4))
def test_each_row_counts_once_however_the_work_is_shared(parts):
    """As by a distributed sampler, which repeats rows to give every process as many."""
    views = ((True, True), (True, False))
    whole = predictions(range(7), views=views)
    rows_of_all = {row for rows in parts for row in rows}
    shares = [whole.select(np.isin(whole.row, rows)) for rows in parts]
    merged = merge(*shares)
    expected = whole.select(np.isin(whole.row, sorted(rows_of_all)))
    same(merged, merge(expected))
    assert len(merged) == 2 * len(rows_of_all)
    same(merge(merged, merged), merged)


def test_order_is_by_row_method_and_views():
    merged = merge(
        predictions([2, 0], "irls"), predictions([0, 2], "dlt", views=((True, True), (False, True), (True, False)))
    )
    assert merged.row.tolist() == [0] * 4 + [2] * 4
    assert merged.method.tolist() == ["dlt"] * 3 + ["irls"] + ["dlt"] * 3 + ["irls"]
    assert merged.n_views.tolist() == [1, 1, 2, 2] * 2


def test_names_of_cameras_stay_where_all_have_the_same():
    small, large = predictions([0]), predictions([1], views=((True, False, True),), cameras=("left", "right", "top"))
    merged = merge(small, large)
    assert merged.cameras == ()
    assert merged.views.tolist() == [[True, True, False], [True, False, True]]
    assert merge(small, predictions([1])).cameras == ("left", "right")


def test_rounding_is_no_contradiction_and_other_weights_are():
    kept = predictions([0, 1])
    rounded = replace(kept, keypoints_mm=kept.keypoints_mm + np.random.default_rng(0).normal(0, 0.2, (2, 17, 3)))
    rounded.keypoints_mm[1, 3] += 300  # a robust method that took another pair
    same(merge(kept, rounded), merge(kept))
    other = predictions([0, 1], seed=1)
    with pytest.raises(TriposeError, match="row 0 was predicted by 'dlt' from the same views twice"):
        merge(kept, other)
    lost = replace(kept, keypoints_mm=np.full_like(kept.keypoints_mm, NAN))
    with pytest.raises(TriposeError, match="different results"):
        merge(kept, lost)


def test_parts_of_different_data_are_refused():
    kept = predictions([0, 1])
    with pytest.raises(TriposeError, match="truth or the group of row 1: they are of different data sets"):
        merge(kept, replace(predictions([1], "irls"), group=np.array(["summer"])))
    with pytest.raises(TriposeError, match="truth or the group of row 0"):
        merge(kept, replace(predictions([0, 1], "irls"), truth_mm=kept.truth_mm + 1))
    with pytest.raises(TriposeError, match=r"'coco17' .17 joints. and of 'mpii16' .16 joints. cannot be"):
        merge(kept, predictions([0], skeleton=MPII16))
    with pytest.raises(TriposeError, match="no predictions"):
        merge()
