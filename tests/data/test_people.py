"""Random people: the same ones for ever, of human shape, and shown where the truth says."""

from __future__ import annotations

import itertools
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

import tripose.data.synthetic.people as module
from tripose.data.synthetic.bodies import SHAPE, BodyModel, random_shape
from tripose.data.synthetic.motion_body import POSED_BONES
from tripose.data.synthetic.people import People, RandomPeople, render
from tripose.data.synthetic.prior import sample_pose
from tripose.errors import TriposeError
from tripose.skeleton import H36M17, HALPE26

PEOPLE = 8
CLEAR = People(seed=1, difficulty="clear")
SMALL = People(seed=3, views=(2, 2), image_size_px=64)
BOTH = (HALPE26, H36M17)


@pytest.fixture(scope="module")
def rendered(bodies):
    """Eight people in three difficulties."""
    return {
        name: [render(replace(CLEAR, difficulty=name), i) for i in range(PEOPLE)]
        for name in ("clear", "occluded", "truncated")
    }


@pytest.fixture(scope="module")
def posed(bodies):
    """Thirty bodies."""
    sources = [np.random.default_rng(i) for i in range(30)]
    return bodies(np.stack([sample_pose(rng) for rng in sources]), [random_shape(rng) for rng in sources])


def same(a, b):
    assert a.jpeg == b.jpeg
    assert a.cameras.names == b.cameras.names
    assert all(torch.equal(getattr(a.cameras, part), getattr(b.cameras, part)) for part in ("K", "R", "t", "size_px"))
    for name in ("halpe26", "h36m17"):
        np.testing.assert_array_equal(a.keypoints_mm[name], b.keypoints_mm[name])
        np.testing.assert_array_equal(a.visible[name], b.visible[name])
    assert a.group == b.group


def projected(one, skeleton=HALPE26):
    """Joints in pixels, [view joint 2], and whether they are inside of the images."""
    points = one.cameras.project(torch.from_numpy(one.keypoints_mm[skeleton.name]))[0].numpy()
    return points, ((points >= -0.5) & (points < one.cameras.size_px[:, None].numpy() - 0.5)).all(-1)


# --- The same people for ever ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_sample_depends_on_seed_and_index_only(bodies):
    here = [render(SMALL, i) for i in (0, 1)]
    same(render(SMALL, 0), here[0])
    assert here[0].jpeg != here[1].jpeg
    assert render(replace(SMALL, seed=4), 0).jpeg != here[0].jpeg
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:
        second, first = other.map(render, [SMALL] * 2, (1, 0))
    same(first, here[0])
    same(second, here[1])


@pytest.mark.slow
def test_the_first_person_of_seed_0_is_the_one_that_models_were_trained_on(bodies):
    """Whoever changes what is rendered changes the training data, and has to number it anew."""
    one = render(People(seed=0), 0)
    truth = {
        "nose": (-81, 328, 812), "left_wrist": (-189, 575, 510), "right_elbow": (-379, -54, 875),
        "left_ankle": (-140, 400, 114), "head_top": (75, 357, 914), "right_heel": (-463, 150, 156),
    }  # fmt: skip
    found = one.keypoints_mm["halpe26"][[HALPE26.index(joint) for joint in truth]]
    np.testing.assert_allclose(found, list(truth.values()), atol=1.0)
    np.testing.assert_allclose(one.keypoints_mm["h36m17"][H36M17.index("spine")], (-534, 448, 885), atol=1.0)
    np.testing.assert_allclose(one.cameras.K[0, :2], [[1228.1, 0, 403.16], [0, 1224.12, 55.0]], atol=0.1)
    np.testing.assert_allclose(one.cameras.K[3, :2], [[859.58, 0, 68.77], [0, 856.0, 70.57]], atol=0.1)
    colours = [image.mean((0, 1)) for image in one.sample("halpe26").images]
    expected = [[196.2, 174.4, 107.1], [56.4, 67.4, 77.6], [158.5, 143.1, 100.9], [178.3, 158.3, 116.7]]
    np.testing.assert_allclose(colours, expected, atol=1.0)


