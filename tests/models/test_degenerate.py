"""What no rig should bring and some do: missing views, broken images, useless cameras; nothing may turn NaN by it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from people import body_mm, crop_cameras, peaked_heatmaps, random_images, small_model, views

METHODS = ("ransac", "algebraic", "volumetric", "evidence")  # the last has no legacy alignment
CENTER_MM = torch.tensor([[0.0, 0.0, 1000.0]])


def finite_gradients(model, output) -> None:
    found = torch.where(output["keypoints_mm"].isfinite(), output["keypoints_mm"], 0.0)
    found.sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize(
    ("method", "legacy"),
    [
        ("ransac", False),
        ("ransac", True),
        ("algebraic", False),
        ("algebraic", True),
        ("evidence", False),
        # The 3D network is slow in float64; its other half, the unprojection, has its own tests.
        pytest.param("volumetric", False, marks=pytest.mark.slow),
    ],
)
def test_a_masked_view_is_a_removed_view(method, legacy):
    model = small_model(method, legacy_alignment=legacy).double()
    batch = 1 if method == "volumetric" else 2
    cameras, images = crop_cameras(4, batch), random_images(4, batch).double()
    images[:, 1] = torch.nan
    valid = torch.ones(batch, 4, dtype=torch.bool)
    valid[:, 1] = False
    center = CENTER_MM.expand(batch, 3)
    masked = model(images, cameras, valid, center)
    removed = model(images[:, [0, 2, 3]], views(cameras, [0, 2, 3]), None, center)
    found = removed["keypoints_mm"].isfinite()
    assert found.sum() > 5
    assert (masked["keypoints_mm"].isfinite() == found).all()
    assert (masked["keypoints_mm"] - removed["keypoints_mm"])[found].abs().max() < 1e-9
    assert (masked["confidence"][:, 1] == 0).all()


def test_batch_statistics_do_not_see_a_masked_view():
    model = small_model("algebraic").double().train()
    cameras, images = crop_cameras(3, 2), random_images(3, 2).double()
    images[:, 2] = torch.nan
    masked = model(images, cameras, torch.tensor([[True, True, False]] * 2))
    removed = model(images[:, :2], views(cameras, [0, 1]))
    assert (masked["keypoints_mm"] - removed["keypoints_mm"]).abs().max() < 1e-6
    finite_gradients(model, masked)


@pytest.mark.parametrize("method", ["algebraic", "volumetric", "evidence"])
def test_gradients_are_finite_with_two_identical_cameras(method):
    model = small_model(method)
    cameras = views(crop_cameras(2), [0, 0])
    output = model(random_images(1).expand(1, 2, -1, -1, -1), cameras, None, CENTER_MM)
    if method == "algebraic":
        assert output["keypoints_mm"].isnan().all()  # no depth, no position
    finite_gradients(model, output)
    output = model(random_images(2), cameras, None, CENTER_MM)
    finite_gradients(model, output)


@pytest.mark.parametrize("method", METHODS)
def test_without_any_view_there_is_no_position(method):
    model = small_model(method)
    images = torch.full((1, 2, 3, 128, 128), torch.nan)
    output = model(images, crop_cameras(2), torch.zeros(1, 2, dtype=torch.bool), CENTER_MM)
    assert output["keypoints_mm"].isnan().all()


@pytest.mark.parametrize("confident_views", [0, 1, 2])
def test_gradients_are_finite_when_confidences_vanish(confident_views):
    cameras, body = crop_cameras(4), body_mm()
    model = small_model("algebraic")
    heatmaps = peaked_heatmaps(cameras, body).requires_grad_()
    confidence = torch.zeros(1, 4, 17, dtype=torch.float64)
    confidence[:, :confident_views] = 0.7
    confidence.requires_grad_()
    located = model.locate(heatmaps, confidence, cameras.P, (128, 128))
    if confident_views < 2:
        assert located.keypoints_mm.isnan().all()
    else:
        assert (located.keypoints_mm - body).norm(dim=-1).max() < 1.0
    torch.where(located.keypoints_mm.isfinite(), located.keypoints_mm, 0.0).sum().backward()
    assert heatmaps.grad.isfinite().all()
    assert confidence.grad.isfinite().all()


def test_a_joint_behind_a_camera_has_finite_gradients():
    cameras = crop_cameras(4)
    behind = cameras.centers_mm[0, :1] * 1.5  # behind camera 0, before camera 2
    points_px = cameras.P[0] @ torch.cat([behind[0], torch.ones(1, dtype=torch.float64)])
    points_px = points_px[:, :2] / points_px[:, 2:]
    assert points_px.isfinite().all()
    model = small_model("algebraic")
    cells = (points_px + 0.5) / 4 - 0.5
    heatmaps = -((torch.arange(32.0)[None, None, :] - cells[:, :1, None]) ** 2) - (
        (torch.arange(32.0)[None, :, None] - cells[:, 1:, None]) ** 2
    )
    heatmaps = heatmaps[None, :, None].expand(1, 4, 17, 32, 32).clone().requires_grad_()
    located = model.locate(heatmaps, torch.ones(1, 4, 17), cameras.P, (128, 128))
    located.keypoints_mm.nan_to_num().sum().backward()
    assert heatmaps.grad.isfinite().all()
    # The cuboid around a camera: half of its voxels are behind.
    volumetric = small_model("volumetric")
    output = volumetric(random_images(4), cameras, None, cameras.centers_mm[0, :1].float())
    assert output["keypoints_mm"].isfinite().all()
    finite_gradients(volumetric, output)


def test_relu_heatmaps_without_a_positive_cell_are_a_missing_view():
    cameras, body = crop_cameras(3), body_mm()
    model = small_model("algebraic", softmax=False, confidences="none")
    heatmaps = peaked_heatmaps(cameras, body).exp()
    heatmaps[:, 1] = -1.0
    heatmaps.requires_grad_()
    located = model.locate(heatmaps, torch.ones(1, 3, 17, dtype=torch.float64), cameras.P, (128, 128))
    assert (located.keypoints_mm - body).norm(dim=-1).max() < 1.0
    located.keypoints_mm.sum().backward()
    assert heatmaps.grad.isfinite().all()


@pytest.mark.parametrize(("method", "legacy"), [("volumetric", False), ("volumetric", True), ("evidence", False)])
def test_a_sample_whose_place_is_unknown_is_nan_and_harms_no_other(method, legacy):
    model = small_model(method, legacy_alignment=legacy)
    images, cameras = random_images(2, 2), crop_cameras(2, 2)
    center = CENTER_MM.repeat(2, 1)
    center[1] = torch.nan
    output = model(images, cameras, None, center)
    alone = model(images[:1], views(crop_cameras(2), [0, 1]), None, CENTER_MM)
    assert output["keypoints_mm"][1].isnan().all()
    assert (output["keypoints_mm"][0] - alone["keypoints_mm"][0]).abs().max() < 1e-3
    finite_gradients(model, output)


@pytest.mark.parametrize(("method", "legacy"), [(m, x) for m in METHODS for x in (False, True)][:-1])
def test_the_camera_of_a_missing_view_may_be_nan(method, legacy):
    model, cameras = small_model(method, legacy_alignment=legacy), crop_cameras(4)
    valid = torch.tensor([[True, True, False, True]])
    broken = replace(cameras, **{k: getattr(cameras, k).clone() for k in ("K", "R", "t")})
    for tensor in (broken.K, broken.R, broken.t):
        tensor[:, 2] = torch.nan
    with torch.no_grad():
        expected = model(random_images(4), cameras, valid, CENTER_MM)["keypoints_mm"]
        found = model(random_images(4), broken, valid, CENTER_MM)["keypoints_mm"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("method", ["ransac", "algebraic"])
def test_one_view_does_not_make_a_position(method, legacy):
    with torch.no_grad():
        output = small_model(method, legacy_alignment=legacy)(random_images(1), crop_cameras(1))
    assert output["keypoints_mm"].shape == (1, 17, 3)
    assert output["keypoints_mm"].isnan().all()


@pytest.mark.parametrize(("method", "legacy"), [(m, x) for m in METHODS for x in (False, True)][:-1])
def test_no_sample_at_all(method, legacy):
    cameras = crop_cameras(2)
    empty = views(
        replace(cameras, **{k: getattr(cameras, k)[:0] for k in ("K", "R", "t", "distortion", "size_px")}), [0, 1]
    )
    with torch.no_grad():
        output = small_model(method, legacy_alignment=legacy)(random_images(2)[:0], empty, None, CENTER_MM[:0])
    assert output["keypoints_mm"].shape == (0, 17, 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda i, c: (i[..., :100, :], c, None), "128 x 100 px"),
        (lambda i, c: ((255 * i).byte(), c, None), "uint8"),
        (lambda i, c: (i, c, torch.ones(1, 2, dtype=torch.int64)), "int64"),
        (lambda i, c: (i, views(c, [0]), None), r"cameras are \[1, 1\]; images are \[1, 2\]"),
    ],
)
def test_input_of_another_kind_is_refused(change, said):
    images, cameras, valid = change(random_images(2), crop_cameras(2))
    with torch.no_grad(), pytest.raises(ValueError, match=said):
        small_model("algebraic")(images, cameras, valid)


def test_distorted_cameras_are_refused():
    cameras = replace(crop_cameras(2), lens=("opencv", "pinhole"))
    with pytest.raises(ValueError, match="pinhole"):
        small_model("algebraic")(random_images(2), cameras)


def test_the_volumetric_method_asks_for_its_center():
    with pytest.raises(ValueError, match="center_mm"):
        small_model("volumetric")(random_images(1), crop_cameras(1))
