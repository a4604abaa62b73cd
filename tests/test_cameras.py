from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from reference.triangulate import distort_point
from scene import ring
from tripose.cameras import TO_Z_UP, Cameras
from tripose.errors import TriposeError
from tripose.lens import undistort

K = np.array([[1145.0, 0.7, 512.0], [0.0, 1140.0, 500.0], [0.0, 0.0, 1.0]])
LENSES = {
    0: [],
    2: [-0.25, 0.08],
    4: [-0.33, 0.1, 0.001, -0.002],
    5: [-0.22, 0.32, -0.0008, -0.0005, -0.396],
    8: [0.1, -0.05, 0.001, 0.002, 0.01, 0.05, -0.02, 0.003],
    12: [0.1, -0.05, 0.001, 0.002, 0.01, 0.05, -0.02, 0.003, 0.001, -0.002, 0.0015, 0.0005],
    14: [0.1, -0.05, 0.001, 0.002, 0.01, 0.05, -0.02, 0.003, 0.001, -0.002, 0.0015, 0.0005, 0.01, -0.02],
}


def one(distortion=(), fisheye=False, k=K):
    rotation = cv2.Rodrigues(np.array([0.1, 0.2, 0.3]))[0]
    t = np.array([10.0, 20.0, 3000.0])
    return Cameras.build(["a"], [k], [rotation], [t], [[1024, 1000]], [list(distortion)], [fisheye])


def cloud(n=400, side=900.0):
    return np.random.default_rng(0).uniform(-side, side, (n, 3))


# --- Against OpenCV --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", LENSES)
def test_projection_is_opencvs(length):
    k = K * [[1, 0, 1], [1, 1, 1], [1, 1, 1]]  # OpenCV knows no skew
    cameras, points = one(LENSES[length], k=k), cloud()
    coefficients = np.array((LENSES[length] + [0.0] * 4)[: max(4, length)])
    expected = cv2.projectPoints(points, cv2.Rodrigues(cameras.R[0].numpy())[0], cameras.t[0].numpy(), k, coefficients)[
        0
    ]
    found, in_front = cameras.project(torch.as_tensor(points))
    np.testing.assert_allclose(found[0], expected[:, 0], atol=1e-9)
    assert in_front.all()


def test_fisheye_projection_is_opencvs():
    k = K * [[1, 0, 1], [1, 1, 1], [1, 1, 1]]
    d = np.array([0.05, 0.01, -0.003, 0.002])
    cameras, points = one(d.tolist(), fisheye=True, k=k), cloud(side=2000)
    rotation = cv2.Rodrigues(cameras.R[0].numpy())[0]
    expected = cv2.fisheye.projectPoints(points[:, None], rotation, cameras.t[0].numpy(), k, d)[0][:, 0]
    np.testing.assert_allclose(cameras.project(torch.as_tensor(points))[0][0], expected, atol=1e-9)


def test_distortion_is_the_formula():
    cameras = one(LENSES[12])
    for x, y in ((0.1, -0.2), (-0.3, 0.25)):
        u, v = K[0, 0] * x + K[0, 1] * y + K[0, 2], K[1, 1] * y + K[1, 2]
        dx, dy = distort_point(x, y, LENSES[12])
        expected = [K[0, 0] * dx + K[0, 1] * dy + K[0, 2], K[1, 1] * dy + K[1, 2]]
        np.testing.assert_allclose(cameras.distort(torch.tensor([[[u, v]]]).double())[0, 0], expected, atol=1e-9)


# --- Round trips and limits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "fisheye"), [*((n, False) for n in LENSES), (4, True)])
def test_undistort_inverts_distort_all_over_the_image(length, fisheye):
    cameras = one([0.05, 0.01, -0.003, 0.002] if fisheye else LENSES[length], fisheye)
    grid = np.stack(np.meshgrid(np.linspace(0, 1023, 20), np.linspace(0, 999, 20)), -1).reshape(1, -1, 2)
    raw = torch.as_tensor(grid)
    ideal = cameras.undistort(raw)
    assert ideal.isfinite().all()
    torch.testing.assert_close(cameras.distort(ideal), raw, rtol=0, atol=1e-5)


def test_points_that_the_lens_cannot_have_made_are_nan_and_never_jump():
    # A barrel lens folds back at r = 1 / sqrt(3 * 0.33) = 1.005, where it reaches r_d = 0.67.
    radius = torch.linspace(0, 1.2, 400).double()
    points = torch.stack([radius, torch.zeros_like(radius)], -1)[None]
    coefficients = torch.zeros(1, 14).double()
    coefficients[0, 0] = -0.33
    ideal = undistort(points, coefficients, "opencv")[0, :, 0]
    known = ideal.isfinite()
    limit = int(known.sum())
    assert known[:limit].all()
    assert 0.64 < float(radius[limit - 1]) < 0.68
    assert (ideal[:limit].diff() > 0).all()