@pytest.mark.slow
def test_difficulties_share_the_person_the_room_and_the_rig(rendered):
    untouched = 0
    for clear, occluded, truncated in zip(*rendered.values(), strict=True):
        for name in ("halpe26", "h36m17"):
            np.testing.assert_array_equal(occluded.keypoints_mm[name], clear.keypoints_mm[name])
            np.testing.assert_array_equal(truncated.keypoints_mm[name], clear.keypoints_mm[name])
        assert torch.equal(occluded.cameras.K, clear.cameras.K)
        for harder in (occluded, truncated):
            assert torch.equal(harder.cameras.R, clear.cameras.R)
            assert torch.equal(harder.cameras.t, clear.cameras.t)
        assert not torch.equal(truncated.cameras.K, clear.cameras.K)
        # Where nothing is in the way the pictures are the same, up to shadows and what JPEG makes of neighbours.
        images = [one.sample("halpe26").images.astype(int) for one in (clear, occluded)]
        equal = (np.abs(images[0] - images[1]).max(-1) < 16).mean((1, 2))
        assert np.median(equal) > 0.5
        untouched += (equal == 1).all()
    assert untouched < PEOPLE / 2  # not every thing is before a camera
    assert [one.group for one in (clear, occluded, truncated)] == ["clear", "occluded", "truncated"]


@pytest.mark.slow
def test_halves_of_the_prior_have_other_poses(bodies):
    train, test = (render(replace(SMALL, poses=half), 0).keypoints_mm["h36m17"] for half in ("train", "test"))
    assert np.abs(train - test).max() > 100


# --- What is asked for -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_numbers_of_views_layout_and_distances_are_kept(bodies):
    people = replace(SMALL, views=(2, 4), image_size_px=32, layout="ring", distance_mm=(2500.0, 3100.0))
    some = RandomPeople(people, 12)
    counts = set()
    for sample in (some[i] for i in range(12)):
        views = len(sample.images)
        counts.add(views)
        assert sample.images.shape == (views, 32, 32, 3)
        assert sample.cameras.names == tuple(f"cam{i + 1:02d}" for i in range(views))
        assert sample.cameras.up == "z"
        assert sample.keypoints_mm.shape == (26, 3)
        assert sample.visible.shape == (views, 26)
        across = sample.cameras.centers_mm[:, :2].norm(dim=-1)
        assert ((across > 2499) & (across < 3101)).all()
    assert counts == {2, 3, 4}


@pytest.mark.parametrize("index", [-1, 2])
def test_an_index_beyond_the_end_is_an_index_error(index):
    with pytest.raises(IndexError):
        RandomPeople(SMALL, 2)[index]


def test_a_data_set_says_its_joints():
    assert RandomPeople(SMALL, 2).skeleton == HALPE26
    assert RandomPeople(SMALL, 2, "h36m17").skeleton == H36M17
    assert len(RandomPeople(SMALL, 2)) == 2


def test_without_the_package_one_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "anny", None)
    with pytest.raises(TriposeError, match=r"need the package anny: pip install 'tripose\[synth\]'"):
        BodyModel()


# --- The truth -------------------------------------------------------------------------------------------------------


def lengths_mm(bodies, skeleton, a, b):
    truth = np.stack([body.keypoints_mm[skeleton.name] for body in bodies])
    return np.linalg.norm(truth[:, skeleton.index(a)] - truth[:, skeleton.index(b)], axis=-1)


@pytest.mark.slow
@pytest.mark.parametrize("skeleton", BOTH, ids=lambda s: s.name)
def test_people_have_the_bones_of_people(posed, skeleton):
    """From teenagers to tall men; bounds of the whole range of shapes."""
    bounds = {
        ("hip", "knee"): (250, 680), ("knee", "ankle"): (250, 680), ("shoulder", "elbow"): (160, 430),
        ("elbow", "wrist"): (150, 400),
    }  # fmt: skip
    for (a, b), (low, high) in bounds.items():
        left, right = (lengths_mm(posed, skeleton, f"{side}_{a}", f"{side}_{b}") for side in ("left", "right"))
        assert low < min(left.min(), right.min()) < max(left.max(), right.max()) < high
        # Halpe's joints are made of skin that bends with the pose.
        np.testing.assert_allclose(left, right, rtol=0.01 if skeleton is H36M17 else 0.2)
    hips = lengths_mm(posed, skeleton, "left_hip", "right_hip")
    assert 130 < hips.min() < hips.max() < 300


