"""Small models and crops of a synthetic person for the tests of the learned methods."""

from __future__ import annotations

from dataclasses import replace

import torch

from scene import ring, walk_mm
from tripose.cameras import Cameras
from tripose.models.config import Algebraic, Evidence, ModelConfig, Ransac, Volumetric
from tripose.models.weights import Model, build_model

SIDE_PX = 128


def config(method: str, **more: object) -> ModelConfig:
    """ResNet-18, COCO-17, 128 px; 32 voxels (evidence: 16)."""
    more = {"skeleton": "coco17", **more}
    kind = {"ransac": Ransac, "algebraic": Algebraic, "volumetric": Volumetric, "evidence": Evidence}[method]
    if method == "volumetric":
        more = {"voxels": 64 if more.get("net") == "light" else 32, **more}
    if method == "evidence":
        more = {"voxels": 16, "window_px": 12.0, **more}
    return kind(**{"backbone": "resnet18", "image_size_px": (SIDE_PX, SIDE_PX), **more})


def small_model(method: str, *, seed: int = 0, **more: object) -> Model:
    """A random model in evaluation mode whose batch norms are not the identity."""
    torch.manual_seed(seed)
    model = build_model(config(method, **more))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def crop_cameras(views: int, batch: int = 1) -> Cameras:
    """Cameras of 128 px images that show the whole person, [batch view]."""
    rig = ring(views).resize(torch.full((views, 2), SIDE_PX))
    return replace(
        rig,
        K=rig.K.expand(batch, -1, -1, -1),
        R=rig.R.expand(batch, -1, -1, -1),
        t=rig.t.expand(batch, -1, -1),
        distortion=rig.distortion.expand(batch, -1, -1),
        size_px=rig.size_px.expand(batch, -1, -1),
    )


def views(cameras: Cameras, index: list[int]) -> Cameras:
    """Some of the cameras of `crop_cameras`, in another order or more than once."""
    pick = {k: getattr(cameras, k)[:, index] for k in ("K", "R", "t", "distortion", "size_px")}
    return replace(cameras, **pick, names=tuple("abcdefgh"[: len(index)]), lens=("pinhole",) * len(index))


def random_images(views: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    """Smooth random colours, RGB in 0..1."""
    noise = torch.rand(batch * views, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    image = torch.nn.functional.interpolate(noise, size=(SIDE_PX, SIDE_PX), mode="bilinear")
    return image.unflatten(0, (batch, views))


def body_mm(batch: int = 1) -> torch.Tensor:
    """[batch, 17, 3]: people in the middle of the ring."""
    return torch.as_tensor(walk_mm(batch, radius_mm=0.0))


def peaked_heatmaps(
    cameras: Cameras, points_mm: torch.Tensor, cells: int = SIDE_PX // 4, sigma: float = 1.0
) -> torch.Tensor:
    """Log-Gaussians around the projections, [batch view joint cells cells] float64."""
    points = (cameras.project(points_mm)[0] + 0.5) * cells / SIDE_PX - 0.5
    index = torch.arange(cells, dtype=torch.float64)
    dx = (index - points[..., 0, None]) ** 2
    dy = (index - points[..., 1, None]) ** 2
    return -(dx[..., None, :] + dy[..., :, None]) / (2 * sigma**2)
