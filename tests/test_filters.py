"""Gap filling and smoothing along time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tripose.errors import TriposeError
from tripose.pose import Pose3D
from tripose.skeleton import custom

FPS = 60.0


def poses_of(series_mm: np.ndarray, fps: float = FPS) -> Pose3D:
    """One person with one joint that moves along x."""
    position = np.zeros((len(series_mm), 1, 1, 3))
    position[:, 0, 0, 0] = series_mm
    position[np.isnan(series_mm)] = np.nan
    confidence = np.where(np.isnan(position[..., 0]), np.nan, 0.9)
    return Pose3D(position, confidence, custom("one", ["nose"]), fps, n_views=np.full(confidence.shape, 3))


def x_mm(poses: Pose3D) -> np.ndarray:
    return poses.position_mm[:, 0, 0, 0]


gappy = arrays(np.float64, 60, elements=st.floats(-3000, 3000) | st.just(np.nan), fill=st.nothing())


# --- fill_gaps ---


def test_only_short_inner_gaps_are_filled() -> None:
    series = np.arange(40.0)
    truth = series.copy()
    series[:2] = np.nan  # the start
    series[10:13] = np.nan  # 3 frames: 0.1 s at 30 fps
    series[20:24] = np.nan  # 4 frames
    series[38:] = np.nan  # the end
    filled = poses_of(series, fps=30.0).fill_gaps(max_gap_s=0.1)
    expected = series.copy()
    expected[10:13] = truth[10:13]
    np.testing.assert_allclose(x_mm(filled), expected, atol=1e-9)
    np.testing.assert_array_equal(filled.confidence[9:14, 0, 0], [0.9, 0, 0, 0, 0.9])
    np.testing.assert_array_equal(filled.n_views[9:14, 0, 0], [3, 0, 0, 0, 3])
    assert np.isnan(filled.confidence[[0, 1, 20, 23, 39], 0, 0]).all()
    np.testing.assert_array_equal(filled.n_views[20:24, 0, 0], 3)  # untouched


def test_a_curve_is_followed_without_overshoot() -> None:
    time = np.arange(60) / FPS
    truth = 500 * np.sin(2 * np.pi * time)
    series = truth.copy()
    series[20:26] = np.nan
    assert np.abs(x_mm(poses_of(series).fill_gaps(0.1)) - truth).max() < 8
    step = np.where(np.arange(30) < 15, 0.0, 100.0)
    step[12:18] = np.nan
    filled = x_mm(poses_of(step).fill_gaps(0.1))
    assert filled.min() == 0
    assert filled.max() == 100
    assert (np.diff(filled) >= 0).all()


@settings(max_examples=50, deadline=None)
@given(gappy, st.floats(0, 0.3))
def test_filling_keeps_what_was_seen_and_stays_between_its_ends(series: np.ndarray, max_gap_s: float) -> None:
    filled = x_mm(poses_of(series).fill_gaps(max_gap_s))
    seen = ~np.isnan(series)
    np.testing.assert_array_equal(filled[seen], series[seen])
    for frame in np.flatnonzero(~np.isnan(filled) & ~seen):
        before, after = np.flatnonzero(seen[:frame])[-1], frame + np.flatnonzero(seen[frame:])[0]
        assert after - before - 1 <= max_gap_s * FPS + 1e-3
        low, high = sorted(series[[before, after]])
        assert low - 1e-6 <= filled[frame] <= high + 1e-6


def test_persons_and_joints_are_filled_by_themselves() -> None:
    position = np.random.default_rng(0).normal(size=(20, 2, 2, 3))
    position[5, 0, 1] = position[9, 1, 0] = np.nan
    poses = Pose3D(position, np.ones((20, 2, 2)), custom("two", ["nose", "neck"]), FPS, persons=("a", "b"))
    filled = poses.fill_gaps(0.1)
    assert np.isfinite(filled.position_mm).all()
    assert filled.n_views is None
    np.testing.assert_array_equal(np.argwhere(filled.confidence == 0), [[5, 0, 1], [9, 1, 0]])
    assert np.isnan(poses.position_mm[5, 0, 1]).all()  # the argument is left alone


@pytest.mark.parametrize("max_gap_s", [-0.1, float("nan")])
def test_a_gap_cannot_be_negative(max_gap_s: float) -> None:
    with pytest.raises(TriposeError, match=f"max_gap_s must be a time of 0 s or more, got {max_gap_s}"):
        poses_of(np.zeros(5)).fill_gaps(max_gap_s)


# --- lowpass ---


@pytest.mark.parametrize("fps", [25.0, 60.0, 200.0])
def test_the_cutoff_is_where_half_the_power_is_left(fps: float) -> None:
    """Two passes of an uncorrected filter would leave a quarter."""
    time = np.arange(int(20 * fps)) / fps
    middle = slice(len(time) // 4, -len(time) // 4)
    smooth = x_mm(poses_of(np.sin(2 * np.pi * 6 * time), fps).lowpass(6.0))[middle]
    assert np.sqrt(2 * np.mean(smooth**2)) == pytest.approx(np.sqrt(0.5), rel=1e-3)
    far = x_mm(poses_of(np.sin(2 * np.pi * 3 * time), fps).lowpass(6.0))[middle]
    assert np.sqrt(2 * np.mean(far**2)) > 0.93


def test_slow_motion_stays_noise_goes_and_nothing_is_delayed() -> None:
    time = np.arange(600) / FPS
    slow, noise = 300 * np.sin(2 * np.pi * 1 * time), 20 * np.sin(2 * np.pi * 20 * time)
    smooth = x_mm(poses_of(slow + noise).lowpass(6.0))
    inner = slice(15, -15)
    assert np.abs(smooth - slow)[inner].max() < 0.01 * 300
    assert np.abs(smooth - x_mm(poses_of(slow).lowpass(6.0)))[inner].max() < 0.02 * 20
    shifts = range(-3, 4)
    errors = [np.abs(np.roll(smooth, s) - slow)[20:-20].mean() for s in shifts]
    assert shifts[int(np.argmin(errors))] == 0


@pytest.mark.parametrize("fps", [25.0, 60.0, 240.0])
def test_ramps_stay_up_to_their_ends(fps: float) -> None:
    """Somebody who walks through the room keeps the speed at the ends of a run."""
    ramp = 1400 * np.arange(int(2 * fps)) / fps
    assert np.abs(x_mm(poses_of(ramp, fps).lowpass(6.0)) - ramp).max() < 1.0


def test_time_reversed_is_the_same() -> None:
    series = np.random.default_rng(3).normal(0, 100, 300)
    forwards, backwards = x_mm(poses_of(series).lowpass(6.0)), x_mm(poses_of(series[::-1]).lowpass(6.0))
    assert np.abs(forwards - backwards[::-1])[60:-60].max() < 1e-3


@settings(max_examples=50, deadline=None)
@given(gappy, st.floats(-5000, 5000))
def test_lowpass_keeps_gaps_and_commutes_with_translation(series: np.ndarray, shift_mm: float) -> None:
    poses = poses_of(series)
    smooth = poses.lowpass(6.0)
    np.testing.assert_array_equal(np.isnan(smooth.position_mm), np.isnan(poses.position_mm))
    np.testing.assert_array_equal(smooth.confidence, poses.confidence)
    moved = replace(poses, position_mm=poses.position_mm + shift_mm).lowpass(6.0)
    np.testing.assert_allclose(moved.position_mm, smooth.position_mm + shift_mm, atol=1e-6)
    constant = poses_of(np.where(np.isnan(series), np.nan, shift_mm))
    np.testing.assert_allclose(constant.lowpass(6.0).position_mm, constant.position_mm, atol=1e-6)


def test_runs_are_filtered_by_themselves_and_short_ones_stay() -> None:
    rng = np.random.default_rng(5)
    series = rng.normal(0, 100, 100)
    series[[50, 61]] = np.nan  # a run of 50, one of 10 (a period of 6 Hz), one of 38
    smooth = x_mm(poses_of(series).lowpass(6.0))
    np.testing.assert_array_equal(smooth[51:61], series[51:61])
    np.testing.assert_allclose(smooth[:50], x_mm(poses_of(series[:50]).lowpass(6.0)))
    np.testing.assert_allclose(smooth[62:], x_mm(poses_of(series[62:]).lowpass(6.0)))
    assert np.std(smooth[:50]) < 0.7 * np.std(series[:50])


@pytest.mark.parametrize("cutoff_hz", [0.0, -1.0, 30.0, 100.0, float("nan")])
def test_cutoffs_that_cannot_be(cutoff_hz: float) -> None:
    with pytest.raises(TriposeError, match=rf"below half the frame rate \(30 Hz\), got {cutoff_hz:g}"):
        poses_of(np.zeros(100)).lowpass(cutoff_hz)


# --- smooth ---


def moving(rng: np.random.Generator, frames: int = 80) -> tuple[np.ndarray, Pose3D]:
    """Two joints that swing, seen with 5 mm, and in some runs of frames with 60 mm in one direction."""
    time = np.arange(frames)[:, None] / FPS
    truth = np.stack([300 * np.sin(7 * time + joint + axis) for joint in range(2) for axis in range(3)], -1)
    truth = truth.reshape(frames, 1, 2, 3)
    sigma = np.full(truth.shape, 5.0)
    sigma[[t for t in (20, 21, 22, 50, 51) if t < frames], 0, 0, 1] = 60
    skew = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    covariance = skew @ (sigma[..., None] ** 2 * np.eye(3)) @ skew.T
    seen = truth + (sigma * rng.normal(size=sigma.shape)) @ skew.T
    return truth, Pose3D(seen, np.ones((frames, 1, 2)), custom("two", ["nose", "neck"]), FPS, covariance_mm2=covariance)


def smooth_slowly(poses: Pose3D, frames: int) -> np.ndarray:
    """The twin: rows of one least-squares problem for every joint in every frame."""
    half, result = frames // 2, poses.position_mm.copy()
    assert poses.covariance_mm2 is not None
    for t, person, joint in np.ndindex(result.shape[:3]):
        if np.isnan(result[t, person, joint]).any():
            continue
        speed, acceleration = np.zeros((3, 9)), np.zeros((3, 9))
        speed[:, 3:6], acceleration[:, 6:] = np.eye(3) / 3e3, np.eye(3) / 3e4
        rows, right = [speed, acceleration], [np.zeros(3), np.zeros(3)]
        for other in range(max(0, t - half), min(len(result), t + half + 1)):
            at = poses.position_mm[other, person, joint]
            if np.isnan(at).any():
                continue
            after_s = (other - t) / poses.fps
            covariance = poses.covariance_mm2[other, person, joint] + (1e5 * abs(after_s) ** 3 / 6) ** 2 * np.eye(3)
            white = np.linalg.inv(np.linalg.cholesky(covariance))
            rows.append(white @ np.hstack([np.eye(3), after_s * np.eye(3), after_s**2 / 2 * np.eye(3)]))
            right.append(white @ at)
        result[t, person, joint] = np.linalg.lstsq(np.vstack(rows), np.concatenate(right))[0][:3]
    return result


@pytest.mark.parametrize("frames", [5, 7, 9])
def test_smooth_is_the_weighted_fit_of_a_parabola(frames: int) -> None:
    _, poses = moving(np.random.default_rng(0))
    poses.position_mm[[0, 30, 31, 32, 79], 0, 1] = np.nan
    found = poses.smooth(frames)
    np.testing.assert_allclose(found.position_mm, smooth_slowly(poses, frames), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(np.isnan(found.position_mm), np.isnan(poses.position_mm))
    np.testing.assert_array_equal(found.covariance_mm2, poses.covariance_mm2)


def test_smooth_borrows_where_little_is_seen() -> None:
    truth, poses = moving(np.random.default_rng(1))

    def off(found: Pose3D, frames: list[int] | slice) -> float:
        return float(np.sqrt(((found.position_mm - truth)[frames, 0, 0] ** 2).sum(-1).mean()))

    hidden = [20, 21, 22, 50, 51]
    assert off(poses.smooth(9), hidden) < 0.3 * off(poses, hidden)
    assert off(poses.smooth(9), hidden) < 0.5 * off(poses.lowpass(8), hidden)
    assert off(poses.smooth(7), slice(55, 80)) < 0.8 * off(poses, slice(55, 80))


def test_smooth_leaves_short_and_unknown_series_alone() -> None:
    _, poses = moving(np.random.default_rng(2), frames=3)
    assert np.isfinite(poses.smooth(9).position_mm).all()
    _, alone = moving(np.random.default_rng(2), frames=1)
    np.testing.assert_allclose(alone.smooth().position_mm, alone.position_mm, atol=1e-9)
    poses.covariance_mm2[1, 0, 0] = np.nan
    np.testing.assert_array_equal(poses.smooth().position_mm[1, 0, 0], poses.position_mm[1, 0, 0])


def test_smooth_refuses_what_it_cannot_do() -> None:
    _, poses = moving(np.random.default_rng(3))
    with pytest.raises(TriposeError, match="frames must be 5, 7 or 9, got 6"):
        poses.smooth(6)
    with pytest.raises(TriposeError, match="no covariances"):
        replace(poses, covariance_mm2=None).smooth()
