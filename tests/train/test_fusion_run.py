from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from detected import bodies
from tripose.data.detections.samples import simulate
from tripose.errors import TriposeError
from tripose.geometry.ray_fusion import RayBundle
from tripose.models.fusion_certainty import distances, radius
from tripose.models.fusion_joints import layout_of
from tripose.models.fusion_stage import Fused
from tripose.models.weights import load_fusion
from tripose.skeleton import COCO17
from tripose.train.config_file import read_config
from tripose.train.fusion_body import mean_body
from tripose.train.fusion_config import FusionConfig
from tripose.train.fusion_objective import objective, surprise
from tripose.train.fusion_task import SimulatedBatches, calibrated
from tripose.train.run import train

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("lightning")


def keep_people(folder: Path) -> None:
    """Bodies of a few steps of a walk, as if they had been made before."""
    folder.mkdir()
    for half, n in (("train", 60), ("test", 70)):
        np.savez(folder / f"{half}.npz", people=bodies(n).numpy(), seed=1, poses=half)


def test_samples_are_for_models_that_see_images(tmp_path):
    config = read_config(ROOT / "configs/fusion_smoke.yaml")
    with pytest.raises(TriposeError, match="a fusion model learns from simulated keypoints"):
        train(config, tmp_path / "run", samples=([], None))


def test_a_short_run_learns_goes_on_and_calibrates(tmp_path):
    keep_people(tmp_path / "people")
    settings = ["data.people=60", "data.val_people=70", f"data.keep={tmp_path / 'people'}", "batch_size=32"]
    settings += ["steps=24", "validate_every=12", "checkpoint_every=6", "log_every=6", "optimiser.warmup_steps=4"]
    settings += ["model.channels=16", "model.view_channels=8", "model.layers=1"]
    command = [
        sys.executable,
        "-m",
        "tripose.cli",
        "train",
        ROOT / "configs/fusion_smoke.yaml",
        "--out",
        tmp_path / "a",
    ]
    words = [*map(str, command), *(word for s in settings for word in ("--set", s))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    validations = json.loads((tmp_path / "a" / "metrics.json").read_text())["validations"]
    assert [v["step"] for v in validations] == [0, 12, 24]
    assert validations[-1]["capped_mpjpe_mm"] < validations[0]["capped_mpjpe_mm"]
    model = load_fusion(tmp_path / "a" / "last")
    assert (model.covariance_scale[2:] != 1).all()
    assert (model.template[:, 0] >= 0).all()
    assert "finished" in subprocess.run(words, capture_output=True, text=True, check=False).stderr


def test_batches_are_functions_of_their_number():
    batches = SimulatedBatches(bodies(), 4, 7, FusionConfig.model_fields["data"].annotation(people=1).noise)
    (name, one), (again, two) = batches[3], batches[3]
    assert name == again
    assert torch.equal(one.score, two.score)
    assert len({batches[i][1].score.shape for i in range(8)}) > 1


def test_the_configuration_says_what_is_wrong_with_it(tmp_path):
    assert isinstance(read_config(ROOT / "configs/fusion.yaml"), FusionConfig)
    with pytest.raises(TriposeError, match=r"data\.noise\.sigmas is unknown; did you mean sigma"):
        read_config(ROOT / "configs/fusion.yaml", ["data.noise.sigmas=[0.1,0.2]"])
    with pytest.raises(TriposeError, match=r"model\.heds is unknown; did you mean heads"):
        read_config(ROOT / "configs/fusion.yaml", ["model.heds=3"])
    with pytest.raises(TriposeError, match="view_channels is 32, which 3 heads cannot share"):
        read_config(ROOT / "configs/fusion.yaml", ["model.heads=3"])
    with pytest.raises(TriposeError, match=r"sigma is \[0.0, 0.01\]; expected two numbers"):
        read_config(ROOT / "configs/fusion.yaml", ["data.noise.sigma=[0,0.01]"])


def test_regions_of_calibrated_errors_hold_what_they_say():
    g = np.random.default_rng(0)
    views = np.repeat([2, 3], 4000)
    setting = g.integers(4, size=8000)
    # Too sure where it is sure: an answer that is wider by a factor is further off by less than that.
    wide = np.where(setting % 2, 1.0, -1.0)[:, None] + 0.1 * g.normal(size=(8000, 3))
    squared = 2.5 * np.exp(-0.2 * wide) * 3 * g.f(3, 8, size=(8000, 3))
    scale, power, freedom = calibrated(views, setting, squared, wide)
    assert scale[2:4] == pytest.approx(2.5, rel=0.15)
    assert power[2:4] == pytest.approx(-0.2, abs=0.051)
    for level in (0.5, 0.9, 0.95):
        for kind in (0, 1):
            some = (views == 2) & (setting == kind)
            inside = squared[some] <= scale[2] * np.exp(power[2] * wide[some]) * radius(level, freedom[2])
            assert inside.mean() == pytest.approx(level, abs=0.02)
    assert (scale[5], power[5]) == (1, 0)


def test_surprise_is_scipys_student_t():
    from scipy.stats import multivariate_t

    g = torch.Generator().manual_seed(0)
    error = torch.randn(2, 4, 3, generator=g).double()
    square = torch.randn(2, 4, 3, 3, generator=g).double()
    shape = square @ square.mT + torch.eye(3)
    said = Fused(error, shape, shape, shape, error)
    found = surprise(said, torch.zeros_like(error))
    theirs = [
        -multivariate_t.logpdf(e, shape=s, df=5) for e, s in zip(error.flatten(0, 1), shape.flatten(0, 1), strict=True)
    ]
    np.testing.assert_allclose(np.diff(found.flatten()), np.diff(theirs), rtol=1e-6)
    np.testing.assert_allclose(
        distances(error, shape)[0, 0], error[0, 0] @ torch.linalg.inv(shape[0, 0]) @ error[0, 0], rtol=1e-9
    )


def test_people_whom_one_view_sees_do_not_count_in_the_loss():
    model = load_fusion("fusion-simulated")
    seen = simulate(bodies(), 6, 3, COCO17, FusionConfig.model_fields["data"].annotation(people=1).noise,
                    torch.Generator().manual_seed(0))  # fmt: skip
    score = seen.score.double()
    score[0, 1:], score[1] = 0, 0
    rays = RayBundle(seen.origin.double(), seen.direction.double(), score)
    answers = model(rays, layout_of(COCO17.joints))
    loss = objective(answers, seen.truth.double(), score)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    elsewhere = seen.truth.double().clone()
    elsewhere[:2] += 5
    assert objective(answers, elsewhere, score) == loss


def test_the_mean_body_stands_upright_and_is_symmetric():
    template, length = mean_body(bodies())
    assert (template[:11, 0] > 0).all()
    assert template[11:, 0].abs().max() < 1e-6
    assert (length > 0.05).all()
