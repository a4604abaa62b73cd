from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from people import SIDE_PX, random_images, small_model
from scene import ring
from tripose.errors import TriposeError
from tripose.models.views import crop_projections
from tripose.models.weights import save_model
from tripose.skeleton import BODY25
from tripose.verbs.onnx import _check, export_onnx

AXIS = {"z": (0, 0, 1), "-y": (0, -1, 0), "x": (1, 0, 0), "-z": (0, 0, -1)}
# Samples, views and the up-axis of the world.
SIZES = ((1, 1, "z"), (1, 2, "-y"), (3, 4, "x"), (1, 8, "-z"))

CASES = {
    "algebraic": {"method": "algebraic"},
    "volumetric": {"method": "volumetric", "aggregation": "conf_norm", "legacy_alignment": True, "up": "-y"},
}


def sharpened(method: str, **more: object):
    """A random model whose maps or volumes have peaks: flat ones would average every error away."""
    model = small_model(method, **more)
    last = model.backbone.final_layer if method == "algebraic" else model.volume_net.output_layer
    logits = maps(model)
    mean = logits.mean((0, *range(2, logits.ndim)))
    logits = logits - mean.view(-1, *[1] * (logits.ndim - 2))
    # Rectified volumes are not divided by their sum, so it has to be near one to give positions inside the cuboid.
    relu_volumes = method == "volumetric" and not model.config.softmax
    scale = 1 / logits.relu().sum((-3, -2, -1)).mean() if relu_volumes else 8 / logits.flatten(2).std(-1).mean()
    with torch.no_grad():
        last.weight *= scale
        last.bias.copy_(scale * (last.bias - mean / model.config.multiplier))
    if model.config.softmax:
        assert maps(model).flatten(2).softmax(-1).amax(-1).median() > 0.05
    return model


def maps(model: torch.nn.Module) -> torch.Tensor:
    """Logits of every joint, [sample joint cells...]."""
    output = run(model, *inputs(model, 2, 4, "z"))
    return output["heatmaps"].flatten(0, 1) if output["volumes"] is None else output["volumes"]


def inputs(model: torch.nn.Module, batch: int, views: int, up: str):
    """Smooth random images, the cameras of crops, and where cuboids stand."""
    # Two cameras of a ring of two look at each other, and determine nothing on the line between them.
    rig = ring(8).select([f"cam{i}" for i in (1, 3, 6, 8, 2, 4, 5, 7)[:views]])
    # The crops show 2.2 m; those of the algebraic method 0.4 m, or the rays of its random keypoints would not meet.
    half = 320 if model.config.method == "volumetric" else 60
    rig = rig.crop(torch.tensor([500.0 - half, 510 - half, 500 + half, 510 + half]).expand(views, 4))
    rig = rig.resize(torch.full((views, 2), SIDE_PX))
    random = torch.Generator().manual_seed(batch)
    center_mm = 50 * torch.randn(batch, 3, generator=random, dtype=torch.float64) + torch.tensor([0, 0, 1000.0])
    return random_images(views, batch, seed=views), replace(rig, up=up), center_mm


def run(model, images, cameras, center_mm):
    with torch.no_grad():
        return model(images, cameras, center_mm=center_mm)


def session_of(file):
    """With one thread: idle ones of onnxruntime spin, and keep the tests beside them from their processor."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_one_file_gives_what_torch_gives_for_every_number_of_samples_and_views(case, tmp_path, capfd):
    import onnx

    model = sharpened(**CASES[case])
    save_model(model, tmp_path / "model")
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "model.onnx"

    difference = export_onnx(tmp_path / "model", path)

    assert capfd.readouterr() == ("", "")
    assert max(difference.values()) < 0.05
    assert list(path.parent.iterdir()) == [path]
    session = session_of(path)
    for batch, views, up in SIZES:
        given = images, cameras, center_mm = inputs(model, batch, views, up)
        feed = {"images": images.numpy(), "projections": crop_projections(cameras, images, None).numpy()}
        if model.config.method == "volumetric":
            feed |= {"center_mm": center_mm.numpy(), "world_up": np.array(AXIS[up], dtype=float)}
        names = [o.name for o in session.get_outputs()]
        theirs = dict(zip(names, session.run(None, feed), strict=True))
        ours = run(model, *given)
        if views > 1 or model.config.method == "volumetric":
            assert ours["keypoints_mm"].isfinite().all()
        for name, atol in {"keypoints_px": 1e-3, "keypoints_mm": 0.05, "confidence": 1e-5}.items():
            if name in theirs:
                np.testing.assert_allclose(theirs[name], ours[name], rtol=0, atol=atol, err_msg=f"{name} {views}")

    content = onnx.load(path)
    told = {entry.key: entry.value for entry in content.metadata_props}
    assert json.loads(told["joints"]) == list(model.config.joints.joints)
    assert json.loads(told["config"])["backbone"] == "resnet18"
    assert told["method"] == model.config.method
    assert told["legacy_alignment"] == json.dumps(model.config.legacy_alignment)
    for value in (*content.graph.input, *content.graph.output):
        assert value.doc_string
    size = [d.dim_param or d.dim_value for d in content.graph.input[0].type.tensor_type.shape.dim]
    assert size == ["batch", "view", 3, SIDE_PX, SIDE_PX]

    model.backbone.conv1.weight.data *= 1.2
    with pytest.raises(TriposeError, match=r"model.onnx is not written: its keypoints_(mm|px) would differ"):
        _check(path, model, path)


@pytest.mark.parametrize("library", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_library_is_told_with_the_command_that_installs_it(library, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(TriposeError, match=rf"'{library}'.*pip install 'tripose\[onnx\]'"):
        export_onnx(tmp_path, tmp_path / "model.onnx")


@pytest.mark.parametrize("kind", [{"method": "algebraic", "confidences": "evidence"}, {"method": "evidence"}])
def test_models_that_compare_all_pairs_of_views_are_refused(kind, tmp_path):
    pytest.importorskip("onnxscript")
    save_model(small_model(**kind), tmp_path / "model")
    with pytest.raises(TriposeError, match=r"model weighs views by how far all pairs of them agree"):
        export_onnx(tmp_path / "model", tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_a_ransac_model_is_refused(tmp_path):
    pytest.importorskip("onnxscript")
    save_model(small_model("ransac"), tmp_path / "model")
    with pytest.raises(TriposeError, match=r"model is a RANSAC model, .* export an algebraic model"):
        export_onnx(tmp_path / "model", tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.slow
def test_a_fusion_model_for_any_number_of_views(tmp_path):
    onnx = pytest.importorskip("onnx")
    file = tmp_path / "fusion.onnx"
    command = [sys.executable, "-m", "tripose.cli", "onnx", "fusion-simulated", str(file), "--skeleton", "body25"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "differs from torch by at most" in " ".join(done.stdout.split())
    about = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    assert about["method"] == "fusion"
    assert json.loads(about["joints"]) == list(BODY25.joints)
    session = session_of(file)
    for views in (2, 7):
        g = np.random.default_rng(0)
        origin = 4 * g.normal(size=(3, views, 3))
        direction = g.normal(size=(3, 1, 25, 3)) * 0.4 - origin[:, :, None]
        rays = {
            "origin": origin,
            "direction": direction / np.linalg.norm(direction, axis=-1, keepdims=True),
            "score": g.uniform(0.1, 1, (3, views, 25)),
        }
        position, covariance, weight = session.run(["position", "covariance", "weight"], rays)
        assert position.shape == (3, 25, 3)
        assert (np.linalg.eigvalsh(covariance) > 0).all()
        assert (weight > 0).all()
