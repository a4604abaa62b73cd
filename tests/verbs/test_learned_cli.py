"""The commands around learned models, as a user types them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from experiments import SMALL, edited
from people import crop_cameras, random_images, small_model
from tripose.models.weights import load_model, save_model


def tripose(*arguments):
    command = [sys.executable, "-m", "tripose.cli", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=600)


def refused(done, *parts):
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stderr
    assert all(part in done.stderr for part in parts), done.stderr


@pytest.fixture
def published(tmp_path):
    """A checkpoint as the published code saves it, and its experiment file."""
    model = small_model("algebraic", skeleton="h36m17")
    torch.save({f"module.{k}": v for k, v in model.state_dict().items()}, tmp_path / "weights.pth")
    (tmp_path / "alg.yaml").write_text(edited("eval_alg", *SMALL))
    return tmp_path, model


def test_convert_makes_a_model(published):
    folder, model = published
    done = tripose("convert", folder / "weights.pth", folder / "model", "--config", folder / "alg.yaml")
    assert done.returncode == 0, done.stderr
    assert "algebraic, h36m17, resnet18" in done.stdout
    made = load_model(folder / "model")
    assert made.config.legacy_alignment
    assert made.config.channels == "bgr"
    assert all((made.state_dict()[k] == v).all() for k, v in model.state_dict().items())


def test_convert_refuses_a_typo_in_one_sentence(published):
    folder, _ = published
    typo = (folder / "alg.yaml").read_text().replace("use_confidences", "use_confidence")
    (folder / "alg.yaml").write_text(typo)
    done = tripose("convert", folder / "weights.pth", folder / "model", "--config", folder / "alg.yaml")
    refused(done, "alg.yaml", "model.use_confidence", "use_confidences")
    assert not (folder / "model").exists()


def test_the_documented_lines_run(tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "learned.md").read_text()
    lines = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    save_model(small_model("algebraic"), "models/human36m_alg")
    save_model(small_model("volumetric"), "models/human36m_vol")
    known = {"images": random_images(3), "cameras": crop_cameras(3), "view_valid": torch.tensor([[True, True, False]])}
    exec(lines, known)
    assert known["output"]["keypoints_mm"].isfinite().all()


def test_onnx_refuses_what_is_no_model(tmp_path):
    pytest.importorskip("onnxscript")
    refused(tripose("onnx", tmp_path, tmp_path / "x.onnx"), "is not a model", "config.json")


def test_bench_looks_for_its_folder_before_it_measures(tmp_path):
    refused(tripose("bench", "--json", tmp_path / "no" / "bench.json"), "bench.json cannot be written", "no folder")


@pytest.mark.slow
def test_bench_measures_five_things(tmp_path):
    """How large the ratios are depends on the machine; that they are ratios of the right things, on nothing."""
    done = tripose("bench", "--json", tmp_path / "bench.json")
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["threads"] == 1
    assert written["machine"] in done.stdout
    rows = {row["name"]: row for row in written["rows"]}
    assert {"dlt", "ransac", "unproject", "algebraic_frame", "volumetric_frame"} <= rows.keys()
    assert rows["dlt"]["ratio"] > 20
    assert rows["ransac"]["ratio"] > 200
    assert rows["unproject"]["ratio"] > 1.5
    assert rows["unproject"]["peak_31_views_mb"] < 100
    assert all(row["ratio"] == row["twin_s"] / row["seconds"] for row in rows.values())
