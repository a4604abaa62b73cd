"""Training runs, small and whole."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from blobs import Blobs
from small_run import CONFIG, SETS
from tripose.data.batch import as_floats, collate
from tripose.errors import TriposeError
from tripose.models.weights import load_model
from tripose.train.averaging import MovingAverage
from tripose.train.config import TrainConfig
from tripose.train.run import train
from tripose.train.task import judge, rows_of

TESTS = Path(__file__).resolve().parents[1]


def program(*arguments, by=(sys.executable,)):
    environment = os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    command = [*by, str(TESTS / "small_run.py"), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def config(**changes):
    return TrainConfig.model_validate(CONFIG | changes)


def weights(folder):
    return load_file(folder / "model.safetensors")


def same_weights(a, b):
    a, b = weights(a), weights(b)
    return all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run from beginning to end."""
    folder = tmp_path_factory.mktemp("run") / "whole"
    said = []
    result = train(config(), folder, samples=SETS, say=said.append)
    return folder, result, said


@pytest.mark.slow
def test_a_run_leaves_models_figures_and_curves(whole):
    folder, result, said = whole
    assert {p.name for p in folder.iterdir()} == {
        "config.yaml",
        "metrics.json",
        "best",
        "last",
        "last.ckpt",
        "tensorboard",
    }
    assert [v["step"] for v in result["validations"]] == [0, 4, 7]
    assert json.loads((folder / "metrics.json").read_text()) == result
    assert all(math.isfinite(v) for figures in result["validations"] for v in figures.values())
    assert said[0].endswith("the 2D network starts from MoveNet Thunder")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert {"train/loss", "train/keypoints_px", "val/mpjpe_mm"} <= set(events.Tags()["scalars"])
    assert set(events.Tags()["images"]) == {"views", "pose", "heatmaps"}


@pytest.mark.slow
def test_frozen_parts_stay_and_others_do_not(whole):
    from tripose.detect.movenet import load_thunder

    released, trained = load_thunder().state_dict(), weights(whole[0] / "last")
    stem, pyramid = "encoder.stem.weight", "pyramid.lateral.0.weight"
    assert torch.equal(trained[f"backbone.{stem}"], released[stem])
    assert not torch.equal(trained[f"backbone.{pyramid}"], released[pyramid])


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_happened(whole, tmp_path):
    folder = tmp_path / "killed"
    killed = program(folder, "--kill", "step 6: loss")
    assert killed.returncode == -9, killed.stderr
    assert not (folder / "metrics.json").exists()
    again = program(folder)
    assert again.returncode == 0, again.stderr
    assert "goes on from" in again.stdout
    assert "step 4" not in again.stdout
    assert same_weights(folder / "last", whole[0] / "last")
    assert same_weights(folder / "best", whole[0] / "best")
    assert (folder / "metrics.json").read_text() == (whole[0] / "metrics.json").read_text()


