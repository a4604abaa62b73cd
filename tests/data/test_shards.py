"""Stored data sets: what was written is read, in any order and process, and damage is told."""

import pickle

import cv2
import numpy as np
import pytest
import torch

from scene import ring
from tripose.data.rendered import Rendered
from tripose.data.shards import open_shards, write_shard, write_shards
from tripose.errors import TriposeError


def rendered(i: int, views: int) -> Rendered:
    rng = np.random.default_rng(i)
    image = cv2.resize(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8), (64, 64))
    code = cv2.imencode(".jpg", image)[1].tobytes()
    truth = {"halpe26": rng.normal(size=(26, 3)), "h36m17": rng.normal(size=(17, 3))}
    visible = {name: rng.random((views, len(t))) < 0.5 for name, t in truth.items()}
    return Rendered((code,) * views, ring(views), truth, visible, f"group {i % 2}")


@pytest.fixture
def folder(tmp_path):
    write_shard([rendered(i, 2 + i % 3) for i in range(5)], tmp_path / "00000000.safetensors")
    write_shard([rendered(i, 4) for i in range(5, 8)], tmp_path / "00000005.safetensors")
    return tmp_path


@pytest.mark.parametrize("skeleton", ["halpe26", "h36m17"])
def test_samples_are_read_as_written_in_any_order(folder, skeleton):
    shards = open_shards(folder, skeleton)
    assert len(shards) == 8
    for i in (7, 0, 4, 5, 3):
        written, read = rendered(i, 2 + i % 3 if i < 5 else 4), shards[i]
        np.testing.assert_array_equal(read.images, written.sample(skeleton).images)
        np.testing.assert_array_equal(read.keypoints_mm, written.keypoints_mm[skeleton])
        np.testing.assert_array_equal(read.visible, written.visible[skeleton])
        assert read.group == written.group
        assert read.cameras.names == written.cameras.names
        assert read.cameras.up == written.cameras.up
        assert torch.equal(read.cameras.P, written.cameras.P)
    with pytest.raises(IndexError):
        shards[8]


def test_another_process_opens_the_files_itself(folder):
    shards = open_shards(folder, "halpe26")
    first = shards[0]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(shards))[0].images, first.images)


def test_long_sets_become_several_shards(tmp_path, monkeypatch):
    monkeypatch.setattr("tripose.data.shards.SAMPLES_PER_SHARD", 3)
    told = []
    assert write_shards((rendered(i, 2) for i in range(7)), tmp_path, progress=told.append) == 7
    assert told == [3, 6, 7]
    assert [p.name for p in sorted(tmp_path.iterdir())] == [f"0000000{i}.safetensors" for i in (0, 3, 6)]
    np.testing.assert_array_equal(
        open_shards(tmp_path, "h36m17")[5].keypoints_mm, rendered(5, 2).keypoints_mm["h36m17"]
    )


def test_damage_is_told_by_file(folder, tmp_path):
    shard = folder / "00000005.safetensors"
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(TriposeError, match=r"00000005.safetensors cannot be read, it is damaged or incomplete"):
        open_shards(folder, "halpe26")
    start = content.index(b"\xff\xd8\xff")
    shard.write_bytes(content[:start] + b"\0" * 500 + content[start + 500 :])
    with pytest.raises(TriposeError, match=r"00000005.safetensors: image 0 is damaged"):
        open_shards(folder, "halpe26")[5]


def test_what_is_not_there_is_told(folder, tmp_path):
    with pytest.raises(TriposeError, match=r"no truth for the skeleton 'coco17'; it has h36m17, halpe26"):
        open_shards(folder, "coco17")
    with pytest.raises(TriposeError, match=r"nowhere: no such data set; `tripose synth` makes synthetic ones"):
        open_shards(tmp_path / "nowhere", "halpe26")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TriposeError, match=r"empty holds no data set"):
        open_shards(tmp_path / "empty", "halpe26")
