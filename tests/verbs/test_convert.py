"""Published checkpoints become models with the same numbers; anything else is refused and leaves nothing behind."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

import golden
from experiments import EXPERIMENTS, SMALL, SMALL_VOL, edited
from people import crop_cameras, random_images
from tripose.errors import TriposeError
from tripose.models.official_yaml import read_official_config
from tripose.models.weights import build_model, load_model
from tripose.verbs.convert import convert

CENTER_MM = torch.tensor([[0.0, 0.0, 1000.0]])
CHANGES = {name: SMALL_VOL if "vol" in name else SMALL for name in EXPERIMENTS}


def module(names):
    return {f"module.{k}": v for k, v in names.items()}


def bare(names):
    return {k.removeprefix("backbone."): v for k, v in names.items()}


def without_counts(names):
    return {k: v for k, v in names.items() if not k.endswith("num_batches_tracked")}


@pytest.fixture
def published(tmp_path):
    """A random small model of an experiment, its checkpoint's names, and the converter of what is saved as one."""

    class Published:
        out = tmp_path / "model"
        checkpoint = tmp_path / "weights.pth"

        def __init__(self, experiment, *changes):
            self.yaml = tmp_path / f"{experiment}.yaml"
            self.yaml.write_text(edited(experiment, *CHANGES[experiment], *changes))
            torch.manual_seed(0)
            self.model = build_model(read_official_config(self.yaml)).eval()
            for name, value in self.model.state_dict().items():
                if name.endswith("running_mean"):
                    value.uniform_(-0.1, 0.1)
                if name.endswith("running_var"):
                    value.uniform_(0.5, 1.5)
            self.names = dict(self.model.state_dict())

        def convert(self, content, **how):
            torch.save(content, self.checkpoint, **how)
            return convert(self.checkpoint, self.out, self.yaml)

        def refused(self, content, *parts):
            before = sorted(tmp_path.rglob("*"))
            with pytest.raises(TriposeError) as caught:
                self.convert(content)
            for part in parts:
                assert part in str(caught.value)
            assert "\n" not in str(caught.value)
            assert sorted(tmp_path.rglob("*")) == sorted({*before, self.checkpoint})
            return str(caught.value)

    return Published


def same_numbers(model, other):
    images, cameras = random_images(2), crop_cameras(2)
    with torch.no_grad():
        expected, got = (m(images, cameras, None, CENTER_MM) for m in (model, other))
    for key in ("keypoints_mm", "confidence", "keypoints_px"):
        torch.testing.assert_close(got[key], expected[key], rtol=0, atol=0, equal_nan=True)
    # Random heatmaps may put a joint behind a camera; most are in front of all.
    assert expected["keypoints_mm"].isfinite().float().mean() > 0.4


