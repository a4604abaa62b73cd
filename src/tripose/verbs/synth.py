"""``tripose synth``: data sets and recordings of people that never were."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from tripose.data.shards import SAMPLES_PER_SHARD, write_shard
from tripose.data.synthetic.bodies import load_bodies
from tripose.data.synthetic.film import film
from tripose.data.synthetic.people import People, render
from tripose.errors import TriposeError
from tripose.formats.calibration import write_calibration_toml
from tripose.formats.netcdf import write_netcdf
from tripose.video_writer import write_video

_ABOUT = "synth.json"


def synth(
    people: People, samples: int, out: Path, *, workers: int = 2, progress: Callable[[int, int], None] | None = None
) -> None:
    """Render a data set as shards; an interrupted run goes on where it stopped, a finished one does nothing.

    Asked for more or fewer, it renders or deletes what differs.

    Args:
        people: which.
        samples: how many people, each once.
        out: folder of the shards; `people` is kept there as ``synth.json``.
        workers: processes.
        progress: told the number of samples that are done, and of all.

    Raises:
        TriposeError: the package anny is not installed, or the folder holds other people.
    """
    out.mkdir(parents=True, exist_ok=True)
    about = json.dumps(asdict(people), indent=2) + "\n"
    kept = out / _ABOUT
    if kept.exists() and kept.read_text(encoding="utf-8") != about:
        raise TriposeError(f"{out} holds other synthetic people, see {kept}; choose another folder")
    kept.write_text(about, encoding="utf-8")
    parts = [(start, min(start + SAMPLES_PER_SHARD, samples)) for start in range(0, samples, SAMPLES_PER_SHARD)]
    wanted = {out / f"{start:08d}-{stop:08d}.safetensors": (start, stop) for start, stop in parts}
    for other in set(out.glob("*.safetensors")) - wanted.keys():
        other.unlink()  # the last part of a smaller set, or parts of a larger one
    missing = [(start, stop, path) for path, (start, stop) in wanted.items() if not path.exists()]
    if missing:
        load_bodies()  # says which package is not there, and builds the cache that all processes then read
    done = samples - sum(stop - start for start, stop, _ in missing)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        coming = [pool.submit(_render_shard, people, *part) for part in missing]
        for one in as_completed(coming):
            done += one.result()
            if progress is not None:
                progress(done, samples)


def synth_recording(
    seed: int, frames: int, out: Path, *, views: int = 4, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write a whole recording: ``calibration.toml``, a video a camera, and the truth as ``truth.nc`` (HALPE-26).

    Args:
        seed: another seed, another person, room, rig and motion.
        frames: length.
        out: folder, as `tripose.Recording.open` takes it.
        views: number of cameras.
        progress: told the number of frames that are done, and of all.

    Raises:
        TriposeError: the package anny is not installed.
    """
    made = film(seed, frames, views=views)
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as open_files:
        sizes = [tuple(size) for size in made.cameras.size_px.tolist()]
        videos = [
            open_files.enter_context(write_video(out / f"{name}.mp4", made.truth.fps, size))
            for name, size in zip(made.cameras.names, sizes, strict=True)
        ]
        for done, images in enumerate(made.frames, start=1):
            for write, image in zip(videos, images, strict=True):
                write(image)
            if progress is not None:
                progress(done, frames)
    write_calibration_toml(made.cameras, out / "calibration.toml")
    write_netcdf(made.truth, out / "truth.nc")


def _render_shard(people: People, start: int, stop: int, path: Path) -> int:
    import torch

    torch.set_num_threads(1)
    write_shard([render(people, index) for index in range(start, stop)], path)
    return stop - start
