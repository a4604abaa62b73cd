"""What does bfloat16 cost where it matters, on peaked heatmaps? Distances between the fast copy and float32.

    python benchmarks/precision.py [--backbone resnet152] [--steps 120]

Random weights have flat heatmaps, which forgive everything. So this teaches the whole algebraic model, and the 3D
network of a volumetric one, a single frame of a synthetic person by heart (half an hour on one core with bfloat16
arithmetic), and then compares the positions that float32 and the fast copies give.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from scene import ring, walk_mm
from tripose.cameras import Cameras
from tripose.geometry.volume import place_cuboid
from tripose.models.config import Algebraic, Volumetric
from tripose.models.inference import for_inference
from tripose.models.losses import volumetric_cross_entropy
from tripose.models.pose_resnet import BasicBlock, Bottleneck
from tripose.models.views import normalise
from tripose.models.weights import Model, build_model
from tripose.verbs.bench import machine

SIDE_PX, CELLS = 384, 96
LIKE = {"skeleton": "coco17", "legacy_alignment": True, "channels": "bgr"}


def frame() -> tuple[torch.Tensor, Cameras, torch.Tensor, torch.Tensor]:
    """Images with a disk of its own colour at every joint; cameras; joints in the world and in the images."""
    random = torch.Generator().manual_seed(0)
    # Crops of 2 m around the person, as the methods get them: 5 mm to a pixel.
    box = torch.tensor([220.0, 220.0, 780.0, 780.0])
    cameras = ring(4).crop(box.expand(4, 4)).resize(torch.full((4, 2), SIDE_PX))
    joints_mm = torch.as_tensor(walk_mm(1, radius_mm=0.0))
    points_px = cameras.project(joints_mm[0])[0]
    noise = [F.interpolate(torch.rand(4, 3, n, n, generator=random), size=(SIDE_PX, SIDE_PX)) for n in (12, 96)]
    images = sum(noise) / 4
    grid = torch.arange(SIDE_PX, dtype=torch.float64)
    colours = torch.rand(17, 3, generator=random)
    for view in range(4):
        for joint, (x, y) in enumerate(points_px[view]):
            disk = (grid - x) ** 2 + (grid[:, None] - y) ** 2 < 12**2
            images[view, :, disk] = colours[joint][:, None]
    return images[None], cameras, joints_mm, points_px


def targets(points_px: torch.Tensor) -> torch.Tensor:
    """[view, joint, cells * cells]: Gaussians of two cells that sum to one."""
    cells = points_px[..., None, None] * CELLS / SIDE_PX
    index = torch.arange(CELLS)
    squared = (index - cells[:, :, 0]) ** 2 + (index[:, None] - cells[:, :, 1]) ** 2
    return (-squared / 8).flatten(2).softmax(-1).float()


def settle(model: Model, run) -> None:
    """Batch statistics of the frame itself, as running statistics."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            module.reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        run()
    model.eval()


def descend(parameters, loss_of, steps: int, rate: float) -> None:
    optimiser = torch.optim.Adam(parameters, rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    start = time.perf_counter()
    for step in range(steps):
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 20 == 0 or step == steps - 1:
            print(f"  step {step}: loss {loss.item():.4g}, {time.perf_counter() - start:.0f} s", flush=True)


def compare(model: Model, images, cameras, joints_mm, what: str) -> None:
    center_mm = joints_mm[:, [11, 12]].mean(1)
    with torch.no_grad():
        plain = model(images, cameras, None, center_mm)
        logits = plain[what].flatten(-2 if what == "heatmaps" else -3)
        error_mm = (plain["keypoints_mm"] - joints_mm).norm(dim=-1)
        print(f"  float32: {error_mm.median():.1f} mm from the truth (median), ", end="")
        print(f"largest cell holds {logits.softmax(-1).amax(-1).median():.2g} of the mass (median)")
        for dtype in (torch.float32, torch.bfloat16):
            fast = for_inference(model, dtype)(images, cameras, None, center_mm)
            apart_mm = (fast["keypoints_mm"] - plain["keypoints_mm"]).norm(dim=-1)
            apart_px = (fast["keypoints_px"] - plain["keypoints_px"]).norm(dim=-1)
            print(
                f"  fast copy in {str(dtype)[6:]}: median {apart_mm.median():.4f}, max {apart_mm.max():.4f} mm, "
                f"max {apart_px.max():.4f} px"
            )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", default="resnet152")
    parser.add_argument("--steps", type=int, default=120)
    said = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{machine()}; {said.backbone}, 4 views of {SIDE_PX} px, 64^3 voxels")
    images, cameras, joints_mm, points_px = frame()
    wanted = targets(points_px)

    print("algebraic")
    model = build_model(Algebraic(backbone=said.backbone, **LIKE)).train()

    def heatmap_loss() -> torch.Tensor:
        return -(wanted * model.encode(images[0])[0].float().flatten(2).log_softmax(-1)).sum(-1).mean()

    # Logits are multiplied by 100: start with flat ones; and with blocks that do nothing, which deep networks need.
    torch.nn.init.normal_(model.backbone.final_layer.weight, std=1e-4)
    for block in model.backbone.modules():
        if isinstance(block, Bottleneck | BasicBlock):
            torch.nn.init.zeros_((block.bn3 if isinstance(block, Bottleneck) else block.bn2).weight)
    descend(model.parameters(), heatmap_loss, said.steps, 1e-3)
    settle(model, lambda: model.encode(images[0]))
    descend(model.parameters(), heatmap_loss, said.steps // 4, 1e-4)
    compare(model, images, cameras, joints_mm, "heatmaps")

    print("volumetric")
    volumetric = build_model(Volumetric(backbone=said.backbone, **LIKE))
    volumetric.backbone.load_state_dict(model.backbone.state_dict(), strict=False)
    volumetric.eval()
    with torch.no_grad():
        features = volumetric.backbone(normalise(images[0], volumetric.config)).features
    center_mm = joints_mm[:, [11, 12]].mean(1)
    valid = torch.ones(1, 17, dtype=torch.bool)
    volumetric.volume_net.train()
    cuboid = place_cuboid(center_mm, volumetric.config.side_mm, 64, up="z", world_up="z")

    def loss() -> torch.Tensor:
        maps = volumetric.process_features(features)[None]
        volumes = volumetric.volumes(maps, maps[..., :0, 0, 0], cameras.P[None], (SIDE_PX, SIDE_PX), cuboid)
        return volumetric_cross_entropy(volumes.float(), cuboid, joints_mm, valid)

    learned = [*volumetric.process_features.parameters(), *volumetric.volume_net.parameters()]
    descend(learned, loss, said.steps // 2, 3e-3)
    settle(volumetric.volume_net, loss)
    # At the coarsest level the running variance of 8 voxels is a seventh larger than the one trained with.
    descend(learned, loss, said.steps // 4, 1e-3)
    compare(volumetric, images, cameras, joints_mm, "volumes")


if __name__ == "__main__":
    main()
