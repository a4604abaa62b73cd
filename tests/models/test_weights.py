"""Models on disk: what goes in comes out, and what does not belong there is named."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
import torch
from safetensors.torch import save_file

import tripose
from people import small_model
from tripose.errors import TriposeError
from tripose.models import weights
from tripose.models.inference import for_inference
from tripose.models.weights import SHIPPED, load_model, save_model, shipped_models


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "light"
    save_model(small_model("algebraic", confidences="none"), folder)
    return folder


def changed(saved, folder, old, new):
    folder.mkdir()
    (folder / "config.json").write_text((saved / "config.json").read_text().replace(old, new, 1))
    (folder / "model.safetensors").symlink_to(saved / "model.safetensors")
    return folder


@pytest.mark.parametrize("method", ["ransac", "algebraic", "volumetric", "evidence"])
def test_what_is_saved_is_loaded(method, tmp_path):
    model = small_model(method)
    save_model(model, tmp_path / "model")
    loaded = tripose.load_model(tmp_path / "model")
    assert loaded.config == model.config
    assert not loaded.training
    assert all((loaded.state_dict()[k] == v).all() for k, v in model.state_dict().items())
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"skeleton"', '"skeletn"', "skelet"),
        ("coco17", "coco18", "no skeleton is called 'coco18'"),
        ('"backbone": "resnet18"', '"backbone": "resnet19"', "backbone: Input should be 'movenet', 'resnet18'"),
        ('"resnet18"', '"resnet34"', "model.safetensors does not hold the weights of this model; missing: "),
        ('"confidences": "none"', '"confidences": "image"', "missing: backbone.alg_confidences.features.0.bias"),
        ('"method"', '"metod"', "method is missing"),
        ("128", "100", r"image_size_px is \(100, 128\); both sides"),
        ('"multiplier": 100.0', '"multiplier": -1', "multiplier is -1.0; it has to be positive"),
        ('"method": "algebraic"', '"method": "algebra"', "does not match any of the expected tags"),
        ('"softmax": true', '"softmax": true, "volumes": 3', "volumes: Extra inputs are not permitted|Unexpected"),
        ("{", "{{", "JSON"),
    ],
)
def test_a_wrong_configuration_is_one_sentence(saved, tmp_path, old, new, said):
    with pytest.raises(TriposeError, match=said) as caught:
        load_model(changed(saved, tmp_path / "model", old, new))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_voxels_that_cannot_be_halved_are_named(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"method": "volumetric", "skeleton": "coco17", "voxels": 48}))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(TriposeError, match="voxels is 48; the net 'v2v' needs a multiple of 32"):
        load_model(tmp_path)


def test_another_skeleton_is_one_sentence(tmp_path):
    save_model(small_model("evidence", backbone="movenet", skeleton="halpe26"), tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text().replace("halpe26", "coco17"))
    with pytest.raises(TriposeError, match=r"safetensors is a checkpoint of another skeleton: of 26 joints, not 17$"):
        load_model(tmp_path / "model")


def test_weights_in_half_precision_are_computed_in_float32(tmp_path):
    model = small_model("evidence", backbone="movenet")
    save_model(model, tmp_path)
    halves = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_file(halves, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path).state_dict()
    assert all(v.dtype == model.state_dict()[k].dtype for k, v in loaded.items())
    assert all((v == halves[k].to(v)).all() for k, v in loaded.items())


def test_a_model_that_ships_is_loaded_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TriposeError, match="evident is neither a folder nor a model that ships with the package"):
        load_model("evident")
    monkeypatch.setattr(weights, "SHIPPED", tmp_path / "package")
    for name, seed in (("evident", 1), ("another", 2)):
        save_model(small_model("algebraic", seed=seed), tmp_path / "package" / name)
    # Models that ship have one 2D network in common.
    network = small_model("algebraic", seed=1).backbone.state_dict()
    save_file(network, tmp_path / "package" / weights.KEYPOINTS)
    assert shipped_models() == ["another", "evident"]
    with pytest.raises(TriposeError, match=r"^evidnt is neither .* package: another, evident$"):
        load_model("evidnt")
    ours = small_model("algebraic", seed=1).backbone.bn1.running_mean
    assert (load_model("evident").backbone.bn1.running_mean == ours).all()
    assert (load_model("another").backbone.bn1.running_mean == ours).all()
    save_model(small_model("algebraic", seed=3), "evident")  # a folder of that name comes first
    assert (load_model("evident").backbone.bn1.running_mean != ours).any()


def test_a_copy_for_inference_is_not_saved(tmp_path):
    with pytest.raises(TriposeError, match="does not hold the weights of this model; missing: "):
        save_model(for_inference(small_model("algebraic")), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_damaged_or_missing_files_are_named(saved, tmp_path):
    with pytest.raises(TriposeError, match=r"is not a model: it has no config\.json"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_bytes((saved / "config.json").read_bytes())
    with pytest.raises(TriposeError, match=r"it has no model\.safetensors"):
        load_model(tmp_path)
    content = (saved / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(TriposeError, match="damaged or incomplete"):
        load_model(tmp_path)


def test_weights_of_a_model_that_differs_are_listed(saved, tmp_path):
    others = dict(small_model("algebraic", confidences="none").state_dict())
    others["backbone.final_layer.weight"] = torch.zeros(16, 256, 1, 1)
    others["backbone.other"] = others.pop("backbone.bn1.weight")
    save_file(others, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((saved / "config.json").read_bytes())
    with pytest.raises(TriposeError) as caught:
        load_model(tmp_path)
    assert "missing: backbone.bn1.weight" in str(caught.value)
    assert "unknown: backbone.other" in str(caught.value)
    assert "backbone.final_layer.weight is [16, 256, 1, 1], not [17, 256, 1, 1]" in str(caught.value)


def test_the_weights_that_ship_are_those_that_are_told():
    lines = re.findall(r"^    ([0-9a-f]{64})  (\S+)$", (SHIPPED / "README.md").read_text(), re.MULTILINE)
    files = {path.relative_to(SHIPPED).as_posix(): path for path in SHIPPED.rglob("*.safetensors")}
    found = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    assert found == {name: told for told, name in lines}
    assert max(path.stat().st_size for path in files.values()) < 20e6
    assert shipped_models() == ["algebraic-synthetic", "fusion-simulated", "volumetric-synthetic"]
