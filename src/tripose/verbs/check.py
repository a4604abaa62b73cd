"""``tripose check``: do the cameras, videos and keypoints of a recording belong together?

Everything that can be known without people first, then a look at a few moments: are bodies of human size, do the views
agree, and if not, which camera is it, or were two swapped?
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float

from tripose.associate import find_person, middle_mm
from tripose.cameras import Cameras
from tripose.diagnosis import Finding, reprojection_by_camera
from tripose.errors import TriposeError
from tripose.geometry.triangulate import triangulate, usual_error_px
from tripose.lifting import LEG_BONE_MM, check_size, leg_bone_mm, lift
from tripose.pose import Pose2D
from tripose.recording import Recording
from tripose.skeleton import COCO17
from tripose.track import Followed, detect_everybody, follow_images, follow_keypoints, open_detectors
from tripose.verbs.keypoints import read_views
from tripose.video import count_frames

MOMENTS = 8
"""Number of moments at which people are looked at."""

# Two cameras nearer to each other than this share of their distance to the scene see depth badly.
_NARROW = 0.05
# A camera that sees the person in fewer of the moments than this share of the best camera's is suspicious.
_FEW = 0.5
# Above this share of agreeing views nothing is swapped; an exchange must raise it by this factor to be suggested.
_SATISFIED, _SWAP_GAIN = 0.9, 1.2
# A camera is called bad when, seen from the others, it is off by this many usual errors, and this much more than they.
_BAD_USUAL, _BAD_RATIO = 3.0, 3.0


def check(recording: Recording) -> list[Finding]:
    """Look a recording over.

    Returns:
        Findings, each ``ok``, ``warn`` or ``bad`` with one sentence; sound when none is ``bad``.
    """
    findings = [*_names(recording), *_videos(recording), *_rig(recording.cameras)]
    if len(recording.cameras) < 2:
        text = f"{len(recording.cameras)} usable view; triangulation needs at least 2"
        if not recording.videos:
            return [*findings, Finding("bad", text)]
        can = "predict takes a video from one, of a person on the floor or with --height-mm"
        return [*findings, Finding("warn", f"{text}; {can}")]
    try:
        return findings + _people(recording)
    except TriposeError as error:
        return [*findings, Finding("bad", str(error))]


def is_sound(findings: list[Finding]) -> bool:
    """Whether nothing is wrong."""
    return all(f.level != "bad" for f in findings)


def _names(recording: Recording) -> list[Finding]:
    sources = recording.videos or recording.keypoints
    pairs = ", ".join(f"{camera} - {path.name}" for camera, path in sources.items())
    findings = [Finding("ok", f"{len(sources)} views matched to cameras of {recording.calibration.name}: {pairs}")]
    if recording.unused_cameras:
        findings.append(Finding("ok", f"cameras without a view: {', '.join(recording.unused_cameras)}"))
    if recording.unused_files:
        findings.append(Finding("warn", f"views without a camera: {', '.join(recording.unused_files)}"))
    return findings + [Finding("warn", w) for w in recording.warnings]


def _videos(recording: Recording) -> list[Finding]:
    if not recording.videos:
        return []
    findings = []
    rates = {name: info.fps for name, info in recording.infos.items()}
    if max(rates.values()) - min(rates.values()) > 0.01 * min(rates.values()):
        said = ", ".join(f"{n} {r:.2f}" for n, r in rates.items())
        findings.append(Finding("warn", f"frame rates differ ({said} fps): sampled at the slowest"))
    counts = {name: count_frames(path) for name, path in recording.videos.items()}
    for name, info in recording.infos.items():
        if info.n_frames is not None and counts[name] < info.n_frames:
            text = f"{recording.videos[name].name}: only {counts[name]} of {info.n_frames} frames can be decoded"
            findings.append(Finding("warn", f"{text}; the file is cut off or damaged"))
        if info.rotation_deg:
            text = f"{recording.videos[name].name}: turned upright by {info.rotation_deg} degrees, as its metadata says"
            findings.append(Finding("ok", text))
    seconds = {name: counts[name] / rates[name] for name in counts}
    if len({*counts.values()}) == 1 and not findings:
        return [Finding("ok", f"every video has {next(iter(counts.values()))} frames at {min(rates.values()):.2f} fps")]
    longest, shortest = max(seconds.values()), min(seconds.values())
    said = ", ".join(f"{n} {c}" for n, c in counts.items())
    level = "ok" if longest == shortest else "warn" if longest - shortest < max(0.2, 0.05 * longest) else "bad"
    tail = "" if level == "ok" else "; where a video has ended its view is missing"
    return [*findings, Finding(level, f"frames: {said}{tail}")]  # type: ignore[arg-type]


def _rig(cameras: Cameras) -> list[Finding]:
    findings = []
    for i, name in enumerate(cameras.names):
        centre, size = cameras.K[i, :2, 2], cameras.size_px[i]
        if bool(((centre < 0) | (centre > size)).any()):
            text = f"camera {name!r}: the principal point {[round(c) for c in centre.tolist()]} is outside the image"
            findings.append(Finding("warn", f"{text}; right only for a cropped image"))
    centers = cameras.centers_mm
    span = float(torch.cdist(centers, centers).max())
    for (i, a), (j, b) in itertools.combinations(enumerate(cameras.names), 2):
        apart = float((centers[i] - centers[j]).norm())
        if apart <= 1e-6 * max(span, 1.0):
            findings.append(Finding("bad", f"cameras {a!r} and {b!r} stand at the same place: no depth between them"))
        elif len(cameras) == 2 and apart < _NARROW * float(middle_mm(cameras)[1]):
            findings.append(
                Finding("warn", f"cameras {a!r} and {b!r} are only {apart:.0f} mm apart: depth is uncertain")
            )
    return findings or [Finding("ok", f"{len(cameras)} right-handed cameras, up to {span / 1000:.2f} m apart")]


def _people(recording: Recording) -> list[Finding]:
    everybody, followed = _look(recording)
    cameras = recording.cameras.select(everybody.views)
    swapped = _swapped(cameras, everybody)
    if swapped:
        return [Finding("bad", swapped)]
    poses = lift(followed, cameras)
    check_size(poses, str(recording.calibration))
    findings = []
    length = leg_bone_mm(poses.position_mm, poses.skeleton)
    if np.isfinite(length):
        findings.append(Finding("ok", f"thighs and shanks are {length:.0f} mm long in the median: the unit is right"))
    seen = {v: int(np.isfinite(followed.points_px[:, i]).any((1, 2, 3)).sum()) for i, v in enumerate(followed.views)}
    errors = reprojection_by_camera(poses)
    said = ", ".join(f"{n} {e.median:.1f}" for n, e in errors.items())
    findings.append(Finding("ok", f"median reprojection error, px: {said}"))
    for name, count in seen.items():
        if count < _FEW * max(seen.values()):
            text = f"camera {name!r} agrees with the others in {count} of {len(followed.points_px)} moments"
            findings.append(Finding("bad", f"{text}: it was moved, is out of time, or does not see the person"))
    return findings + _bad_camera(cameras, followed)


def _look(recording: Recording) -> tuple[Pose2D, Pose2D]:
    """Everybody's keypoints, and the followed person's, at a few moments."""
    if not recording.videos:
        everybody = read_views(recording)
        chosen = np.linspace(0, len(everybody.points_px) - 1, min(20 * MOMENTS, len(everybody.points_px))).round()
        index = np.unique(chosen.astype(int))
        points, confidence = everybody.points_px[index], everybody.confidence[index]
        everybody = replace(everybody, points_px=points, confidence=confidence)
        rig = recording.cameras.select(everybody.views)
        person = follow_keypoints(rig, points, confidence, everybody.fps)
        return everybody, _single(everybody, *person)
    length = recording.n_frames or min(count_frames(p) for p in recording.videos.values())
    frames = [next(recording.frames(int(s)), None) for s in np.linspace(0, 0.95 * length, min(MOMENTS, length))]
    present = [f for f in frames if f is not None]
    all_points, all_confidence, points, confidence = [], [], [], []
    with open_detectors() as detectors:
        for frame in present:
            found = detect_everybody(frame.images, detectors)
            all_points.append(found[0])
            all_confidence.append(found[1])
            fresh = follow_images(iter([frame]), recording.cameras, detectors, recording.frame_rate, Followed())
            followed = next(fresh)
            points.append(followed.points_px)
            confidence.append(followed.confidence)
    people = max((p.shape[1] for p in all_points), default=0)
    shape = (len(present), len(recording.cameras), people, len(COCO17), 2)
    every, score = np.full(shape, np.nan), np.zeros(shape[:-1])
    for i, (p, c) in enumerate(zip(all_points, all_confidence, strict=True)):
        every[i, :, : p.shape[1]], score[i, :, : p.shape[1]] = p, c
    everybody = Pose2D(every, score, COCO17, recording.cameras.names, recording.frame_rate)
    return everybody, _single(everybody, np.stack(points), np.stack(confidence))


def _single(
    like: Pose2D, points_px: Float[np.ndarray, "time view joint 2"], confidence: Float[np.ndarray, "time view joint"]
) -> Pose2D:
    return replace(like, points_px=points_px[:, :, None], confidence=confidence[:, :, None])


def _agreement(cameras: Cameras, everybody: Pose2D) -> float:
    """Mean share of the views that agree on one body of human size, 0..1, over a few moments."""
    step = max(1, len(everybody.points_px) // MOMENTS)
    total, bodies = 0.0, []
    for points, confidence in zip(everybody.points_px[::step], everybody.confidence[::step], strict=True):
        match = find_person(cameras, points, confidence)
        if match is not None:
            total += match.support
            bodies.append(match.position_mm)
    if not bodies:
        return 0.0
    length_mm = leg_bone_mm(np.stack(bodies)[:, None], everybody.skeleton)
    human = not np.isfinite(length_mm) or LEG_BONE_MM[0] <= length_mm <= LEG_BONE_MM[1]
    return total / (len(cameras) * len(everybody.points_px[::step])) if human else 0.0


def _swapped(cameras: Cameras, everybody: Pose2D) -> str | None:
    """Would the views agree much better, on a body of human size, if two cameras had each other's name?"""
    now = _agreement(cameras, everybody)
    if now > _SATISFIED:
        return None
    swaps = {}
    for a, b in itertools.combinations(cameras.names, 2):
        names = [b if n == a else a if n == b else n for n in cameras.names]
        swaps[f"{a!r} and {b!r}"] = _agreement(cameras.select(names).rename(cameras.names), everybody)
    best = max(swaps.values())
    if best < max(_SWAP_GAIN * now, 0.5):
        return None
    # In a symmetric rig several exchanges explain the views equally well.
    equal = " (or ".join(pair for pair, agreement in swaps.items() if agreement > 0.98 * best)
    return (
        f"{100 * now:.0f} % of the views agree on a body of human size, and {100 * best:.0f} % when {equal}"
        f"{')' if ' (or ' in equal else ''} are exchanged: two videos (or cameras of the calibration) have each "
        "other's name"
    )