def test_mixed_rigs_bend_each_view_by_its_own_lens():
    names = ["pin", "open", "fish"]
    lens = [[], LENSES[5], [0.05, 0.01, -0.003, 0.002]]
    rig = Cameras.build(
        names, [K] * 3, [np.eye(3)] * 3, [[0, 0, 3000.0]] * 3, [[1024, 1000]] * 3, lens, [False, False, True]
    )
    points = torch.as_tensor(cloud(50))
    together = rig.project(points)[0]
    for i, name in enumerate(names):
        torch.testing.assert_close(together[i], rig.select([name]).project(points)[0][0])
    torch.testing.assert_close(rig.undistort(together), rig.undistorted().project(points)[0], rtol=0, atol=1e-6)


def test_points_behind_a_camera_are_nan_and_said():
    points, in_front = one(LENSES[5]).project(torch.tensor([[0.0, 0.0, -9000.0], [0.0, 0.0, 0.0]]).double())
    assert in_front.tolist() == [[False, True]]
    assert points[0, 0].isnan().all()


def test_rays_pass_through_their_points():
    rig = ring(4, distortion=[-0.3, 0.1, 0.001, 0.002])
    points = torch.as_tensor(cloud(30))
    direction = rig.rays(rig.project(points)[0])
    to_point = points - rig.centers_mm[:, None]
    torch.testing.assert_close(direction, to_point / to_point.norm(dim=-1, keepdim=True), rtol=0, atol=1e-9)


def test_projection_is_differentiable():
    rig = ring(2, distortion=[-0.3, 0.1, 0.001, 0.002])
    points = torch.as_tensor(cloud(3)).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: rig.project(p)[0], points, atol=1e-5)
    raw = rig.project(points)[0].detach().requires_grad_()
    assert torch.autograd.gradcheck(rig.undistort, raw, eps=1e-4, atol=1e-4)


@pytest.mark.parametrize(("coefficients", "fisheye"), [([], False), (LENSES[5], False), ([0.05, 0.01, 0.0, 0.0], True)])
def test_masked_points_leave_gradients_finite(coefficients, fisheye):
    """Points that are missing, behind the camera, in it or outside of what the lens can do, masked out of a loss."""
    cameras = replace(one(coefficients, fisheye), R=torch.eye(3).double()[None], t=torch.zeros(1, 3).double())
    leaves = [x.clone().requires_grad_() for x in (cameras.K, cameras.R, cameras.t, cameras.distortion)]
    rig = replace(cameras, K=leaves[0], R=leaves[1], t=leaves[2], distortion=leaves[3])
    points = torch.tensor([[100.0, 50.0, 3000.0], [0.0, 0.0, -9000.0], [np.nan, 0.0, 0.0], [0.0, 0.0, 0.0]]).double()
    points = points.requires_grad_()
    image, in_front = rig.project(points)
    assert in_front.tolist() == [[True, False, False, False]]
    assert image[0].isfinite().all(-1).tolist() == [True, False, False, False]
    raw = torch.tensor([[[600.0, 500.0], [90_000.0, 0.0], [np.nan, 0.0]]]).double().requires_grad_()
    (image.nan_to_num().sum() + rig.undistort(raw).nan_to_num().sum() + rig.rays(raw).nan_to_num().sum()).backward()
    for leaf in (*leaves[:3], points, raw):
        assert leaf.grad.isfinite().all()
        assert (leaf.grad != 0).any()
    assert leaves[3].grad is None or leaves[3].grad.isfinite().all()
    assert (points.grad[1:] == 0).all()


def test_a_rig_in_single_precision_still_inverts_its_lens():
    cameras = one(LENSES[5])
    raw = cameras.project(torch.as_tensor(cloud(50)))[0]
    single = cameras.to(torch.float32).undistort(raw.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), cameras.undistort(raw), rtol=0, atol=2e-3)


# --- Crop, resize, select --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distortion", [[], LENSES[5]])
def test_crop_and_resize_are_exact(distortion):
    cameras, points = one(distortion), torch.as_tensor(cloud(50))
    image = cameras.project(points)[0]
    box = torch.tensor([[100.0, 50.0, 612.0, 434.0]]).double()
    cropped = cameras.crop(box)
    assert cropped.size_px.tolist() == [[512, 384]]
    torch.testing.assert_close(cropped.project(points)[0], image - box[:, None, :2])
    resized = cropped.resize(torch.tensor([[256, 128]]))
    expected = (image - box[:, None, :2] + 0.5) * torch.tensor([256 / 512, 128 / 384]).double() - 0.5
    torch.testing.assert_close(resized.project(points)[0], expected)
    assert cameras.K[0, 0, 2] == 512  # nothing is changed in place


