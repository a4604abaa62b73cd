from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from blobs import Blobs
from people import config as model_config
from tripose.data.batch import as_floats, collate
from tripose.data.views import mirror
from tripose.errors import TriposeError
from tripose.models.weights import build_model
from tripose.train.batches import TrainBatches, ValidationBatches, mirror_encoded
from tripose.train.config import Data
from tripose.train.encodings import encodings_of
from tripose.train.order import Order

SAMPLES = Blobs(3, side_px=128)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model(model_config("algebraic", confidences="none", multiplier=1.0)).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def kept(model, tmp_path_factory):
    return encodings_of(model, SAMPLES, tmp_path_factory.mktemp("kept"), dtype=torch.float32)


def test_what_was_kept_is_what_the_network_says(model, kept):
    batch = pickle.loads(pickle.dumps(ValidationBatches(kept, 2, centers=False)))[1]
    asked = collate([SAMPLES[2]], [2])
    fresh = model.encode_views(as_floats(asked["images"]), asked["view_valid"])
    for a, b in zip(batch["encoded"], fresh, strict=True):
        torch.testing.assert_close(a.float(), b, rtol=2e-3, atol=2e-3)
    assert torch.equal(batch["cameras"].P, asked["cameras"].P)
    assert batch["cameras"].up == "z"
    for part in ("keypoints_mm", "visible", "view_valid", "index"):
        assert torch.equal(batch[part], asked[part]), part


def test_views_are_chosen_and_mirrored_like_those_of_images(kept):
    data = Data(views=(2, 2), cache=True, mirror=1.0)
    order = Order(3, 2, 5)
    batch = TrainBatches(kept, order, data)[4]
    sample = mirror(SAMPLES[order.index(8)], SAMPLES.skeleton)
    chosen = [list(map(torch.equal, [camera] * 3, sample.cameras.P)).index(True) for camera in batch["cameras"].P[0]]
    assert chosen == sorted(set(chosen))
    heatmaps = kept.read(order.index(8))[1][0]
    expected = mirror_encoded(heatmaps, SAMPLES.skeleton)[chosen]
    assert np.array_equal(batch["encoded"][0][0].numpy(), expected)
    assert np.array_equal(expected[0, SAMPLES.skeleton.index("left_knee"), 3], heatmaps[chosen[0], 14, 3, ::-1])
    assert SAMPLES.skeleton.joints[14] == "right_knee"


def test_half_of_the_cameras_are_wrong_and_nothing_else_is(kept):
    data = Data(cache=True, calibration_error_px=2.0)
    order = Order(3, 2, 5)
    batches = [TrainBatches(kept, order, data)[i] for i in range(20)]
    off_px = []
    for number, batch in enumerate(batches):
        for row, found in enumerate(batch["cameras"].K):
            sample = SAMPLES[order.index(2 * number + row)]
            assert torch.equal(batch["keypoints_mm"][row], torch.from_numpy(sample.keypoints_mm))
            assert torch.equal(batch["cameras"].R[row], sample.cameras.R)
            off_px.append((found - sample.cameras.K)[:, :2, 2])
    off_px = torch.stack(off_px)
    assert 0.3 < (off_px == 0).all((1, 2)).float().mean() < 0.7
    wrong = off_px[(off_px != 0).any(-1).any(-1)]
    assert 0.6 < wrong.std() < 1.8  # uniform in 0..2 from sample to sample: root mean square 1.15


def test_other_weights_and_other_data_are_kept_apart(model, kept):
    place = kept.folder.parent
    assert encodings_of(model, SAMPLES, place, dtype=torch.float32).folder == kept.folder
    assert len(list(place.iterdir())) == 1
    assert encodings_of(model, Blobs(3, side_px=128, seed=1), place, dtype=torch.float32).folder != kept.folder
    other = build_model(model.config).eval().requires_grad_(False)
    assert encodings_of(other, SAMPLES, place, dtype=torch.float32).folder != kept.folder


def test_asking_changes_nothing(model, kept):
    busy = build_model(model.config).train().requires_grad_(False)
    busy.load_state_dict(model.state_dict())
    assert encodings_of(busy, SAMPLES, kept.folder.parent, dtype=torch.float32).folder == kept.folder
    for name, tensor in model.state_dict().items():
        assert torch.equal(busy.state_dict()[name], tensor), name


def test_a_network_that_is_trained_cannot_be_asked_once(model, tmp_path):
    trained = build_model(model.config)
    trained.backbone.conv1.requires_grad_(False)
    with pytest.raises(TriposeError, match=r"not all that images go through is in optimiser\.frozen"):
        encodings_of(trained, SAMPLES, tmp_path)
