from __future__ import annotations

import numpy as np
import pytest
import torch

from blobs import Blobs
from tripose.data.augment import Augmentation
from tripose.errors import TriposeError
from tripose.models.volumetric import root_mm
from tripose.skeleton import COCO17
from tripose.train.batches import TrainBatches, ValidationBatches
from tripose.train.config import Data
from tripose.train.order import Order
from tripose.train.sources import SeenBy

SAMPLES = Blobs(5, views=4)


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in ("images", "view_valid", "keypoints_mm", "center_mm", "index"))


def test_a_batch_is_a_function_of_its_number():
    data = Data(views=(2, 4), augmentation=Augmentation(), view_dropout=0.3, center_jitter_mm=50)
    one, again = (TrainBatches(SAMPLES, Order(5, 3, 1), data) for _ in range(2))
    one[2], one[9]
    assert same(one[4], again[4])
    assert not same(one[4], one[5])


def test_processes_have_the_samples_of_one():
    data = Data(views=(2, 4), center_jitter_mm=50)
    whole = TrainBatches(SAMPLES, Order(5, 4, 1), data)[3]
    for rank in range(2):
        part = TrainBatches(SAMPLES, Order(5, 4, 1), data, rank, 2)[3]
        assert same(part, {k: v[rank::2] for k, v in whole.items() if isinstance(v, torch.Tensor)})


def test_numbers_of_views():
    batches = TrainBatches(SAMPLES, Order(5, 3, 1), Data(views=(2, 4), view_dropout=0.4))
    valid = [batches[i]["view_valid"] for i in range(12)]
    assert {v.shape[1] for v in valid} == {2, 3, 4}
    assert set(torch.cat([v.sum(1) for v in valid]).tolist()) == {2, 3, 4}


def test_cuboids_stand_near_the_truth():
    batches = TrainBatches(SAMPLES, Order(5, 5, 1), Data(center_jitter_mm=30))
    away = np.concatenate(
        [(b["center_mm"] - root_mm(b["keypoints_mm"], COCO17)).abs() for b in map(batches.__getitem__, range(6))]
    )
    assert 25 < away.max() <= 30
    assert away.mean() == pytest.approx(15, abs=3)


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_validation_shows_every_sample_and_gives_every_process_as_many(processes):
    seen = [
        [b["index"] for b in map(v.__getitem__, range(len(v)))]
        for v in (ValidationBatches(SAMPLES, 2, False, r, processes) for r in range(processes))
    ]
    together = torch.cat([torch.cat(s) for s in seen])
    assert set(together.tolist()) == set(range(5))
    assert len({len(torch.cat(s)) for s in seen}) == 1
    assert len(together) < 5 + processes


def test_other_cameras_are_left_out():
    seen = SeenBy(SAMPLES, ("cam2", "cam3"))
    assert len(seen) == len(SAMPLES)
    whole, sample = SAMPLES[1], seen[1]
    assert sample.cameras.names == tuple(n for n in whole.cameras.names if n in ("cam2", "cam3"))
    np.testing.assert_array_equal(sample.images, whole.images[1:3])
    with pytest.raises(TriposeError, match=r"sample 0 is seen by .*, and data's cameras are z"):
        SeenBy(SAMPLES, ("z",))[0]