@pytest.mark.slow
def test_two_processes_judge_like_one(tmp_path):
    """Five samples for two processes: one sample is seen twice and counts once."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = program(tmp_path / "run", "--set", '{"steps": 2}', by=torchrun)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "run" / "metrics.json").read_text())["validations"][-1]
    model, samples = load_model(tmp_path / "run" / "last"), SETS[1]
    batch = collate([samples[i] for i in range(5)], range(5))
    with torch.inference_mode():
        output = model(as_floats(batch["images"]), batch["cameras"], batch["view_valid"])
    alone = judge(rows_of(output, batch).numpy(), 17)
    assert told.pop("step") == 2
    assert told == pytest.approx(alone, rel=1e-4)
    assert done.stdout.count("step 2: mpjpe_mm") == 1


def test_a_sample_counts_once():
    rows = np.array(
        [[3, 1, 1, 2.0, 2.0, 10.0, 20.0], [0, 1, 0, 4.0, 4.0, 30.0, np.nan], [3, 1, 1, 2.0, 2.0, 10.0, 20.0]]
    )
    figures = judge(rows, 2)
    assert figures["mpjpe_mm"] == 20
    assert figures["missing_share"] == 0
    assert figures["error_px"] == 3


def test_the_average_is_the_one_that_is_written_down():
    task, average = lightning.LightningModule(), MovingAverage(0.2)
    task.weight = torch.nn.Parameter(torch.zeros(1))
    average.setup(None, task, "fit")
    expected = 0.0
    for t in range(4):
        task.weight.data += 1
        trainer = lightning.Trainer(barebones=True)
        trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = t + 1
        average.on_train_batch_end(trainer, task, None, None, t)
        decay = min(0.2, (1 + t) / (10 + t)) if t else 0.0
        expected = decay * expected + (1 - decay) * (t + 1)
    average.finish(task)
    assert task.weight.item() == pytest.approx(expected)


# --- What cannot be done is said --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_folder_holds_one_run(whole):
    with pytest.raises(TriposeError, match="holds this run, and it is finished"):
        train(config(), whole[0], samples=SETS)
    with pytest.raises(TriposeError, match="holds a run with another configuration"):
        train(config(steps=8), whole[0], samples=SETS)
    with pytest.raises(TriposeError, match="is not empty and holds no training run"):
        train(config(), whole[0] / "last", samples=SETS)


@pytest.mark.slow
def test_weights_of_another_skeleton_are_refused(whole, tmp_path):
    changed = config(init=str(whole[0] / "last"), model=CONFIG["model"] | {"skeleton": "h36m17"})
    with pytest.raises(TriposeError, match="is a model of coco17, and this run's skeleton is h36m17"):
        train(changed, tmp_path / "a", samples=(OfHuman36M(5), None))
    with pytest.raises(TriposeError, match=r"init: .* is not a model"):
        train(config(init=str(tmp_path)), tmp_path / "b", samples=SETS)


class OfHuman36M(Blobs):
    @property
    def skeleton(self):
        from tripose.skeleton import H36M17

        return H36M17


@pytest.mark.parametrize(
    ("changes", "samples", "sentence"),
    [
        ({}, None, "data.train is missing"),
        ({"data": {"train": {"kind": "shards", "folder": "/nowhere"}}}, None, "/nowhere: no such data set"),
        ({}, (Blobs(0), None), "the data set has no sample"),
        ({}, (OfHuman36M(5), None), "skeleton is h36m17, and model.skeleton is coco17"),
        ({}, (Blobs(5, side_px=96), None), "images are 96 x 96 px; model.image_size_px is .64, 64."),
        (
            {"optimiser": {"frozen": ["backbone.encodr"]}},
            SETS,
            "no part 'backbone.encodr'; did you mean backbone.encoder",
        ),
        ({"optimiser": {"frozen": ["backbone"]}}, SETS, "everything is frozen"),
        ({"model": CONFIG["model"] | {"backbone": "resnet18"}}, SETS, "it has to be movenet"),
    ],
)
def test_a_run_that_cannot_begin(tmp_path, changes, samples, sentence):
    with pytest.raises(TriposeError, match=sentence):
        train(config(**changes), tmp_path / "run", samples=samples)


def test_a_loss_that_the_method_cannot_have(tmp_path):
    wrong = config(losses={"volume_cross_entropy": 1.0}, steps=1)
    for _ in range(2):  # the folder may be used again: nothing was learned
        with pytest.raises(TriposeError, match=r"losses.volume_cross_entropy has a weight, but this method"):
            train(wrong, tmp_path / "run", samples=(Blobs(2), None))
    train(config(steps=2, validate_every=2), tmp_path / "run", samples=(Blobs(2), None))
    assert (tmp_path / "run" / "last" / "model.safetensors").exists()
    (tmp_path / "run" / "last.ckpt").unlink()
    with pytest.raises(TriposeError, match="it is finished"):
        train(config(steps=2, validate_every=2), tmp_path / "run", samples=(Blobs(2), None))


@pytest.mark.slow
def test_the_command(tmp_path):
    (tmp_path / "run.yaml").write_text(json.dumps(CONFIG | {"data": {"train": {"kind": "shards", "folder": "none"}}}))
    command = [sys.executable, "-m", "tripose.cli", "train", "run.yaml", "--set", "steps=2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "error: none: no such data set" in done.stderr
    assert "Traceback" not in done.stderr
