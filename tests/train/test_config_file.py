from __future__ import annotations

from pathlib import Path

import pytest

from tripose.errors import TriposeError
from tripose.train.config_file import read_config, write_config

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))

SMALL = """
model: {method: volumetric, skeleton: coco17, voxels: 32}
data: {train: {kind: shards, folder: somewhere}, views: [2, 4]}
losses: {coordinates_cm: 1.0}
optimiser: {groups: [{parts: [backbone], lr: 1.0e-4}]}
steps: 10
batch_size: 2
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(SMALL)
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_the_configurations_that_ship_are_sound_and_survive_writing(path, tmp_path):
    config = read_config(path)
    write_config(config, tmp_path / "again.yaml")
    assert read_config(tmp_path / "again.yaml") == config


def test_entries_can_be_changed(file):
    changes = ["data.views=[3, 3]", "steps=20", "data.augmentation.mirror=0.25", "optimiser.groups.0.lr=0.5", "init=m"]
    config = read_config(file, changes)
    assert config.data.views == (3, 3)
    assert config.steps == 20
    assert config.data.augmentation.mirror == 0.25
    assert config.optimiser.groups[0].lr == 0.5
    assert config.init == Path("m")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("model.voxals=3", "model.voxals is unknown; did you mean voxels"),
        ("data.train.foldr=x", "data.train.foldr is unknown; did you mean folder"),
        ("data.augmentation.miror=1", "data.augmentation.miror is unknown; did you mean mirror"),
        ("optimiser.groups.0.weigth_decay=0", "optimiser.groups.0.weigth_decay is unknown; did you mean weight_decay"),
        ("setps=3", "setps is unknown; did you mean steps"),
        ("qqqqq=3", "qqqqq is unknown; known are optimiser, steps, batch_size"),
        ("steps=-1", "steps: Input should be greater than 0 (got -1)"),
        ("steps=many", "steps: Input should be a valid integer"),
        ("model.method=magic", "model"),
        ("model.voxels=-1", "voxels is -1; it has to be positive"),
        ("data.views=[4, 2]", "views is [4, 2]; the least number comes first"),
        ("losses.coordinates_cm=0", "no loss has a weight; there are heatmap_cross_entropy"),
        ("data.mirror=0.5", "mirror goes with cache"),
        ("data.calibration_error_px=2", "calibration_error_px goes with cache"),
        ("steps", "--set is 'steps'; expected NAME=VALUE"),
        ("optimiser.groups.4.lr=1", "'4' is no item of the list, which has 1"),
        ("steps.more=1", "steps is 10, which has no entries"),
        ("steps=[", "the value '[' is not YAML"),
    ],
)
def test_what_is_wrong_is_one_sentence(file, change, sentence):
    with pytest.raises(TriposeError) as error:
        read_config(file, [change])
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("text", "sentence"), [("a: [", "is not YAML"), ("- a", "holds list"), ("", "holds NoneType")])
def test_a_file_that_is_no_configuration(tmp_path, text, sentence):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(TriposeError, match=sentence):
        read_config(tmp_path / "run.yaml")
    with pytest.raises(TriposeError, match="cannot be read"):
        read_config(tmp_path / "other.yaml")


def test_a_missing_entry_is_named(file):
    file.write_text(SMALL.replace("steps: 10", ""))
    with pytest.raises(TriposeError, match=r"run.yaml: steps is missing"):
        read_config(file)
