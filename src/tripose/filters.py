"""Filters along time: fill short gaps, and smooth without delay."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from tripose.errors import TriposeError
from tripose.pose import Pose3D


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


def _runs(mask: Bool[np.ndarray, " time"]) -> list[tuple[int, int]]:
    """Start and stop of every run of True."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
