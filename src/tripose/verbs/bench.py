"""How fast is this library on this machine? Ratios against the slow twins of the tests, same inputs, one run.

The twins (`tests/reference`) do what the published code does, with loops over joints and views; so this verb needs a
clone of the repository.
"""

from __future__ import annotations

import platform
import resource
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tripose.cameras import Cameras
from tripose.errors import TriposeError
from tripose.geometry.triangulate import triangulate
from tripose.geometry.volume import has_numba, place_cuboid, unproject
from tripose.models.config import Algebraic, Volumetric
from tripose.models.inference import for_inference, has_bfloat16
from tripose.models.weights import build_model

_TESTS = Path(__file__).resolve().parents[3] / "tests"
_POINTS, _TWIN_POINTS = 10_000, 200
_SIDE_PX, _MAP, _VOXELS, _SIDE_MM = 384, 96, 64, 2500.0
_CENTER_MM = torch.tensor([[0.0, 0.0, 1000.0]])
_PUBLISHED: dict[str, Any] = {
    "skeleton": "h36m17",
    "backbone": "resnet152",
    "legacy_alignment": True,
    "channels": "bgr",
}

Row = dict[str, Any]


def bench(progress: Callable[[str], None] = lambda name: None) -> list[Row]:
    """Measure; every row has a name, our seconds, the twin's, their ratio, and how far the results are apart.

    Args:
        progress: called with the name of what comes next.

    Raises:
        TriposeError: no clone of the repository around.
    """
    twins, scene = _twin("reference.learned"), _twin("scene")
    rows = []
    with torch.no_grad():
        for name, measure in (
            ("dlt", _dlt),
            ("ransac", _ransac),
            ("unproject", _unproject),
            ("algebraic_frame", _algebraic_frame),
            ("volumetric_frame", _volumetric_frame),
        ):
            progress(name)
            rows += [{"name": name, **row} for row in measure(twins, scene)]
    return rows


def machine() -> str:
    """What the figures were measured on."""
    names = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return (
        f"{names[0] if names else platform.machine()}, {torch.get_num_threads()} threads, "
        f"{'with' if has_bfloat16(torch.device('cpu')) else 'without'} bfloat16 arithmetic, "
        f"torch {torch.__version__}, Python {platform.python_version()}"
    )


def _dlt(twins: ModuleType, scene: ModuleType) -> list[Row]:
    cameras, points_px, _ = _points(scene, outliers=0.0)
    few = points_px[None, :, :_TWIN_POINTS]
    P = cameras.P[None]
    weight = torch.ones(few.shape[:-1], dtype=torch.float64)
    slow, theirs = _seconds(lambda: twins.triangulate_batch(P, few, weight), 2)
    fast, ours = _seconds(
        lambda: triangulate(cameras, points_px, method="dlt", homogeneous=1000.0, covariance=False).position_mm, 5
    )
    apart = (ours[:_TWIN_POINTS] - theirs[0]).norm(dim=-1).max()
    return [_row(slow * _POINTS / _TWIN_POINTS, fast, f"{_POINTS} points, 4 views", f"{apart:.1e} mm apart")]


def _ransac(twins: ModuleType, scene: ModuleType) -> list[Row]:
    from random import Random

    cameras, points_px, truth_mm = _points(scene, outliers=0.3)
    P, few, random = cameras.P.numpy(), points_px[:, :_TWIN_POINTS].numpy(), Random(0)
    slow, theirs = _seconds(
        lambda: np.stack([twins.published_ransac(P, few[:, i], random, True).position_mm for i in range(_TWIN_POINTS)]),
        1,
    )
    fast, ours = _seconds(lambda: triangulate(cameras, points_px, method="ransac", covariance=False).position_mm, 5)
    errors = [
        (torch.as_tensor(found[:_TWIN_POINTS]) - truth_mm[:_TWIN_POINTS]).norm(dim=-1).mean()
        for found in (ours, theirs)
    ]
    said = f"mean error {errors[0]:.1f} mm, published {errors[1]:.1f} mm"
    return [_row(slow * _POINTS / _TWIN_POINTS, fast, f"{_POINTS} points, 4 views, 30 % with an outlier", said)]


def _unproject(twins: ModuleType, scene: ModuleType) -> list[Row]:
    volumes = _twin("reference.volumes")
    size_px, what = (_SIDE_PX, _SIDE_PX), f"4 views, 32 x {_MAP} x {_MAP} to {_VOXELS}^3, softmax"
    cuboid = place_cuboid(_CENTER_MM, _SIDE_MM, _VOXELS, up="z", world_up="z")

    def given(views: int) -> tuple[Tensor, Tensor]:
        features = torch.randn(1, views, 32, _MAP, _MAP, generator=torch.Generator().manual_seed(0))
        return features, _crops(scene, views).P[None]

    features, P = given(4)
    cells = P * torch.tensor([_MAP / _SIDE_PX, _MAP / _SIDE_PX, 1.0])[:, None]
    coordinates = volumes.coordinate_volume(_CENTER_MM[0], _SIDE_MM, _VOXELS)[None]
    slow, theirs = _seconds(lambda: volumes.unproject_heatmaps(features, cells.float(), coordinates, "softmax"), 3)
    rows = []
    kernels = [("unproject", False)]
    if has_numba():
        kernels.append(("unproject_fused", True))
    for name, fused in kernels:
        like: dict[str, Any] = {"legacy_alignment": True, "fused": fused}
        ours_of = partial(unproject, features, P, size_px, cuboid, "softmax", **like)
        fast, ours = _seconds(ours_of, 7)
        apart = (ours - theirs).abs().max() / theirs.abs().max()
        rows.append({"name": name, **_row(slow, fast, what, f"{apart:.0e} relative apart")})
        many, many_P = given(31)
        peak = _peak_mb(partial(unproject, many, many_P, size_px, cuboid, "softmax", **like))
        rows[-1]["peak_31_views_mb"] = peak
        rows[-1]["note"] += f"; 31 views: {peak:.0f} MB more"
    return rows


