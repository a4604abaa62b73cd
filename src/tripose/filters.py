"""Filters along time: fill short gaps, and smooth without delay, by frequency or by what is known how well."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from tripose.errors import TriposeError
from tripose.pose import Pose3D

# How fast joints move, standard deviations: what holds a window together in which little is seen. Jerk is what its
# parabola cannot follow, so that frames farther away count less, and at few frames per second hardly.
_SPEED_MM_S, _ACCELERATION_MM_S2, _JERK_MM_S3 = 3e3, 3e4, 1e5


def fill_gaps(poses: Pose3D, max_gap_s: float) -> Pose3D:
    """Interpolate joints that are missing for a short time (PCHIP: no overshoot).

    Only gaps between two seen positions are filled; nothing is extrapolated. Filled samples have confidence 0 and,
    where it is known, `n_views` 0.

    Args:
        poses: world frame, mm.
        max_gap_s: the longest gap to fill, as missing frames / fps.

    Raises:
        TriposeError: `max_gap_s` is negative.
    """
    from scipy.interpolate import PchipInterpolator

    if not max_gap_s >= 0:
        raise TriposeError(f"max_gap_s must be a time of 0 s or more, got {max_gap_s}")
    longest = max_gap_s * poses.fps + 1e-6  # in frames; 0.1 s * 30 fps shall be 3 in spite of rounding
    position = poses.position_mm.copy()
    filled = np.zeros(position.shape[:3], dtype=bool)
    frames = np.arange(len(position))
    for person, joint in np.ndindex(position.shape[1:3]):
        seen = np.isfinite(position[:, person, joint]).all(axis=-1)
        for start, stop in _runs(~seen):
            filled[start:stop, person, joint] = start > 0 and stop < len(seen) and stop - start <= longest
        gap = filled[:, person, joint]
        if gap.any():
            curve = PchipInterpolator(frames[seen], position[seen, person, joint], axis=0)
            position[gap, person, joint] = curve(frames[gap])
    return replace(
        poses,
        position_mm=position,
        confidence=np.where(filled, 0.0, poses.confidence),
        n_views=None if poses.n_views is None else np.where(filled, 0, poses.n_views),
    )


def lowpass(poses: Pose3D, cutoff_hz: float) -> Pose3D:
    """Smooth positions with a fourth-order Butterworth filter without delay.

    A second-order filter runs forwards and backwards. Two passes would lower its cutoff, so it is designed for a
    higher one (Winter, Biomechanics and Motor Control of Human Movement): the result has its -3 dB at `cutoff_hz`.
    Each run of consecutive seen frames is filtered by itself; runs not longer than a period of the cutoff stay
    unchanged. `covariance_mm2` stays that of the unfiltered positions.

    Args:
        poses: world frame, mm.
        cutoff_hz: 6 is usual for walking.

    Raises:
        TriposeError: `cutoff_hz` is not between 0 and half the frame rate.
    """
    from scipy.signal import butter, sosfiltfilt

    if not 0 < cutoff_hz < poses.fps / 2:
        raise TriposeError(
            f"cutoff_hz must be above 0 and below half the frame rate ({poses.fps / 2:g} Hz), got {cutoff_hz:g}"
        )
    passes, order = 2, 2
    correction = (2 ** (1 / passes) - 1) ** (1 / (2 * order))
    designed_hz = poses.fps / math.pi * math.atan(math.tan(math.pi * cutoff_hz / poses.fps) / correction)
    sections = butter(order, designed_hz, fs=poses.fps, output="sos")
    padding = math.ceil(poses.fps / cutoff_hz)  # one period: the start of the recursion has died out by then
    position = poses.position_mm.copy()
    for person, joint in np.ndindex(position.shape[1:3]):
        series = position[:, person, joint]
        for start, stop in _runs(np.isfinite(series).all(axis=-1)):
            if stop - start > padding:
                series[start:stop] = sosfiltfilt(sections, series[start:stop], axis=0, padlen=padding)
    return poses.with_positions(position)


def smooth(poses: Pose3D, frames: int = 7) -> Pose3D:
    """Smooth positions by those of the frames around, each as surely as it is known.

    Every position becomes that of a parabola through the window about it, fitted with the inverse covariances as
    weights (generalised least squares; with equal weights that is Savitzky and Golay, 1964): a frame in which a joint
    is hidden borrows from those in which it is seen. `covariance_mm2` stays that of a single frame, because errors of
    neighbouring frames are alike. Missing positions stay missing.

    Args:
        poses: world frame, mm, with covariances.
        frames: length of the window, 5 to 9 and odd.

    Raises:
        TriposeError: another length, or no covariances.
    """
    if frames not in (5, 7, 9):
        raise TriposeError(f"frames must be 5, 7 or 9, got {frames}")
    if poses.covariance_mm2 is None:
        raise TriposeError("these poses have no covariances, by which a window weighs its frames")
    half, known = frames // 2, np.isfinite(poses.position_mm).all(-1)
    known &= np.isfinite(poses.covariance_mm2).all((-2, -1))
    position = np.where(known[..., None], poses.position_mm, 0.0)
    # Moments about the position itself, in units of the window's half: all numbers are near one another.
    reach_s = half / poses.fps
    spread = np.repeat([np.inf, _SPEED_MM_S * reach_s, _ACCELERATION_MM_S2 * reach_s**2 / 2], 3)
    normal = np.broadcast_to(np.diag(spread**-2), (*known.shape, 9, 9)).copy()
    moment = np.zeros((*known.shape, 9))
    for k in range(-half, half + 1):
        here, there = _overlap(len(known), k)
        jerk_mm = _JERK_MM_S3 * abs(k / poses.fps) ** 3 / 6
        precision = _inverse(poses.covariance_mm2[there], known[there], jerk_mm)
        basis = (k / half) ** np.arange(3.0)
        normal[here] += np.kron(np.outer(basis, basis), precision)
        away = (precision @ (position[there] - position[here])[..., None])[..., 0]
        moment[here] += np.kron(basis, away)
    shift = np.zeros_like(position)
    shift[known] = np.linalg.solve(normal[known], moment[known][..., None])[:, :3, 0]
    return poses.with_positions(poses.position_mm + shift)


def _overlap(length: int, shift: int) -> tuple[slice, slice]:
    """The frames that have one `shift` frames later, and these."""
    here = slice(min(length, max(0, -shift)), max(0, length - max(0, shift)))
    return here, slice(here.start + shift, here.stop + shift)


def _inverse(
    covariance_mm2: Float[np.ndarray, "time person joint 3 3"],
    known: Bool[np.ndarray, "time person joint"],
    more_mm: float,
) -> Float[np.ndarray, "time person joint 3 3"]:
    """Inverse covariances with some more error in every direction; zeros where nothing is known."""
    precision = np.zeros(covariance_mm2.shape)
    precision[known] = np.linalg.inv(covariance_mm2[known] + more_mm**2 * np.eye(3))
    return precision


def _runs(mask: Bool[np.ndarray, " time"]) -> list[tuple[int, int]]:
    """Start and stop of every run of True."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
