"""Synthetic data sets and recordings as files: made once, mended, grown, and read like any other."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open

pytest.importorskip("numba")

from tripose.cli.training import _range
from tripose.data.shards import open_shards
from tripose.data.synthetic.people import People, render
from tripose.errors import TriposeError
from tripose.pose import Pose3D
from tripose.recording import Recording
from tripose.skeleton import HALPE26
from tripose.verbs.check import check, is_sound
from tripose.verbs.synth import synth

PEOPLE = People(seed=4, views=(1, 2), image_size_px=64)


def tripose(*arguments):
    command = [sys.executable, "-m", "tripose.cli", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)


def shards_of(folder):
    return sorted(path.name for path in folder.glob("*.safetensors"))


def content(path):
    """All that a shard holds; the order of its header is the library's whim."""
    with safe_open(path, "pt") as file:
        return file.metadata(), {name: file.get_tensor(name).numpy().tobytes() for name in file.keys()}  # noqa: SIM118


@pytest.mark.slow
def test_a_data_set_is_made_once_and_mended_and_grows_and_shrinks(bodies, tmp_path, monkeypatch):
    monkeypatch.setattr("tripose.verbs.synth.SAMPLES_PER_SHARD", 2)
    told = []

    def make(samples):
        told.clear()
        synth(PEOPLE, samples, tmp_path, workers=1, progress=lambda done, total: told.append((done, total)))

    make(3)
    first, last = (tmp_path / f"{name}.safetensors" for name in ("00000000-00000002", "00000002-00000003"))
    assert shards_of(tmp_path) == [first.name, last.name]
    assert sorted(told)[-1] == (3, 3)
    for i, read in enumerate(open_shards(tmp_path, "halpe26")):
        expected = render(PEOPLE, i).sample("halpe26")
        np.testing.assert_array_equal(read.images, expected.images)
        np.testing.assert_array_equal(read.keypoints_mm, expected.keypoints_mm)
        np.testing.assert_array_equal(read.visible, expected.visible)
        assert torch.equal(read.cameras.P, expected.cameras.P)
        assert read.cameras.up == "z"
    before, stamp = content(first), last.stat().st_mtime_ns

    make(3)  # finished
    assert told == []
    assert last.stat().st_mtime_ns == stamp

    third = open_shards(tmp_path, "h36m17")[2]
    first.unlink()  # interrupted, and more are wanted
    make(5)
    assert shards_of(tmp_path) == [first.name, "00000002-00000004.safetensors", "00000004-00000005.safetensors"]
    assert sorted(told)[-1] == (5, 5)
    assert content(first) == before
    grown, stamp = open_shards(tmp_path, "h36m17"), first.stat().st_mtime_ns
    assert len(grown) == 5
    np.testing.assert_array_equal(grown[2].images, third.images)
    np.testing.assert_array_equal(grown[2].keypoints_mm, third.keypoints_mm)

    make(2)
    assert shards_of(tmp_path) == [first.name]
    assert first.stat().st_mtime_ns == stamp
    with pytest.raises(TriposeError, match=r"holds other synthetic people, see .*synth\.json; choose another folder"):
        synth(replace(PEOPLE, seed=5), 2, tmp_path, workers=1)
    assert content(first) == before


@pytest.mark.slow
def test_the_command_makes_a_data_set(bodies, tmp_path):
    asked = ("--samples", 2, "--seed", 4, "--views", "1-2", "--difficulty", "clear", "--poses", "test", "--workers", 1)
    done = tripose("synth", tmp_path / "people", *asked)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "people") in done.stdout
    some = open_shards(tmp_path / "people", "h36m17")
    assert len(some) == 2
    expected = render(People(seed=4, views=(1, 2), difficulty="clear", poses="test"), 1).sample("h36m17")
    np.testing.assert_array_equal(some[1].images, expected.images)
    np.testing.assert_array_equal(some[1].keypoints_mm, expected.keypoints_mm)
    assert some[1].group == "clear"


@pytest.mark.slow
def test_the_command_makes_a_sound_recording(bodies, tmp_path):
    folder = tmp_path / "stroll"
    done = tripose("synth", folder, "--recording", "--samples", 2, "--views", 2, "--seed", 1)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in folder.iterdir()) == ["calibration.toml", "cam01.mp4", "cam02.mp4", "truth.nc"]
    recording = Recording.open(folder)
    assert recording.cameras.names == ("cam01", "cam02")
    assert recording.cameras.size_px.tolist() == [[960, 720]] * 2
    assert recording.frame_rate == 25
    truth = Pose3D.load(folder / "truth.nc")
    assert truth.skeleton == HALPE26
    assert truth.up == recording.cameras.up == "z"
    assert truth.position_mm.shape == (2, 1, 26, 3)
    points, _ = recording.cameras.project(torch.from_numpy(truth.position_mm[0, 0]))
    assert ((points > 0) & (points < torch.tensor([960.0, 720.0]))).all(-1).double().mean() > 0.9
    findings = check(recording)
    assert is_sound(findings)
    assert any("thighs and shanks are" in finding.text for finding in findings)


@pytest.mark.parametrize("views", ["5-2", "0", "two", "1-2-3"])
def test_numbers_of_views_that_are_none_are_refused(views):
    with pytest.raises(TriposeError, match=f"--views is '{views}'; expected a number of cameras, or two as in 2-8"):
        _range(views)
    assert _range("4") == (4, 4)
    assert _range("2-8") == (2, 8)


def test_without_numba_nothing_is_rendered_and_stored_sets_are_evaluated(tmp_path):
    people = str(tmp_path / "people")
    script = f"""
import contextlib, sys
sys.modules["numba"] = None
from tripose.cli import main
for line in (["synth", {people!r}], ["evaluate", {people!r}, "--model", "nobody"]):
    sys.argv[1:] = line
    with contextlib.suppress(SystemExit):
        main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr
    first, second = (line for line in done.stderr.splitlines() if "error:" in line)
    assert "the library 'numba', which is not installed: pip install 'tripose[synth]'" in first
    assert "nobody is neither a folder nor a model" in second
    assert not (tmp_path / "people").exists()