def _algebraic_frame(twins: ModuleType, scene: ModuleType) -> list[Row]:
    model = build_model(
        Algebraic(skeleton="h36m17", backbone="resnet152", legacy_alignment=True, channels="bgr")
    ).eval()
    images, cameras = _frame(scene)
    slow, theirs = _seconds(lambda: twins.algebraic_frame(model, images, cameras).keypoints_px, 2)
    fast_model = for_inference(model)
    fast, ours = _seconds(lambda: fast_model(images, cameras)["keypoints_px"], 3)
    said = f"{(ours - theirs).abs().max():.3f} px apart, random weights"
    return [_row(slow, fast, f"ResNet-152, 4 views of {_SIDE_PX} px", said)]


def _volumetric_frame(twins: ModuleType, scene: ModuleType) -> list[Row]:
    model = build_model(
        Volumetric(skeleton="h36m17", backbone="resnet152", legacy_alignment=True, channels="bgr")
    ).eval()
    images, cameras = _frame(scene)
    slow, theirs = _seconds(lambda: twins.volumetric_frame(model, images, cameras, _CENTER_MM).keypoints_mm, 2)
    fast_model = for_inference(model)
    fast, ours = _seconds(lambda: fast_model(images, cameras, None, _CENTER_MM)["keypoints_mm"], 3)
    said = f"{(ours - theirs).norm(dim=-1).max():.3f} mm apart, random weights"
    return [_row(slow, fast, f"ResNet-152, 4 views of {_SIDE_PX} px, {_VOXELS}^3", said)]


def _row(twin_s: float, ours_s: float, what: str, note: str) -> Row:
    return {"what": what, "twin_s": twin_s, "seconds": ours_s, "ratio": twin_s / ours_s, "note": note}


def _seconds(call: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Best wall time of some calls after a first one, and the result."""
    result, times = call(), []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times), result


def _peak_mb(call: Callable[[], Any]) -> float:
    """Growth of the resident memory during a call, looked at every millisecond."""
    seen, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            seen.append(_resident_mb())

    call()  # what a first call keeps is no peak
    before = _resident_mb()
    watcher = threading.Thread(target=watch)
    watcher.start()
    call()
    done.set()
    watcher.join()
    return max(0.0, max(seen) - before)


def _resident_mb() -> float:
    """Of this process; 0 where the system does not say."""
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * resource.getpagesize() / 2**20 if path.is_file() else 0.0


def _points(scene: ModuleType, outliers: float) -> tuple[Cameras, Tensor, Tensor]:
    """Four cameras, points with 2 px noise, a share of them with one view off by 40 to 300 px; and the truth."""
    random = np.random.default_rng(0)
    cameras: Cameras = scene.ring(4)
    truth_mm = torch.as_tensor(random.uniform([-800, -800, 0], [800, 800, 1800], (_POINTS, 3)))
    points_px = cameras.project(truth_mm)[0].numpy() + random.normal(0, 2, (4, _POINTS, 2))
    off = random.random(_POINTS) < outliers
    angle, length = random.uniform(0, 2 * np.pi, _POINTS), random.uniform(40, 300, _POINTS) * off
    view = random.integers(0, 4, _POINTS)
    points_px[view, np.arange(_POINTS)] += length[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    return cameras, torch.as_tensor(points_px), truth_mm


def _crops(scene: ModuleType, views: int) -> Cameras:
    cameras: Cameras = scene.ring(views)
    return cameras.resize(torch.full((views, 2), _SIDE_PX))


def _frame(scene: ModuleType) -> tuple[Tensor, Cameras]:
    images = torch.rand(1, 4, 3, _SIDE_PX, _SIDE_PX, generator=torch.Generator().manual_seed(0))
    cameras = _crops(scene, 4)
    return images, replace(cameras, up="z")


def _twin(name: str) -> ModuleType:
    if not (_TESTS / "reference").is_dir():
        raise TriposeError(
            "tripose bench compares with the slow twins in tests/reference, which are not installed with the package: "
            "clone the repository and install it with pip install --editable ."
        )
    if str(_TESTS) not in sys.path:
        sys.path.insert(0, str(_TESTS))
    return import_module(name)


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []
