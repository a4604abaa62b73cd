from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import golden, load
from reference.evidence import window_mean as window_mean_of_cells
from reference.learned import expected_index
from reference.learned import soft_argmax as soft_argmax_published
from reference.volumes import integrate_volumes as integrate_published
from tripose.geometry.heatmaps import (
    cell_grid,
    cell_weights,
    integrate,
    soft_argmax,
    spread,
    to_cells,
    to_pixels,
    window_mean,
)

seeds = st.integers(0, 2**32 - 1)
sides = st.integers(1, 9)


def logits(seed, *shape, scale=3.0):
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# --- Against the slow twins ------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(seeds, sides, sides, st.booleans())
def test_soft_argmax_equals_a_loop_over_cells(seed, rows, columns, relu):
    maps = logits(seed, 2, rows, columns)
    found = soft_argmax(maps, relu=relu)
    for fast, one in zip(found, maps, strict=True):
        if relu and not (one > 0).any():
            assert fast.isnan().all()
        else:
            torch.testing.assert_close(fast, expected_index(one, relu).flip(0), rtol=1e-12, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(seeds, sides, sides, sides, st.booleans(), st.booleans())
def test_integration_of_a_volume_equals_a_loop_over_voxels(seed, i, j, k, relu, normalise):
    volume = logits(seed, i, j, k)
    volume[0, 0, 0] = 1.0  # so that rectified weights are not all zero
    expected = expected_index(volume, relu, normalised=normalise or not relu)
    torch.testing.assert_close(integrate(volume, 3, relu=relu, normalise=normalise), expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(seeds, sides, sides, st.floats(0.7, 20.0), st.booleans())
def test_a_windowed_mean_equals_a_loop_over_cells(seed, rows, columns, sigma, relu):
    weights = cell_weights(logits(seed, 3, rows, columns), 2, relu=relu)
    weights[0, 0, 0] = 1.0
    middle = logits(seed + 1, 3, 2)
    mean, mass = window_mean(weights, middle, sigma)
    for i in range(3):
        expected, held = window_mean_of_cells(weights[i], middle[i], sigma)
        torch.testing.assert_close(mass[i], held, rtol=1e-10, atol=1e-14)
        if held > 1e-9:
            torch.testing.assert_close(mean[i], expected, rtol=1e-8, atol=1e-8)


def test_a_window_forgets_a_second_peak():
    index = torch.arange(64.0)
    squared = [(index - x) ** 2 / 4.5 + (index[:, None] - y) ** 2 / 4.5 for x, y in ((20.3, 30.6), (48.0, 30.0))]
    maps = torch.logaddexp(-squared[0], -squared[1] - 1.5)
    plain, windowed = soft_argmax(maps), soft_argmax(maps, window_cells=6.0)
    truth = torch.tensor([20.3, 30.6]).double()
    assert (plain - truth).norm() > 4.0
    assert (windowed - truth).norm() < 0.6
    maps.requires_grad_()
    assert torch.autograd.grad(soft_argmax(maps, window_cells=6.0).sum(), maps)[0].isfinite().all()


@pytest.mark.parametrize("where", [0.0, 1e3, -1e6])
def test_an_empty_window_stays_where_it_is(where):
    weights = torch.zeros(2, 8, 8).float()
    weights[0, 3, 3] = 1.0
    weights.requires_grad_()
    middle = torch.full((2, 2), where, dtype=torch.float64)
    mean, mass = window_mean(weights, middle, 1.0)
    assert torch.equal(mean[1], middle[1])
    assert mass[1] == 0
    (gradient,) = torch.autograd.grad(mean.sum() + mass.sum(), weights)
    assert gradient.isfinite().all()


@settings(max_examples=25, deadline=None)
@given(seeds, sides, sides, sides)
def test_the_spread_is_a_standard_deviation(seed, i, j, k):
    weights = cell_weights(logits(seed, i, j, k), 3, relu=False)
    index = torch.cartesian_prod(*[torch.arange(n, dtype=torch.float64) for n in (i, j, k)]).reshape(-1, 3)
    mean = (weights.reshape(-1, 1) * index).sum(0)
    variance = (weights.reshape(-1, 1) * (index - mean).square()).sum()
    assert float(spread(weights, 3)) == pytest.approx(float(variance.sqrt()), abs=1e-7)


@pytest.mark.parametrize("relu", [False, True])
def test_gradients_equal_those_of_the_twins(relu):
    maps = logits(0, 2, 3, 6, 9).requires_grad_()
    pull = logits(1, 2, 3, 2)
    (fast,) = torch.autograd.grad((soft_argmax(maps, relu=relu) * pull).sum(), maps)
    (slow,) = torch.autograd.grad((soft_argmax_published(maps, relu)[0] * pull).sum(), maps)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)
    (loop,) = torch.autograd.grad((expected_index(maps[1, 2], relu).flip(0) * pull[1, 2]).sum(), maps)
    torch.testing.assert_close(fast[1, 2], loop[1, 2], rtol=1e-10, atol=1e-12)
    assert torch.autograd.gradcheck(lambda x: soft_argmax(x, relu=relu), maps)


@pytest.mark.parametrize("relu", [False, True])
def test_cell_weights_equal_those_of_the_twin(relu):
    maps = logits(3, 2, 3, 6, 9)
    torch.testing.assert_close(cell_weights(maps, 2, relu=relu), soft_argmax_published(maps, relu)[1])


# --- What the numbers mean -------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(-3, 3), st.integers(-4, 4), st.floats(-1e3, 1e3))
def test_a_peak_is_where_it_is_and_moves_with_its_map(seed, down, right, level):
    maps = torch.full((12, 16), -60.0, dtype=torch.float64)
    maps[4:8, 6:10] = logits(seed, 4, 4)
    moved = soft_argmax(maps.roll((down, right), (0, 1)) + level)
    torch.testing.assert_close(moved - soft_argmax(maps), torch.tensor([right, down]).double(), rtol=0, atol=1e-9)
    maps[5, 7] = 60.0
    torch.testing.assert_close(soft_argmax(maps), torch.tensor([7.0, 5.0]).double(), rtol=0, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seeds, sides, sides)
def test_the_expected_cell_lies_in_the_map(seed, rows, columns):
    x, y = soft_argmax(logits(seed, rows, columns, scale=100.0))
    assert -1e-9 <= x <= columns - 1 + 1e-9
    assert -1e-9 <= y <= rows - 1 + 1e-9


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_logits_are_integrated_in_high_precision(dtype):
    maps = (100 * logits(4, 3, 24, 32)).to(dtype)  # logits of 300, as the multiplier of 100 makes them
    found = soft_argmax(maps)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, soft_argmax(maps.double()), rtol=0, atol=1e-4)


