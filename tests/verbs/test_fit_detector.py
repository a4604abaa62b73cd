from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from scene import observe, ring, walk_mm, write_recording
from tripose.train.config_file import read_config

ROOT = Path(__file__).resolve().parents[2]


def fit(*words):
    command = [sys.executable, "-m", "tripose.cli", "fit-detector", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_noise_of_recordings_goes_into_a_training_configuration(tmp_path):
    pytest.importorskip("lightning")
    folders = []
    for name, noise_px in (("steady", 4.0), ("shaky", 12.0)):
        seen = observe(ring(4), [walk_mm(40)], noise_px)
        seen[::5, 1, 0, 9] = np.nan
        folders.append(write_recording(tmp_path / name, ring(4), seen))
    done = fit(*folders, "--skeleton", "coco17", "--out", tmp_path / "detector.yaml")
    assert done.returncode == 0, done.stderr
    assert "usual error" in done.stdout
    noise = yaml.safe_load((tmp_path / "detector.yaml").read_text())["noise"]
    low, high = noise["sigma"]
    assert low < high / 2
    assert 0.004 < low < 0.02
    config = yaml.safe_load((ROOT / "configs/fusion.yaml").read_text())
    config["data"]["noise"] = noise
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    assert read_config(tmp_path / "mine.yaml").data.noise.sigma == (low, high)


def test_what_cannot_be_fitted_is_said(tmp_path):
    two = write_recording(tmp_path / "two", ring(2), observe(ring(2), [walk_mm(5)]))
    refused = fit(two, "--skeleton", "coco17", "--out", tmp_path / "detector.yaml")
    assert refused.returncode == 2
    assert "2 views: a view is judged by the others" in " ".join(refused.stderr.split())
    assert not (tmp_path / "detector.yaml").exists()