def test_principal_point_outside_the_image_is_legal():
    assert one(k=np.array([[1000.0, 0, -3], [0, 1000, 20], [0, 0, 1]])).K[0, 0, 2] == -3


def test_select_is_by_name():
    rig = ring(4)
    chosen = rig.select(["cam3", "cam1"])
    torch.testing.assert_close(chosen.centers_mm, rig.centers_mm[[2, 0]])
    with pytest.raises(TriposeError, match="no camera named 'cam9'; the calibration has cam1, cam2, cam3, cam4"):
        rig.select(["cam9"])


@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_joined_rigs_see_what_they_saw_apart(batch):
    lenses = (LENSES[5], [], [0.05, 0.01, -0.003, 0.002])
    whole = Cameras.build(
        ["a", "b", "c"], [K] * 3, [np.eye(3)] * 3, [[0, 0, 3000.0 + 100 * i] for i in range(3)],
        [[1024, 1000], [640, 480], [200, 300]], lenses, [False, False, True], up="-y",
    )  # fmt: skip
    parts = ("K", "R", "t", "distortion", "size_px")
    whole = replace(whole, **{p: (x := getattr(whole, p)).expand(*batch, *x.shape) for p in parts})
    joined = Cameras.join([whole.select(["c"]), whole.select(["b", "a"])])
    assert joined.names == ("c", "b", "a")
    assert joined.lens == ("fisheye", "pinhole", "opencv")
    assert joined.up == "-y"
    expected = whole.select(["c", "b", "a"])
    assert all(torch.equal(getattr(joined, part), getattr(expected, part)) for part in parts)
    points = torch.as_tensor(cloud(20)).expand(*batch, 20, 3)
    torch.testing.assert_close(joined.project(points)[0], expected.project(points)[0])


@pytest.mark.parametrize("up", TO_Z_UP)
def test_every_axis_is_turned_to_z(up):
    turn = np.array(TO_Z_UP[up])
    np.testing.assert_array_equal(turn @ turn.T, np.eye(3))
    assert np.linalg.det(turn) == pytest.approx(1)
    axis = np.eye(3)["xyz".index(up[-1])] * (-1 if up.startswith("-") else 1)
    np.testing.assert_array_equal(turn @ axis, [0, 0, 1])


# --- What no camera can be -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"R": np.diag([1.0, 1.0, -1.0])}, "'b'.*mirrored"),
        ({"R": 2 * np.eye(3)}, "'b'.*not a rotation"),
        ({"R": np.full((3, 3), np.nan)}, "'b'.*not finite"),
        ({"t": [0.0, np.inf, 0.0]}, "'b'.*not finite"),
        ({"K": K.T}, "'b'.*last row of K.*transposed"),
        ({"K": K * [[-1], [1], [1]]}, "'b'.*must be positive"),
        ({"size": [0, 100]}, "'b'.*image size"),
        ({"distortion": [0.1]}, "'b' has 1 distortion coefficients; the OpenCV model takes 0, 2, 4, 5, 8, 12, 14"),
        ({"name": "a"}, "'a' more than once"),
    ],
)
def test_impossible_cameras_are_named(change, message):
    good = {"name": "b", "K": K, "R": np.eye(3), "t": [0.0, 0.0, 0.0], "size": [10, 10], "distortion": []}
    bad = {**good, **change}
    with pytest.raises(TriposeError, match=message):
        Cameras.build(
            ["a", bad["name"]], [K, bad["K"]], [np.eye(3), bad["R"]], [[0.0, 0, 0], bad["t"]], [[10, 10], bad["size"]],
            [[], bad["distortion"]],
        )  # fmt: skip


@pytest.mark.usefixtures("unchecked")
def test_board_poses_instead_of_camera_poses_are_named():
    with pytest.raises(TriposeError, match=r"shape \(143, 3, 3\).*board poses"):
        Cameras.build(["a"], [K], np.tile(np.eye(3), (143, 1, 1)), [[0.0, 0, 0]], [[10, 10]])


def test_no_camera_and_fisheye_of_wrong_length():
    with pytest.raises(TriposeError, match="no camera"):
        Cameras.build([], [], [], [], [])
    with pytest.raises(TriposeError, match="fisheye model takes 0, 4"):
        one([0.1] * 5, fisheye=True)


def test_other_types_and_devices_keep_everything_else():
    rig = replace(ring(2), up="y").to(torch.float32)
    assert rig.K.dtype == torch.float32
    assert rig.size_px.dtype == torch.int64
    assert rig.up == "y"
