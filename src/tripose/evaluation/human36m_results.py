"""Results of the published code on Human3.6M, judged with its own labels."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from jaxtyping import Int

from tripose.data.human36m.legacy import OfficialLabels, read_labels, read_results, write_results
from tripose.errors import TriposeError
from tripose.evaluation.human36m import kept_rows
from tripose.evaluation.predictions import Predictions
from tripose.evaluation.tables import methods_of
from tripose.skeleton import H36M17, MPII16


def read_official(results: Path, labels: Path, every: int = 1) -> Predictions:
    """Predictions of a test set, with their truth and the scenes as groups.

    Args:
        results: ``results.pkl``, which says nothing about the rows that it is for; their number tells whether the
            damaged scenes are among them.
        labels: ``human36m-multiview-labels-*.npy``.
        every: ``retain_every_n_frames_in_test``.

    Raises:
        TriposeError: a file that is not what it should be, or predictions for another number of rows or joints.
    """
    found_mm, told = read_results(results), read_labels(labels, undistorted=True)  # lenses do not matter here
    skeletons = {len(s): s for s in (H36M17, MPII16)}  # the second is the first 16 joints of the first
    if found_mm.shape[1] not in skeletons:
        raise TriposeError(f"{results} holds {found_mm.shape[1]} joints; Human3.6M's results have 17 or 16")
    rows = _rows(len(found_mm), told, every, results, labels)
    skeleton = skeletons[found_mm.shape[1]]
    return Predictions(
        row=rows,
        method=np.full(len(rows), results.stem),
        views=np.ones((len(rows), len(told.camera_names)), dtype=bool),
        keypoints_mm=found_mm.astype(np.float64),
        truth_mm=told.keypoints_mm[rows, : len(skeleton)].astype(np.float64),
        group=np.array([f"{told.subject[r]}/{told.scene[r]}" for r in rows]),
        skeleton=skeleton,
        cameras=told.camera_names,
    )


def write_official(predictions: Predictions, folder: Path) -> None:
    """Write ``results-METHOD.pkl`` for each method that saw all cameras, as the published code reads it.

    Args:
        predictions: of a whole test set.
        folder: that exists.
    """
    most = predictions.n_views.max()
    for method in methods_of(predictions):
        chosen = (predictions.method == method) & (predictions.n_views == most)
        of_method = predictions.select(np.flatnonzero(chosen)[np.argsort(predictions.row[chosen], kind="stable")])
        name = re.sub(r"[^\w.-]", "-", method)  # which somebody typed: no path
        write_results(folder / f"results-{name}.pkl", of_method.keypoints_mm)


def _rows(number: int, told: OfficialLabels, every: int, results: Path, labels: Path) -> Int[np.ndarray, " row"]:
    kept = [kept_rows(told.subject, told.scene, damaged=damaged, every=every) for damaged in (True, False)]
    for rows in kept:
        if len(rows) == number:
            return rows
    raise TriposeError(
        f"{results} holds predictions for {number} rows, but the test set of {labels} has {len(kept[0])}, or "
        f"{len(kept[1])} without the damaged scenes (--every {every}): it was made for other labels, or every n-th row"
    )
