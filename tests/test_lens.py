from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reference.triangulate import distort_point
from tripose.lens import distort, to_normalised, to_pixels, undistort

BARREL = [-0.3, 0.1, 0.001, -0.002]
RATIONAL = [0.1, -0.05, 0.001, 0.002, 0.01, 0.05, -0.02, 0.003]
TILTED = [*RATIONAL, 0.001, -0.002, 0.0015, 0.0005, 0.01, -0.02]
FISHEYE = [0.05, 0.01, -0.003, 0.002]
LENSES = [(BARREL, "opencv"), (RATIONAL, "opencv"), (TILTED, "opencv"), (FISHEYE, "fisheye")]


def padded(coefficients):
    return torch.tensor([*coefficients, *[0.0] * (14 - len(coefficients))]).double()[None]


def grid(limit, n=15):
    side = torch.linspace(-limit, limit, n).double()
    return torch.cartesian_prod(side, side)[None]


# --- Values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coefficients", [BARREL, RATIONAL])
def test_distortion_is_the_formula(coefficients):
    points = grid(0.4, 5)
    expected = [distort_point(float(x), float(y), coefficients) for x, y in points[0]]
    np.testing.assert_allclose(distort(points, padded(coefficients), "opencv")[0], expected, atol=1e-12)


@pytest.mark.parametrize(("coefficients", "lens"), LENSES)
def test_the_inverse_is_opencvs(coefficients, lens):
    bent = distort(grid(0.35), padded(coefficients), lens)
    criteria = (cv2.TERM_CRITERIA_MAX_ITER | cv2.TERM_CRITERIA_EPS, 200, 1e-14)
    raw = bent[0].numpy()[:, None]
    if lens == "fisheye":
        expected = cv2.fisheye.undistortPoints(raw, np.eye(3), np.array(coefficients), criteria=criteria)[:, 0]
    else:
        expected = cv2.undistortPoints(raw, np.eye(3), np.array(coefficients), criteria=criteria)[:, 0]
    np.testing.assert_allclose(undistort(bent, padded(coefficients), lens)[0], expected, atol=1e-7)


@pytest.mark.parametrize(("coefficients", "lens"), [*LENSES, ([], "pinhole")])
def test_there_and_back(coefficients, lens):
    points = grid(0.4)
    back = undistort(distort(points, padded(coefficients), lens), padded(coefficients), lens)
    torch.testing.assert_close(back, points, rtol=0, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.floats(-0.5, 0.5)] * 2, *[st.floats(-0.005, 0.005)] * 2, *[st.floats(-0.5, 0.5)] * 4))
def test_an_inverse_is_right_or_missing(coefficients):
    raw = grid(1.0)
    ideal = undistort(raw, padded(coefficients), "opencv")
    known = ideal.isfinite().all(-1)
    assert (ideal.isnan().all(-1) | known).all()
    error = distort(ideal, padded(coefficients), "opencv")[known] - raw[known]
    assert error.abs().max() < 1e-9 if known.any() else True
    assert known[0, 7 * 15 + 7]  # the principal point is always known


def test_pixels_there_and_back_with_skew():
    K = torch.tensor([[1145.0, 3.0, 512.0], [0.0, 1100.0, 480.0], [0.0, 0.0, 1.0]]).double()
    points = grid(0.5)[0]
    torch.testing.assert_close(to_normalised(to_pixels(points, K), K), points)
    torch.testing.assert_close(
        to_pixels(torch.tensor([[0.1, 0.2]]).double(), K)[0], K[:2] @ torch.tensor([0.1, 0.2, 1]).double()
    )


# --- Limits ----------------------------------------------------------------------------------------------------------


def test_a_rational_lens_beyond_its_limit_is_nan_and_never_jumps():
    """The camera of opencv#20736: of six neighbouring pixels one stays where it is and five jump by 350 px."""
    K = torch.tensor([[2421.791748, 0, 1919.613159], [0, 2421.791748, 1090.346436], [0, 0, 1]]).double()
    coefficients = padded(
        [2.99721646, -6.09288263, 0.000574624806, -4.85703385e-05, -1.26187623, 3.53409386, -4.27079391, -5.30235195]
    )
    x = torch.arange(1920, 3839).double()
    border = torch.stack([x, torch.full_like(x, 2.0)], -1)
    bent = to_normalised(border, K)[None]
    ideal = undistort(bent, coefficients, "opencv")
    known = ideal.isfinite().all(-1)[0]
    assert 1000 < int(known.sum()) < len(x)
    assert (distort(ideal, coefficients, "opencv") - bent)[0, known].abs().max() < 1e-9
    moved = to_pixels(ideal[0], K)
    assert (moved[known, 0].diff() > 0).all()
    assert moved.diff(dim=0).norm(dim=-1).nan_to_num().max() < 20
    # The inner half of the border loses no pixel.
    assert known[:960].all()


# Fifty focal lengths off the axis; the rational lens can do that.
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 50.0])
@pytest.mark.parametrize(("coefficients", "lens"), [x for x in LENSES if x[0] != RATIONAL])
def test_a_hopeless_point_leaves_its_neighbours_alone(coefficients, lens, bad):
    points = grid(0.3)
    alone = undistort(points, padded(coefficients), lens)
    points[0, 3] = bad
    together = undistort(points, padded(coefficients), lens)
    assert together[0, 3].isnan().all()
    others = torch.arange(points.shape[1]) != 3
    torch.testing.assert_close(together[:, others], alone[:, others], rtol=0, atol=1e-9)


def test_single_precision_is_not_refused():
    points = grid(0.4).float()
    ideal = undistort(points, padded(BARREL).float(), "opencv")
    assert ideal.dtype == torch.float32
    torch.testing.assert_close(ideal, undistort(points.double(), padded(BARREL), "opencv").float(), rtol=0, atol=1e-6)


# --- Gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("coefficients", "lens"), LENSES)
def test_gradients_of_the_inverse(coefficients, lens):
    points = (grid(0.35, 3) + 0.01).requires_grad_()
    k = padded(coefficients).requires_grad_()
    assert torch.autograd.gradcheck(lambda p, c: undistort(p, c, lens), (points, k), eps=1e-6, atol=1e-5)


@pytest.mark.parametrize(("coefficients", "lens"), [x for x in LENSES if x[0] != RATIONAL])
def test_gradients_are_finite_where_the_inverse_is_missing(coefficients, lens):
    points = grid(0.3, 3)
    points[0, 0] = 50.0
    points[0, 1] = 0.0
    points, k = points.requires_grad_(), padded(coefficients).requires_grad_()
    torch.nan_to_num(undistort(points, k, lens)).sum().backward()
    assert points.grad.isfinite().all()
    assert (points.grad[0, 0] == 0).all()
    assert k.grad.isfinite().all()
