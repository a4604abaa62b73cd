"""Methods over samples: each image is encoded once, every choice of views is decoded as if it were all there is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from people import small_model
from readers import Reader, Written
from tripose import metrics
from tripose.data.batch import as_floats, collate
from tripose.errors import TriposeError
from tripose.evaluation.choices import chosen_views, parse_choices
from tripose.evaluation.methods import Method, as_encoded, baselines, learned, seen_points
from tripose.evaluation.predictions import merge
from tripose.evaluation.run import evaluate
from tripose.geometry.triangulate import METHODS, triangulate
from tripose.models.config import Evidence
from tripose.models.weights import build_model
from tripose.skeleton import H36M17


def mean_mm(found, method=None, **chosen):
    keep = np.ones(len(found), bool) if method is None else found.method == method
    for name, value in chosen.items():
        keep &= getattr(found, name) == value
    assert keep.any()
    return metrics.mean(metrics.joint_errors(found.keypoints_mm[keep], found.truth_mm[keep]))


# --- Choices of views -------------------------------------------------------------------------------------------------


def test_choices_are_read_and_made_of_a_rig():
    assert parse_choices("all, pairs,3 ,left+right") == ["all", "pairs", 3, ("left", "right")]
    rig = ("left", "front", "right")
    assert chosen_views(["all", 3, 2], rig) == [(0, 1, 2), (0, 1)]
    assert chosen_views(["pairs", ("right", "left")], rig) == [(0, 1), (0, 2), (1, 2)]
    assert chosen_views([4], rig) == []
    for text, said in ((" , ", "no views"), ("0", "0 views"), ("-2", "-2 views")):
        with pytest.raises(TriposeError, match=said):
            parse_choices(text)
    with pytest.raises(TriposeError, match="no camera is called 'top'; the rig has left, front, right"):
        chosen_views([("top",)], rig)


# --- What is computed -------------------------------------------------------------------------------------------------


def test_every_method_gets_every_choice_of_every_row():
    samples, reader = Written([4, 3, 4], groups=("a", "b")), Reader()
    methods = [*baselines(METHODS, reader), learned("mine", reader)]
    seen = []
    found = evaluate(samples, methods, ["all", "pairs", 2, 4], progress=lambda *done: seen.append(done))
    # Rows of four cameras: all and six pairs. The row of three: all and three pairs, and no choice of four.
    assert len(found) == 4 * (7 + 4 + 7)
    assert set(zip(found.row.tolist(), found.group.tolist(), strict=True)) == {(0, "a"), (1, "b"), (2, "a")}
    assert found.views.shape[1] == 4
    assert not found.views[found.row == 1, 3].any()
    assert found.cameras == ()  # not the same rig in all rows
    assert seen[-1] == (3, 3)
    for row, sample in enumerate(samples):
        assert (found.truth_mm[found.row == row] == sample.keypoints_mm).all()
    for method in ("dlt", "ransac", "irls", "mine"):
        assert mean_mm(found, method, n_views=4) < mean_mm(found, method, n_views=2) < 40
    assert reader.read == 11 + 1  # each image once, and one to see which networks are the same


def test_choices_equal_samples_that_have_no_other_views():
    samples, reader = Written([4, 4]), Reader()
    found = evaluate(
        samples, [*baselines(METHODS, reader), learned("mine", reader)], ["pairs", ("cam4", "cam2", "cam1")]
    )
    assert found.cameras == ("cam1", "cam2", "cam3", "cam4")
    for entry in range(len(found)):
        sample, views = samples[found.row[entry]], np.flatnonzero(found.views[entry])
        cameras = sample.cameras.select([sample.cameras.names[v] for v in views])
        batch = collate([replace(sample, images=sample.images[views], cameras=cameras)], [0])
        said = reader.encode_views(as_floats(batch["images"]))
        if found.method[entry] == "mine":
            expected = reader.decode(said, batch["cameras"], None, (128, 128))["keypoints_mm"]
        else:
            points, peak = seen_points(said[0], reader.config, (128, 128))
            kind = found.method[entry]
            trusted = peak if kind == "irls" else torch.ones_like(peak)  # as published: the points alone
            expected = triangulate(batch["cameras"], points, trusted, method=kind, scale_px=2.56).position_mm
        np.testing.assert_allclose(found.keypoints_mm[entry], expected[0], atol=1e-6)


def test_a_wrong_view_hurts_the_dlt_and_not_the_robust_methods():
    samples, reader = Written([4] * 6, wrong=frozenset((i, 1) for i in range(6))), Reader()
    found = evaluate(samples, baselines(METHODS, reader))
    assert mean_mm(found, "dlt") > 5 * max(mean_mm(found, "ransac"), mean_mm(found, "irls"))
    assert mean_mm(found, "ransac") < 20


def test_where_two_views_contradict_each_other_the_robust_methods_answer_as_the_dlt():
    reader, samples = Reader(), Written([2], wrong=frozenset([(0, 1)]))
    found = evaluate(samples, baselines(METHODS, reader))
    assert np.isfinite(found.keypoints_mm).all()
    one = evaluate(Written([3]), baselines(["ransac"], reader), [1])  # one view says nothing about depth
    assert np.isnan(one.keypoints_mm).all()


def test_equal_networks_encode_once_and_others_for_themselves():
    same, copy, other = Reader(), Reader(), Reader(shift_px=3.0)
    methods = [learned("same", same), learned("copy", copy), learned("other", other)]
    found = evaluate(Written([4, 4]), methods)
    assert (same.read, copy.read, other.read) == (8 + 1, 1, 8 + 1)
    assert (found.keypoints_mm[found.method == "same"] == found.keypoints_mm[found.method == "copy"]).all()
    assert mean_mm(found, "other") > mean_mm(found, "same") + 20


class Moved(Written):
    """The truth is told five metres from where it is seen."""

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        return replace(sample, keypoints_mm=sample.keypoints_mm + 5000)


def hips_mm(samples):
    return np.stack([s.keypoints_mm[[11, 12]].mean(0) for s in samples])


def test_the_first_method_and_not_the_truth_says_where_a_cuboid_stands():
    reader, rows = Reader(), [3, 2]

    def decode(encoded, cameras, image_size_px, center_mm):
        assert center_mm.isfinite().all()
        return center_mm[:, None].expand(-1, 17, 3)

    told = Method("told", reader, as_encoded, decode, needs_center=True)
    found = evaluate(Moved(rows, noise_px=0.0), [*baselines(["dlt"], reader), told], ["all", 1])
    told_mm = found.keypoints_mm[(found.method == "told") & (found.n_views > 1)]
    np.testing.assert_allclose(told_mm[:, 0], hips_mm(Written(rows)), atol=2.0)
    assert np.isnan(found.keypoints_mm[found.n_views == 1]).all()  # nobody knows where the person is


def small_evidence():
    torch.manual_seed(0)
    size = {"image_size_px": (128, 128), "backbone": "resnet18"}
    model = build_model(Evidence(skeleton="coco17", voxels=16, **size)).eval()
    algebraic = build_model(model.config.algebraic).eval()
    algebraic.load_state_dict(model.algebraic.state_dict())
    return algebraic, model


def test_the_shipped_kind_of_model_shares_its_network_and_needs_two_views_or_a_place():
    """One 2D network for the algebraic model, for the evidence model and for the classical methods."""
    algebraic, evidence = small_evidence()
    samples = Written([3])

    def at_the_hips(encoded, cameras, image_size_px):
        assert image_size_px == (128, 128)
        return torch.as_tensor(hips_mm(samples))

    methods = [*baselines(["irls"], evidence), learned("algebraic", algebraic), learned("evidence", evidence)]
    images = {"algebraic": 0, "evidence": 0}

    def count(name):
        return lambda _, given: images.update({name: images[name] + len(given[0])})

    algebraic.backbone.register_forward_pre_hook(count("algebraic"))
    evidence.algebraic.backbone.register_forward_pre_hook(count("evidence"))
    found = evaluate(samples, [*methods, learned("placed", evidence, at_the_hips)], ["all", 1])
    assert sorted(images.values()) == [1, 1 + 3]
    one_view = found.n_views == 1
    assert np.isnan(found.keypoints_mm[one_view & (found.method != "placed")]).all()
    assert np.isfinite(found.keypoints_mm[one_view & (found.method == "placed")]).all()
    batch = collate([samples[0]], [0])
    with torch.inference_mode():
        expected = evidence(as_floats(batch["images"]), batch["cameras"])
    for name, positions in (("evidence", expected["keypoints_mm"]), ("algebraic", expected["stages"].algebraic_mm)):
        np.testing.assert_allclose(found.keypoints_mm[~one_view & (found.method == name)], positions, atol=0.01)


@pytest.mark.slow
def test_a_volumetric_model_is_given_a_place():
    volumetric, samples = small_model("volumetric"), Written([2], noise_px=0.0)
    found = evaluate(samples, [*baselines(["dlt"], Reader()), learned("volumetric", volumetric)])
    batch = collate([samples[0]], [0])
    with torch.inference_mode():
        expected = volumetric(as_floats(batch["images"]), batch["cameras"], None, torch.as_tensor(hips_mm(samples)))
    np.testing.assert_allclose(found.keypoints_mm[found.method == "volumetric"], expected["keypoints_mm"], atol=2.0)


def test_shared_work_is_the_same_work():
    samples, methods = Written([4, 3, 4, 2, 4]), baselines(["ransac"], Reader())
    whole = evaluate(samples, methods, ["all", "pairs"])
    merged = merge(*(evaluate(samples, methods, ["all", "pairs"], rows=rows) for rows in ([0, 2, 4], [1, 3, 0])))
    assert len(merged) == len(whole)
    assert (merged.row == whole.row).all()
    assert (merged.views == whole.views).all()
    np.testing.assert_allclose(merged.keypoints_mm, whole.keypoints_mm, atol=1e-9)


# --- What is refused --------------------------------------------------------------------------------------------------


def test_bad_input_is_one_sentence():
    reader, samples = Reader(), Written([3])
    mine = learned("mine", reader)
    cases = [
        (samples, [], ["all"], "no method"),
        (Written([]), [mine], ["all"], "has no samples"),
        (samples, [mine, learned("mine", reader)], ["all"], "two methods are called 'mine'"),
        (Written([3], skeleton=H36M17), [mine], ["all"], "mine finds the joints of coco17"),
        (samples, [mine], [5], "no sample has as many cameras"),
        (samples, [mine], [("top",)], "no camera is called 'top'"),
    ]
    for data, methods, choices, said in cases:
        with pytest.raises(TriposeError, match=said):
            evaluate(data, methods, choices)
    other = Reader()
    other.config = replace(other.config, image_size_px=(256, 192))
    with pytest.raises(TriposeError, match="128 x 128 px, but the model of big takes 256 x 192 px"):
        evaluate(samples, [learned("big", other)])


def test_a_method_that_does_not_fit_is_refused():
    with pytest.raises(
        TriposeError,
        match=r"dlt need the heatmaps of an algebraic model.* this is a ransac model",
    ):
        baselines(["dlt"], small_model("ransac"))
    with pytest.raises(TriposeError, match="volumetric has to be told where the person is"):
        evaluate(Written([2]), [learned("volumetric", small_model("volumetric"))])
