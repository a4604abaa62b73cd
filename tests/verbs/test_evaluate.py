"""From models and samples to a folder of tables and plots, and from kept predictions to the same again."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch

from people import small_model
from readers import Reader, Written
from tripose.errors import TriposeError
from tripose.evaluation.methods import baselines, learned
from tripose.evaluation.predictions import Predictions
from tripose.evaluation.report import write_report
from tripose.evaluation.run import evaluate as run
from tripose.models.weights import save_model
from tripose.verbs.evaluate import evaluate, evaluate_again, parse_classical, parse_models

FILES = ["curves.png", "joints.png", "metrics.json", "predictions.npz", "report.md", "views.png"]


def strict_json(path):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.fixture(scope="module")
def found():
    samples = Written([4] * 5, wrong=frozenset([(0, 1), (3, 2)]), groups=("clear", "occluded"))
    reader = Reader()
    methods = [*baselines(["dlt", "ransac"], reader), learned("mine", reader)]
    return run(samples, methods, ["all", "pairs"])


def test_a_report_is_written_and_made_again(found, tmp_path):
    tables = write_report(found, tmp_path / "eval", {"data": "five rows"})
    assert sorted(p.name for p in (tmp_path / "eval").iterdir()) == FILES
    held = strict_json(tmp_path / "eval" / "metrics.json")
    assert held["about"] == {"data": "five rows", "skeleton": "coco17, 17 joints", "rows": "5"}
    assert len(held["by_group"]) == len(tables["by_group"]) == 2 * 3 * 4
    assert {(r["first"], r["second"]) for r in held["by_pair"]} >= {("cam1", "cam2"), ("cam3", "cam4")}
    for name in FILES:
        if name.endswith(".png"):
            image = cv2.imread(str(tmp_path / "eval" / name))
            assert image.shape[0] > 300
            assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20  # something is drawn
    kept = tmp_path / "eval" / "predictions.npz"
    evaluate_again([kept, kept], tmp_path / "again", about={"data": "five rows"})
    for name in ("metrics.json", "report.md"):
        assert (tmp_path / "again" / name).read_text() == (tmp_path / "eval" / name).read_text()


def test_missing_figures_are_null(found, tmp_path):
    some = found.select(found.method == "dlt")
    lost = Predictions(**{**some.__dict__, "keypoints_mm": np.full_like(some.keypoints_mm, np.nan)})
    write_report(lost, tmp_path, {})
    row = strict_json(tmp_path / "metrics.json")["by_group"][0]
    assert (row["mean_mm"], row["missing"], row["pck_150mm"]) == (None, 1.0, 0.0)


@pytest.mark.slow
def test_models_are_evaluated(tmp_path):
    """Random weights: what comes out is nothing but complete."""
    save_model(small_model("algebraic", confidences="none"), tmp_path / "model")
    tables = evaluate(
        {"mine": tmp_path / "model"},
        Written([3, 2]),
        tmp_path / "eval",
        classical=("ransac",),
        views=["all", 2],
        dtype=torch.float32,
        about={"data": "noise"},
    )
    assert {(r["method"], r["views"], r["rows"]) for r in tables["by_group"]} == {
        (m, v, n) for m in ("mine", "ransac") for v, n in ((3, 1), (2, 2))
    }
    about = strict_json(tmp_path / "eval" / "metrics.json")["about"]
    assert about["model mine"] == str(tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "eval").iterdir()) == FILES


def test_models_are_named_by_their_folders_or_as_is_said():
    assert parse_models(["runs/first/best", "second=runs/second/best", "volumetric-synthetic/"]) == {
        "best": "runs/first/best",
        "second": "runs/second/best",
        "volumetric-synthetic": "volumetric-synthetic/",
    }
    with pytest.raises(TriposeError, match="two models are called 'best'"):
        parse_models(["a/best", "b/best"])


def test_classical_methods_are_named_or_none():
    assert parse_classical("irls, dlt") == ["dlt", "irls"]
    assert parse_classical("none") == []
    with pytest.raises(
        TriposeError, match="no method of keypoints is called 'svd'; there are dlt, ransac, irls, fusion"
    ):
        parse_classical("svd")


def test_bad_input_is_one_sentence(tmp_path, found):
    (tmp_path / "file").write_text("")
    with pytest.raises(TriposeError, match="no model is given"):
        evaluate({}, Written([2]), tmp_path / "eval")
    with pytest.raises(TriposeError, match="none"):
        evaluate({"mine": tmp_path / "none"}, Written([2]), tmp_path / "eval")
    with pytest.raises(TriposeError, match="file is a file; an evaluation is a folder"):
        evaluate({"mine": tmp_path / "none"}, Written([2]), tmp_path / "file")
    with pytest.raises(TriposeError, match="no file of predictions"):
        evaluate_again([tmp_path / "none.npz"], tmp_path / "eval")
    with pytest.raises(TriposeError, match="no predictions"):
        evaluate_again([], tmp_path / "eval")
    found.select(found.row < 0).save(tmp_path / "empty.npz")
    with pytest.raises(TriposeError, match="nothing to evaluate"):
        evaluate_again([tmp_path / "empty.npz"], tmp_path / "eval")
    assert not (tmp_path / "eval").exists()
