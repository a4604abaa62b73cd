"""How fast crops are read: stored ones by the workers of training, and people cut out of videos, as preparing does.

    python benchmarks/readers.py

Makes a data set of 4 views the size of Human3.6M's (videos of 1000 x 1000 px at 50 Hz, crops of 384 px) from noise that
compresses like images do, and reads it with two processes: crops a second (4 a moment), and memory.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import torch
import typer
from jaxtyping import UInt8
from rich.console import Console
from torch.utils.data import DataLoader

from tripose.cameras import Cameras
from tripose.data.labelled import LabelledSamples, label_scene
from tripose.data.scenes import Scene
from tripose.data.shards import open_shards, write_shards
from tripose.skeleton import COCO17
from tripose.train.batches import TrainBatches
from tripose.train.config import Data
from tripose.train.order import Order
from tripose.verbs.bench import machine
from tripose.verbs.prepare import stored
from tripose.video_writer import write_video

VIEWS, SIDE_PX, CROP_PX, FRAMES, FPS = 4, 1000, 384, 240, 50
WORKERS, BATCH = 2, 8
HEIGHT_MM = 1700.0


def rig() -> Cameras:
    """Cameras around a standing person, who fills half of their images."""
    angles = np.deg2rad(45 + 90 * np.arange(VIEWS))
    forward = -np.stack([np.cos(angles), np.sin(angles), np.zeros(VIEWS)], -1)
    right = np.stack([-forward[:, 1], forward[:, 0], np.zeros(VIEWS)], -1)
    R = np.stack([right, np.cross(forward, right), forward], 1)
    centres = -5000 * forward + [0, 0, HEIGHT_MM / 2]
    K = np.array([[1150.0, 0, SIDE_PX / 2], [0, 1150.0, SIDE_PX / 2], [0, 0, 1]])
    return Cameras.build(
        [f"cam{v}" for v in range(VIEWS)],
        K=np.broadcast_to(K, (VIEWS, 3, 3)),
        R=R,
        t_mm=-(R @ centres[..., None])[..., 0],
        size_px=np.full((VIEWS, 2), SIDE_PX),
        distortion=[[-0.2, 0.2, 0.0, 0.0, 0.0]] * VIEWS,
        up="z",
    )


def pictures(seed: int) -> Iterator[UInt8[np.ndarray, "1000 1000 3"]]:
    """A blurred pattern before which a finer one turns: about 3 Mbit/s, as Human3.6M's videos have."""
    random = np.random.default_rng(seed)
    still, moving = (
        cv2.resize(random.integers(0, 255, (cells, cells, 3), np.uint8), (SIDE_PX, SIDE_PX)) for cells in (60, 150)
    )
    for frame in range(FRAMES):
        turn = cv2.getRotationMatrix2D((SIDE_PX / 2, SIDE_PX / 2), 3.0 * frame, 1.0)
        image = still.copy()
        image[150:850, 350:650] = cv2.warpAffine(moving, turn, (SIDE_PX, SIDE_PX))[150:850, 350:650]
        yield image


def make(folder: Path) -> Scene:
    """The videos, and a person in them."""
    cameras, random = rig(), np.random.default_rng(0)
    body = random.uniform([-300, -300, 0], [300, 300, HEIGHT_MM], (len(COCO17), 3))
    sources = {}
    for view, name in enumerate(cameras.names):
        sources[name] = folder / f"{name}.mp4"
        with write_video(sources[name], FPS, (SIDE_PX, SIDE_PX)) as append:
            for image in pictures(view):
                append(image)
    keypoints = body + random.normal(0, 20, (FRAMES, 1, 3))
    return Scene("noise", cameras, sources, np.arange(FRAMES), keypoints, COCO17)


def read_videos(scene: Scene, folder: Path) -> tuple[int, int]:
    """Cut everybody out of all frames; how many moments, and the most memory of this process, kB."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    samples = LabelledSamples((label_scene(scene, folder),), COCO17, CROP_PX)
    n = sum(len(samples[i].images) == VIEWS for i in range(len(samples)))
    return n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    torch.set_num_threads(1)
    console = Console()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        scene = make(folder)
        mbits = sum(path.stat().st_size for path in scene.sources.values()) * 8e-6 / VIEWS / FRAMES * FPS
        with ProcessPoolExecutor(WORKERS, get_context("spawn")) as pool:
            few = replace(scene, frame=scene.frame[:4], keypoints_mm=scene.keypoints_mm[:4])
            list(pool.map(read_videos, [few] * WORKERS, [folder] * WORKERS))  # started
            start = time.perf_counter()
            done = list(pool.map(read_videos, [scene] * WORKERS, [folder] * WORKERS))
            video = sum(n for n, _ in done) / (time.perf_counter() - start)
        samples = LabelledSamples((label_scene(scene, folder),), COCO17, CROP_PX)
        write_shards(stored(samples, range(FRAMES)), folder / "stored")
        kept = open_shards(folder / "stored", "coco17")
        batches = TrainBatches(kept, Order(len(kept), BATCH, 0), Data(workers=WORKERS))
        loader = DataLoader(
            batches, batch_size=None, sampler=range(200), num_workers=WORKERS, multiprocessing_context="spawn"
        )
        coming = iter(loader)
        for _ in range(10):
            next(coming)
        start, n = time.perf_counter(), 0
        for batch in coming:
            n += len(batch["index"])
        jpeg = n / (time.perf_counter() - start)
    console.print(f"{machine()}; {WORKERS} processes, crops of {CROP_PX} px a second, {VIEWS} a moment:")
    console.print(f"stored {VIEWS * jpeg:.0f}, cut out of videos of {SIDE_PX} px {VIEWS * video:.0f}", highlight=False)
    memory = max(m for _, m in done) / 1024
    console.print(f"videos of {mbits:.1f} Mbit/s; a process that reads them takes {memory:.0f} MB", highlight=False)


if __name__ == "__main__":
    typer.run(main)
