"""The published experiment files: all load, and a typo is refused by its name; damaged checkpoints are too."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from experiments import EXPERIMENTS, edited
from tripose.errors import TriposeError
from tripose.models.config import Algebraic, Ransac, Volumetric
from tripose.models.official import read_checkpoint
from tripose.models.official_yaml import read_official_config

PUBLISHED = {
    "skeleton": "h36m17",
    "backbone": "resnet152",
    "image_size_px": (384, 384),
    "legacy_alignment": True,
    "channels": "bgr",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}
ALG = Algebraic(**PUBLISHED, confidences="image", softmax=True, multiplier=100.0)
VOL = Volumetric(
    **PUBLISHED, aggregation="softmax", voxels=64, side_mm=2500.0, softmax=True, multiplier=1.0, net="v2v", up="z"
)
EXPECTED = {
    "train_alg": ALG,
    "train_alg_no_conf": Algebraic(**PUBLISHED, confidences="none", softmax=True, multiplier=100.0),
    "train_vol_softmax": VOL,
    "eval_alg": ALG,
    "eval_ransac": Ransac(**PUBLISHED, refine=True),
    "eval_vol_softmax": VOL,
}


@pytest.fixture
def read(tmp_path):
    def read(experiment, *changes):
        path = tmp_path / "experiment.yaml"
        path.write_text(edited(experiment, *changes))
        return read_official_config(path)

    return read


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_six_published_experiments_say_their_model(read, experiment):
    assert read(experiment) == EXPECTED[experiment]


@pytest.mark.parametrize(
    ("old", "new", "attribute", "value"),
    [
        ("[384, 384]", "[256, 192]", "image_size_px", (192, 256)),
        ("image_shape: [384, 384]", "", "image_size_px", (256, 256)),
        ("num_layers: 152", "num_layers: 50", "backbone", "resnet50"),
        ("num_joints: 17", "num_joints: 16", "skeleton", "mpii16"),
        ('kind: "human36m"\nvis', "kind: mpii\nvis", "skeleton", "h36m17"),
        ('method: "softmax"', "method: conf_norm", "aggregation", "conf_norm"),
        ("volume_size: 64", "volume_size: 96", "voxels", 96),
        ("cuboid_side: 2500.0", "cuboid_side: 3000", "side_mm", 3000.0),
        ("volume_multiplier: 1.0", "volume_multiplier: 2.5", "multiplier", 2.5),
        ("volume_softmax: true", "volume_softmax: false", "softmax", False),
        ("lr: 0.0001\n", "lr: 1e-4\n  grad_clip: 1e-3\n", "up", "z"),
    ],
)
def test_a_changed_value_changes_the_model(read, old, new, attribute, value):
    assert getattr(read("eval_vol_softmax", (old, new)), attribute) == value


def test_options_of_the_other_methods_change_their_models(read):
    assert not read("eval_ransac", ("direct_optimization: true", "direct_optimization: false")).refine
    rectified = read("eval_alg", ("softmax: true", "softmax: false"), ("multiplier: 100.0", "multiplier: 1.0"))
    assert (rectified.softmax, rectified.multiplier) == (False, 1.0)


COCO = (('kind: "human36m"\nvis', "kind: coco\nvis"), ('kind: "mpii"', "kind: coco"))


def test_a_coco_model_has_coco_joints_and_y_points_down(read):
    model = read("eval_vol_softmax", *COCO)
    assert (model.skeleton, model.up) == ("coco17", "-y")


def test_centimetres_of_cmu_panoptic_become_millimetres(read):
    assert read("eval_vol_softmax", *COCO, ("cuboid_side: 2500.0", "cuboid_side: 250.0")).side_mm == 2500.0
    with pytest.raises(TriposeError, match=r"model\.cuboid_side is 2\.5; .* 1000 to 10000 mm"):
        read("eval_vol_softmax", ("cuboid_side: 2500.0", "cuboid_side: 2.5"))


def test_a_model_transferred_from_cmu_panoptic_keeps_its_joints_and_its_up_axis(read):
    model = read("eval_vol_softmax", ("use_gt_pelvis: false", "transfer_cmu_to_human36m: true"))
    assert (model.skeleton, model.up) == ("coco17", "-y")


def test_without_the_training_sections_a_model_is_still_described(tmp_path):
    path = tmp_path / "backbone.yaml"
    path.write_text(
        "kind: coco\nimage_shape: [256, 192]\nmodel:\n  name: ransac\n  direct_optimization: true\n"
        "  backbone: {style: simple, num_layers: 50, num_joints: 17}\n"
    )
    size_px = (192, 256)
    expected = Ransac(
        skeleton="coco17", backbone="resnet50", image_size_px=size_px, legacy_alignment=True, channels="bgr"
    )
    assert read_official_config(path) == expected


@pytest.mark.parametrize(
    ("old", "new", "key", "nearest"),
    [
        ("vis_freq", "vis_frq", "vis_frq", "vis_freq"),
        ("criterion", "criteron", "opt.criteron", "opt.criterion"),
        ("volume_size", "volume_sise", "model.volume_sise", "model.volume_size"),
        ("num_layers", "n_layers", "model.backbone.n_layers", "model.backbone.num_layers"),
        ("scale_bbox", "bbox_scale", "dataset.val.bbox_scale", "dataset.val.scale_bbox"),
        ("    shuffle: true", "    shufle: true", "dataset.train.shufle", "dataset.train.shuffle"),
        ("  use_gt_pelvis", "  grad_clip: 1\n  use_gt_pelvis", "model.grad_clip", "opt.grad_clip"),
        ("    undistort", "    labels_path.bak: a\n    undistort", "dataset.train.labels_path.bak", "labels_path"),
        ("\nmodel:", "\nmodell: 1\nmodel:", "modell", "model"),
    ],
)
def test_an_unknown_key_is_refused_by_name_with_the_nearest_known_one(read, old, new, key, nearest):
    with pytest.raises(TriposeError) as caught:
        read("train_vol_softmax", (old, new))
    said = str(caught.value)
    assert "experiment.yaml: " in said
    assert f"{key} is no key" in said
    assert f"{nearest})" in said


@pytest.mark.parametrize(
    ("experiment", "old", "new", "parts"),
    [
        ("eval_vol_softmax", '"simple"', "caffe", ("model.backbone.style", "'caffe'", "'simple'")),
        ("eval_vol_softmax", 'name: "vol"', "name: volumetric", ("model.name is 'volumetric'", "'alg'", "'vol'")),
        ("eval_vol_softmax", 'method: "softmax"', "method: mean", ("volume_aggregation_method is 'mean'", "conf_norm")),
        ("eval_vol_softmax", "num_layers: 152", "num_layers: 51", ("num_layers is 51", "152")),
        ("eval_vol_softmax", "num_joints: 17", "num_joints: 19", ("num_joints is 19", "17 or 16")),
        ("eval_vol_softmax", "num_joints: 17", "num_joints: many", ("num_joints is 'many'", "integer")),
        ("eval_vol_softmax", "volume_size: 64", "volume_size: 48", ("volume_size is 48", "multiple of 32")),
        ("eval_vol_softmax", "cuboid_side: 2500.0", "cuboid_side: .nan", ("cuboid_side is nan",)),
        ("eval_vol_softmax", "[384, 384]", "384", ("image_shape is 384",)),
        ("eval_vol_softmax", 'kind: "mpii"', "kind: coco", ("kind is 'human36m'", "model.kind is 'coco'")),
        ("eval_vol_softmax", '  kind: "mpii"\n', "", ("'vol'", "needs model.kind")),
        ("eval_vol_softmax", "  volume_softmax: true\n", "", ("needs model.volume_softmax",)),
        ("eval_alg", "  use_confidences: true\n", "", ("'alg'", "needs model.use_confidences")),
        ("eval_ransac", "  direct_optimization: true\n", "", ("'ransac'", "needs model.direct_optimization")),
        ("eval_alg", "    num_joints: 17\n", "", ("model.backbone.num_joints is missing",)),
        ("eval_alg", "opt:", "opt: [", ("not a YAML file",)),
        ("eval_alg", "title:", "title: !!python/object/apply:os.getcwd []\nold:", ("not a YAML file",)),
    ],
)
def test_what_is_wrong_in_a_file_is_named(read, experiment, old, new, parts):
    with pytest.raises(TriposeError) as caught:
        read(experiment, (old, new))
    assert "\n" not in str(caught.value)
    for part in ("experiment.yaml: ", *parts):
        assert part in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"just words", b"- a\n- b\n", b"\xff\xfe\x00", b"[" * 5000])
def test_a_file_that_holds_no_keys_is_refused(tmp_path, content):
    path = tmp_path / "experiment.yaml"
    path.write_bytes(content)
    with pytest.raises(TriposeError, match=r"experiment\.yaml"):
        read_official_config(path)


def test_an_absent_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(TriposeError, match=r"cannot be read"):
            read_official_config(path)


def test_models_load_neither_yaml_nor_pydantic():
    code = "import sys, tripose.models.official; print([m for m in ('yaml', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("new_format", [True, False])
def test_damaged_files_are_one_sentence(tmp_path, new_format):
    path = tmp_path / "weights.pth"
    torch.save(
        {f"layer{i}.weight": torch.ones(300) for i in range(40)}, path, _use_new_zipfile_serialization=new_format
    )
    whole = path.read_bytes()
    cut = [whole[:n] for n in (0, 1, 2, 4, 100, 300, 3000, len(whole) // 2, len(whole) - 10)]
    for content in [*cut, b"hello world", b"<!DOCTYPE html><html></html>", bytes(1000)]:
        path.write_bytes(content)
        with pytest.raises(TriposeError) as caught:
            read_checkpoint(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    random = np.random.default_rng(0)
    for place in random.integers(0, len(whole) - 20, 200):
        noise = bytes(random.integers(0, 256, 20, dtype=np.uint8))
        path.write_bytes(whole[:place] + noise + whole[place + 20 :])
        # What was hit may be a number, which nobody can notice.
        with contextlib.suppress(TriposeError):
            read_checkpoint(path)


def test_a_zip_of_something_else_is_no_checkpoint(tmp_path):
    path = tmp_path / "weights.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no weights")
    with pytest.raises(TriposeError, match="not a PyTorch checkpoint"):
        read_checkpoint(path)
