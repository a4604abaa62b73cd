"""How fast is triangulation? Ratios against the slow twins of the tests, same inputs, one run.

    python benchmarks/triangulation.py [--json FILE]

Position, covariance, inliers and reprojection errors, on one thread. The twins take one point after another, so they
run on the first points only and their time is scaled up. Where ``aniposelib-pytorch`` is installed it is shown beside,
on the same points.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from reference.triangulate import projection_matrices, triangulate_point
from scene import ring
from tripose.cameras import Cameras
from tripose.geometry.triangulate import METHODS, triangulate

TWIN_POINTS = 300


def seconds(call: Callable[[], object], repeats: int = 7) -> float:
    """Best wall time of several calls after a first one."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def scene(views: int, points: int, bad_views: int, bad_share: float) -> tuple[Cameras, torch.Tensor, torch.Tensor]:
    """A ring with 2 px noise; a share of the points has some views off by 40 to 300 px."""
    random = np.random.default_rng(0)
    cameras = ring(views)
    truth = torch.as_tensor(random.uniform([-800, -800, 0], [800, 800, 1800], (points, 3)))
    image = cameras.project(truth)[0].numpy()
    image += random.normal(0, 2, image.shape)
    for i in range(int(bad_share * points)):
        angle = random.uniform(0, 2 * np.pi, bad_views)
        shift = random.uniform(40, 300, bad_views)[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
        image[random.choice(views, bad_views, replace=False), i] += shift
    return cameras, truth, torch.as_tensor(image)


def against_twins() -> list[dict[str, object]]:
    rows = []
    for method in METHODS:
        cameras, _, image = scene(4, 10_000, 1, 0.0 if method == "dlt" else 0.3)
        P = projection_matrices(cameras.K.numpy(), cameras.R.numpy(), cameras.t.numpy())
        few = image[:, :TWIN_POINTS].numpy()

        def slow(few=few, P=P, method=method):
            for i in range(TWIN_POINTS):
                triangulate_point(method, P, few[:, i], [1.0] * 4, 10.0)

        slow_s = seconds(slow, 3) * image.shape[1] / TWIN_POINTS
        fast_s = seconds(lambda c=cameras, i=image, m=method: triangulate(c, i, method=m, scale_px=10.0))
        rows.append({"name": method, "points": 10_000, "views": 4, "seconds": fast_s, "ratio": slow_s / fast_s})
    for method in ("ransac", "irls"):
        cameras, truth, image = scene(16, 1_000, 5, 1.0)
        fast_s = seconds(lambda c=cameras, i=image, m=method: triangulate(c, i, method=m), 3)
        error = (triangulate(cameras, image, method=method).position_mm - truth).norm(dim=-1)
        row = {"name": f"{method}, 5 bad views", "points": 1_000, "views": 16, "seconds": fast_s}
        rows.append({**row, "median_mm": float(error.nanmedian()), "max_mm": float(error.nan_to_num().max())})
    return rows


def against_aniposelib() -> list[dict[str, object]]:
    try:
        from aniposelib.cameras import Camera, CameraGroup
    except (ImportError, AttributeError) as reason:  # version 1.0 asks OpenCV 4 for names that OpenCV 5 has moved
        print(f"aniposelib-pytorch left out: {reason}")
        return []

    def group(cameras: Cameras) -> CameraGroup:
        turn = Rotation.from_matrix(cameras.R.numpy()).as_rotvec()
        parts = zip(cameras.K.numpy(), turn, cameras.t.numpy(), cameras.names, strict=True)
        return CameraGroup(
            [Camera(matrix=k, dist=np.zeros(5), rvec=r, tvec=t, name=n, size=(1000, 1000)) for k, r, t, n in parts]
        )

    def compare(method: str, rival: str, bad_share: float, scale_px: float | None = None) -> dict[str, object]:
        cameras, truth, image = scene(4, 10_000, 1, bad_share)
        theirs = group(cameras)
        solve = theirs.triangulate if rival == "linear" else theirs.triangulate_robust

        def call():
            return solve(image, method=rival)

        # Like theirs: the linear method fixes the last coordinate to one, and there are no covariances.
        like = {"method": method, "scale_px": scale_px, "homogeneous": 0.0, "covariance": False}
        their_s, our_s = seconds(call), seconds(lambda: triangulate(cameras, image, **like))
        found = call()
        their_mm = (torch.as_tensor(np.asarray(getattr(found, "p3d", found))) - truth).norm(dim=-1)
        our_mm = (triangulate(cameras, image, **like).position_mm - truth).norm(dim=-1)
        errors = {
            "median_mm": float(our_mm.nanmedian()),
            "their_median_mm": float(their_mm.nanmedian()),
            "mean_mm": float(our_mm.nanmean()),
            "their_mean_mm": float(their_mm.nanmean()),
        }
        return {"name": f"{method} / aniposelib-pytorch {rival}", "seconds": our_s, "ratio": their_s / our_s, **errors}

    # Their defaults: inliers within 10 px (three times our scale), a Cauchy scale of 8 px.
    return [
        compare("dlt", "linear", 0.0),
        compare("ransac", "msac", 0.3, scale_px=10 / 3),
        compare("irls", "irls", 0.3, scale_px=8.0),
    ]


def main() -> None:
    torch.set_num_threads(1)
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} thread, Python"
        f" {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}; best wall time of several"
        f" calls; twins on the first {TWIN_POINTS} points, scaled up"
    )
    rows = against_twins() + against_aniposelib()
    for row in rows:
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
    if "--json" in sys.argv:
        Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps({"rows": rows}, indent=2))


if __name__ == "__main__":
    main()