def _bad_camera(cameras: Cameras, followed: Pose2D) -> list[Finding]:
    """Leave each camera out in turn: how far is it from what the others say, and do they agree better without it?"""
    if len(cameras) < 4:
        return []
    points = torch.as_tensor(followed.points_px[:, :, 0])
    score = torch.as_tensor(followed.confidence[:, :, 0])
    suspects = []
    for i, name in enumerate(cameras.names):
        others = [n for n in cameras.names if n != name]
        keep = [j for j in range(len(cameras)) if j != i]
        rest = triangulate(cameras.select(others), points[:, keep], score[:, keep], min_views=3, covariance=False)
        flat = rest.position_mm.flatten(0, 1)
        projected = cameras.select([name]).project(flat)[0][0].unflatten(0, rest.position_mm.shape[:2])
        left_out = float((projected - points[:, i]).norm(dim=-1).nanmedian())
        among = float(rest.reprojection_px.nanmedian())
        if left_out > _BAD_USUAL * usual_error_px(cameras) and left_out > _BAD_RATIO * among:
            suspects.append((left_out / among, name, left_out, among))
    if not suspects:
        return []
    # One bad camera makes its neighbours look bad too; the worst is the culprit.
    _, name, left_out, among = max(suspects)
    text = f"camera {name!r} is {left_out:.0f} px off from what the others say, who agree within {among:.0f} px"
    return [Finding("bad", f"{text}: it was moved after calibration, or is out of time")]