@pytest.mark.parametrize(
    ("experiment", "dressed"),
    [
        ("eval_alg", module),
        ("train_alg_no_conf", lambda names: {"state_dict": names, "epoch": 60}),
        ("eval_ransac", lambda names: {"model_state": module(names)}),
        ("eval_ransac", bare),
        ("eval_ransac", lambda names: {"state_dict": module(without_counts(bare(names)))}),
        pytest.param("eval_vol_softmax", module, marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_checkpoint_gives_the_same_numbers(published, experiment, dressed):
    source = published(experiment)
    returned = source.convert(dressed(source.names))
    assert sorted(p.name for p in source.out.iterdir()) == ["config.json", "model.safetensors"]
    loaded = load_model(source.out)
    assert loaded.config == source.model.config == returned
    assert (loaded.config.legacy_alignment, loaded.config.channels) == (True, "bgr")
    same_numbers(source.model, loaded)


def test_the_confidence_head_of_a_volumetric_model_is_kept(published):
    source = published("eval_vol_softmax", ('method: "softmax"', "method: conf"))
    assert any("vol_confidences" in name for name in source.names)
    source.convert(source.names)
    loaded = load_model(source.out).state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in source.names.items())


def test_a_release_of_16_joints_in_the_old_format(published):
    source = published("eval_ransac", ("num_joints: 17", "num_joints: 16"), ("[128, 128]", "[128, 96]"))
    config = source.convert(without_counts(bare(source.names)), _use_new_zipfile_serialization=False)
    assert (config.skeleton, config.image_size_px) == ("mpii16", (96, 128))
    assert torch.equal(load_model(source.out).backbone.final_layer.weight, source.model.backbone.final_layer.weight)


def test_names_that_are_missing_unknown_or_of_another_shape_are_listed(published):
    source = published("eval_alg")
    names = dict(source.names)
    del names["backbone.bn1.running_var"], names["backbone.conv1.weight"]
    names["backbone.extra.weight"] = torch.zeros(1)
    names["backbone.layer1.0.conv1.weight"] = torch.zeros(64, 64, 1, 1)
    source.refused(
        names,
        "weights.pth",
        "missing: backbone.bn1.running_var, backbone.conv1.weight",
        "unknown: backbone.extra.weight",
        "backbone.layer1.0.conv1.weight is [64, 64, 1, 1], not [64, 64, 3, 3]",
    )


def test_a_head_that_the_experiment_does_not_have_is_unknown(published):
    source = published("train_alg_no_conf")
    source.refused(published("eval_alg").names, "unknown: backbone.alg_confidences.features.0.bias", "and 10 more")


def test_a_head_that_the_experiment_wants_is_missing(published):
    names = published("train_alg_no_conf").names
    published("eval_alg").refused(names, "missing: backbone.alg_confidences.features.0.bias", "and 8 more")


@pytest.mark.parametrize(
    ("experiment", "parts"),
    [
        ("eval_vol_softmax", ("'vol'", "process_features and volume_net are missing", "model.name ransac")),
        ("eval_alg", ("'alg'", "backbone.alg_confidences is missing", "model.name ransac")),
        ("train_alg_no_conf", ("'alg'", "not trained to triangulate", "model.name ransac")),
    ],
)
def test_a_2d_network_alone_is_no_learned_method(published, experiment, parts):
    names = bare(published("eval_ransac").names)
    published(experiment).refused(names, "weights.pth is a 2D network alone", f"{experiment}.yaml", *parts)


def test_another_method_depth_or_number_of_joints_is_one_sentence(published):
    volumetric = published("eval_vol_softmax").names
    source = published("eval_alg")
    source.refused(volumetric, "weights.pth is a volumetric model", "eval_alg.yaml", "'vol'")
    deeper = published("eval_alg", ("num_layers: 18", "num_layers: 34"))
    deeper.refused(source.names, "is a ResNet-18", "model.backbone.num_layers", "is 34")
    fewer = published("eval_alg", ("num_joints: 17", "num_joints: 16"))
    fewer.refused(source.names, "has 17 joints", "model.backbone.num_joints", "is 16")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ({}, "holds no weights by name, but nothing"),
        ([torch.zeros(1)], "but a list"),
        (torch.zeros(1), "but a Tensor"),
        ({"net": {"a": torch.zeros(1)}, "epoch": 3}, "holds other things than weights: net, epoch"),
        ({1: torch.zeros(1)}, "holds other things than weights: 1"),
        (
            {"fc.weight": torch.zeros(1), "fc.bias": torch.zeros(1)},
            "no checkpoint of the published system: its first names are fc.weight, fc.bias",
        ),
        ({"a": torch.zeros(1), "module.a": torch.zeros(1)}, "differ by 'module.' only"),
    ],
)
def test_other_contents_are_refused(published, content, part):
    published("eval_ransac").refused(content, part)


def test_weights_that_are_not_numbers_are_refused(published):
    source = published("eval_ransac")
    names = {**source.names, "backbone.bn1.weight": torch.full((64,), torch.nan)}
    source.refused(names, "not finite", "backbone.bn1.weight")


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("new_format", [True, False])
def test_code_in_a_checkpoint_does_not_run(published, tmp_path, new_format):
    source = published("eval_ransac")
    content = {**source.names, "more": Harmful(tmp_path / "ran")}
    with pytest.raises(TriposeError, match=r"asks for the Python object .*open"):
        source.convert(content, _use_new_zipfile_serialization=new_format)
    source.checkpoint.write_bytes(pickle.dumps(content["more"]))
    with pytest.raises(TriposeError, match=r"weights\.pth"):
        convert(source.checkpoint, source.out, source.yaml)
    assert not (tmp_path / "ran").exists()
    assert not source.out.exists()


def test_python_objects_beside_the_weights_are_named(published):
    source = published("eval_ransac")
    source.refused({"state_dict": source.names, "best": np.float64(1)}, "multiarray.scalar", "save the state_dict()")