def test_rectified_maps_without_a_positive_cell():
    maps = -logits(5, 2, 4, 5).abs()
    maps[1, 2, 3] = 1.0
    maps.requires_grad_()
    cells = soft_argmax(maps, relu=True)
    assert cells[0].isnan().all()
    assert cells[1].tolist() == [3.0, 2.0]
    (gradient,) = torch.autograd.grad(cells.nan_to_num().sum(), maps)
    assert gradient.isfinite().all()
    assert (gradient[0] == 0).all()


# --- Cells and pixels ------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 8), st.integers(1, 8))
def test_the_centre_of_a_cell_is_the_centre_of_the_pixels_it_covers(columns, rows, x_stride, y_stride):
    size, cells = (columns * x_stride, rows * y_stride), (columns, rows)
    for column, row in np.ndindex(columns, rows):
        covered_x = np.arange(column * x_stride, (column + 1) * x_stride)
        covered_y = np.arange(row * y_stride, (row + 1) * y_stride)
        cell = torch.tensor([column, row]).double()
        right = to_pixels(cell, size, cells, legacy_alignment=False)
        np.testing.assert_allclose(right, [covered_x.mean(), covered_y.mean()], atol=1e-12)
        published = to_pixels(cell, size, cells, legacy_alignment=True)
        np.testing.assert_allclose(published, [covered_x[0], covered_y[0]], atol=1e-12)


def test_cells_are_the_inverse_of_pixels():
    cells = logits(7, 5, 2)
    there = to_pixels(cells, (640, 360), (96, 72), legacy_alignment=False)
    torch.testing.assert_close(to_cells(there, (640, 360), (96, 72)), cells, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("legacy", [False, True])
def test_pixels_follow_the_grid(legacy):
    cells = logits(6, 5, 2)
    scale, offset = cell_grid((640, 360), (96, 72), legacy_alignment=legacy)
    assert scale == (640 / 96, 5.0)
    found = to_pixels(cells, (640, 360), (96, 72), legacy_alignment=legacy)
    for axis in range(2):
        # The edges of the map are the edges of the image; the published convention puts centres on top of each other.
        expected = cells[:, axis] * scale[axis] if legacy else (cells[:, axis] + 0.5) * scale[axis] - 0.5
        torch.testing.assert_close(found[:, axis], expected, rtol=1e-13, atol=1e-12)
        assert offset[axis] == (0.0 if legacy else pytest.approx((scale[axis] - 1) / 2))


# --- Against the published code --------------------------------------------------------------------------------------


@pytest.mark.parametrize("softmax", [pytest.param(x, marks=golden) for x in (0, 1)])
def test_recorded_integrals(softmax):
    ops = {key: torch.as_tensor(value) for key, value in load("ops").items() if key.startswith("i")}
    relu = not softmax

    def check(found, name):
        expected = ops[f"{name}_softmax{softmax}"]
        torch.testing.assert_close(found.to(expected), expected, rtol=1e-5, atol=1e-5)

    check(soft_argmax(ops["i2d_in"], relu=relu), "i2d_coords")
    check(cell_weights(ops["i2d_in"], 2, relu=relu), "i2d_maps")
    check(integrate(ops["i3d_in"], 3, relu=relu, normalise=True), "i3d_coords")
    check(cell_weights(ops["i3d_in"], 3, relu=relu), "i3dc_vol")
    check(integrate_published(ops["i3d_in"], ops["i3d_coord_volumes"], relu)[0], "i3dc_coords")