@pytest.mark.slow
def test_people_stand_on_the_floor(posed):
    for body in posed:
        assert body.vertices_mm[:, 2].min() == pytest.approx(0, abs=1)
        assert min(body.keypoints_mm["halpe26"][:, 2]) > 0
        assert np.abs(body.vertices_mm[:, :2].mean(0)).max() < 1


@pytest.mark.slow
@pytest.mark.parametrize("skeleton", BOTH, ids=lambda s: s.name)
def test_left_is_left(bodies, posed, skeleton):
    for body in posed:
        halpe = dict(zip(HALPE26.joints, body.keypoints_mm["halpe26"], strict=True))
        facing = halpe["nose"] - (halpe["left_ear"] + halpe["right_ear"]) / 2
        left = np.cross(halpe["neck"] - halpe["pelvis"], facing)
        joint = dict(zip(skeleton.joints, body.keypoints_mm[skeleton.name], strict=True))
        for name in ("shoulder", "hip"):
            assert (joint[f"left_{name}"] - joint[f"right_{name}"]) @ left > 0
    # At rest, facing -y, all of the left side is at +x.
    middling = {name: (low + high) / 2 for name, (low, high) in SHAPE.items()}
    rest = bodies(np.zeros((1, len(POSED_BONES), 3)), [middling])[0].keypoints_mm[skeleton.name]
    for joint, (x, _, _) in zip(skeleton.joints, rest, strict=True):
        assert (x > 20) == joint.startswith("left")
        assert (x < -20) == joint.startswith("right")


@pytest.mark.slow
def test_the_skeletons_agree_and_the_pelvis_is_between_the_hips(posed):
    shared = [joint for joint in H36M17.joints if joint in HALPE26.joints and joint != "head_top"]
    for body in posed:
        halpe, h36m = (body.keypoints_mm[s.name] for s in BOTH)
        for skeleton in BOTH:
            at = body.keypoints_mm[skeleton.name]
            hips = at[skeleton.indices(["left_hip", "right_hip"])]
            np.testing.assert_allclose(at[skeleton.index("pelvis")], hips.mean(0), atol=1e-6)
        apart = np.linalg.norm(halpe[HALPE26.indices(shared)] - h36m[H36M17.indices(shared)], axis=-1)
        assert apart.max() < 80


# --- What the pictures show ------------------------------------------------------------------------------------------


def surfaces_of(people, index, monkeypatch):
    """A sample, and what every pixel of its pictures is."""
    seen = []

    def look(*scene):
        image, surface = picture(*scene)
        seen.append(surface)
        return image, surface

    picture = module.picture
    with monkeypatch.context() as patch:
        patch.setattr(module, "picture", look)
        return render(people, index), seen


@pytest.mark.slow
def test_joints_are_where_the_person_is_and_are_hidden_by_what_is_before_them(bodies, monkeypatch):
    hidden_by_things = 0
    samples = [
        surfaces_of(replace(CLEAR, difficulty=difficulty), index, monkeypatch)
        for difficulty in ("clear", "occluded")
        for index in range(4)
    ]
    for (one, surfaces), skeleton in itertools.product(samples, BOTH):
        points, inside = projected(one, skeleton)
        assert inside.mean() > 0.97
        for view, surface in enumerate(surfaces):
            scale = len(surface.face) / one.cameras.size_px[view, 0].item()
            x, y = ((points[view, inside[view]] + 0.5) * scale - 0.5).round().astype(int).T
            face, visible = surface.face[y, x], one.visible[skeleton.name][view, inside[view]]
            is_person = (face >= 0) & (face < len(bodies.faces))
            assert is_person[visible].all()
            assert is_person.all() or one.group == "occluded"
            hidden_by_things += (~is_person & ~visible).sum()
    assert hidden_by_things > 20


@pytest.mark.slow
def test_what_is_outside_of_an_image_is_not_visible(rendered):
    outside = 0
    for one in (one for some in rendered.values() for one in some):
        for skeleton in BOTH:
            _, inside = projected(one, skeleton)
            assert not (one.visible[skeleton.name] & ~inside).any()
            outside += (~inside).sum()
    assert outside > 100


@pytest.mark.slow
def test_harder_means_that_less_is_visible(rendered):
    share = {name: np.mean([one.visible["halpe26"].mean() for one in some]) for name, some in rendered.items()}
    assert 0.7 < share["clear"] < 0.95
    assert share["truncated"] + 0.1 < share["occluded"] < share["clear"] - 0.05