def test_absent_files_are_named(published, tmp_path):
    source = published("eval_ransac")
    with pytest.raises(TriposeError, match=r"absent\.pth: there is no such file"):
        convert(tmp_path / "absent.pth", source.out, source.yaml)
    with pytest.raises(TriposeError, match=r"absent\.yaml cannot be read"):
        convert(source.checkpoint, source.out, tmp_path / "absent.yaml")
    with pytest.raises(TriposeError, match="there is no such file"):
        convert(tmp_path, source.out, source.yaml)


def test_a_folder_of_other_things_is_left_alone(published, tmp_path):
    source = published("eval_ransac")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.txt").write_text("years of work")
    source.refused(source.names, "model is not empty and not a model")
    source.out = tmp_path / "model" / "thesis.txt"
    source.refused(source.names, "is a file")
    source.out = tmp_path / "model" / "thesis.txt" / "deeper"
    source.refused(source.names, "thesis.txt")


def test_an_older_model_is_replaced_and_survives_a_failure(published):
    source = published("eval_ransac")
    source.convert(source.names)
    before = {p.name: p.read_bytes() for p in source.out.iterdir()}
    source.refused({"fc.weight": torch.zeros(1)}, "no checkpoint")
    assert {p.name: p.read_bytes() for p in source.out.iterdir()} == before
    other = {**source.names, "backbone.bn1.weight": torch.full((64,), 2.0)}
    source.convert(other)
    assert torch.equal(load_model(source.out).backbone.bn1.weight, other["backbone.bn1.weight"])
    assert sorted(p.name for p in source.out.iterdir()) == sorted(before)


def test_an_empty_folder_and_a_path_of_new_folders_will_do(published, tmp_path):
    source = published("eval_ransac")
    (tmp_path / "model").mkdir()
    source.convert(source.names)
    source.out = tmp_path / "new" / "folders" / "model"
    source.convert(source.names)
    assert load_model(source.out).config == load_model(tmp_path / "model").config


class TestRecordedOutputs:
    """The recorded weights as a checkpoint of a distributed run; the converted model gives the recorded numbers."""

    pytestmark = golden.golden

    @staticmethod
    def converted(tmp_path, experiment, wanted, *changes):
        yaml = tmp_path / "experiment.yaml"
        yaml.write_text(edited(experiment, *CHANGES[experiment], *changes))
        names = {k: v for k, v in golden.weights().items() if wanted(k)}
        torch.save(module(names), tmp_path / "weights.pth")
        convert(tmp_path / "weights.pth", tmp_path / "model", yaml)
        return load_model(tmp_path / "model")

    def test_algebraic(self, tmp_path):
        model = self.converted(
            tmp_path, "eval_alg", lambda k: k.startswith("backbone.") and "vol_confidences" not in k
        ).double()
        recorded = golden.load("alg_conf_mpii")
        with torch.no_grad():
            result = model(golden.images("mpii"), golden.cameras("mpii"))
        for key, name, tolerance in (("keypoints_mm", "3d", 0.01), ("keypoints_px", "2d", 1e-3)):
            difference = result[key].numpy() - recorded[f"keypoints_{name}_f64"]
            assert np.abs(difference).max() < tolerance

    def test_ransac_from_the_2d_network_alone(self, tmp_path):
        yaml = tmp_path / "experiment.yaml"
        yaml.write_text(edited("eval_ransac", *SMALL))
        names = {k: v for k, v in golden.weights().items() if k.startswith("backbone.") and "confidences" not in k}
        torch.save(bare(names), tmp_path / "weights.pth")
        convert(tmp_path / "weights.pth", tmp_path / "model", yaml)
        with torch.no_grad():
            result = load_model(tmp_path / "model")(golden.images("mpii").float(), golden.cameras("mpii"))
        assert np.array_equal(result["keypoints_px"].numpy(), golden.load("ransac_opt_mpii")["keypoints_2d"])

    @pytest.mark.slow
    @pytest.mark.parametrize("kind", ["mpii", "coco"])
    def test_volumetric(self, tmp_path, kind):
        changes = [('kind: "human36m"\nvis', "kind: coco\nvis"), ('kind: "mpii"', "kind: coco")]
        model = self.converted(
            tmp_path, "eval_vol_softmax", lambda k: "confidences" not in k, *(changes if kind == "coco" else [])
        )
        recorded = golden.load(f"vol_softmax_{kind}")
        center_mm = torch.as_tensor(recorded["base_points"])
        with torch.no_grad():
            result = model(golden.images(kind).float(), golden.cameras(kind), None, center_mm)
        assert np.abs(result["keypoints_mm"].numpy() - recorded["keypoints_3d"]).max() < 0.01
