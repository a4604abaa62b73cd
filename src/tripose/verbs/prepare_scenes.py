"""What preparing a public data set is, whichever it is: scene by scene the labels, then shard by shard the crops.

Both go on where they were interrupted: every scene's labels and every shard is a file that is complete or not there.
"""

from __future__ import annotations

import json
import multiprocessing
import re
import shutil
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

from tripose.data.labelled import LabelledSamples, label_scene
from tripose.data.scenes import Scene, read_index, write_index
from tripose.data.shards import SAMPLES_PER_SHARD, write_shard
from tripose.errors import TriposeError
from tripose.formats.writing import atomic
from tripose.skeleton import Skeleton
from tripose.verbs.prepare import stored

INDEX = "index.npz"

# Crops of 384 px of real recordings, Human3.6M's among them, take 0.23 to 0.28.
_BYTES_PER_PIXEL = 0.3

Progress = Callable[[int, int], None]
Job = Callable[[], tuple[Scene, Sequence[str]]]
"""Reads a scene; also says, a sentence each, what of it is missing."""


def remember(dst: Path, settings: Mapping[str, str | int]) -> None:
    """Keep what a data set is prepared with, so that no other run goes on with it in another way.

    Raises:
        TriposeError: it was begun with other settings, or the folder cannot be written.
    """
    dst.mkdir(parents=True, exist_ok=True)
    kept, about = dst / "prepare.json", json.dumps(settings, indent=2) + "\n"
    if not kept.exists():
        with atomic(kept) as part:
            part.write_text(about, encoding="utf-8")
    elif kept.read_text(encoding="utf-8") != about:
        raise TriposeError(f"{dst} was begun with other settings, see {kept}; take these, or another folder")


def gather(jobs: Mapping[str, Job], dst: Path, *, workers: int, progress: Progress | None = None) -> list[Scene]:
    """Read the labels of scenes and write them into one index, in the order of the jobs; those that it has stay.

    Args:
        jobs: scene by name -> what reads it, in another process.
        dst: folder of the index.
        workers: processes.
        progress: told the scenes done and their number.

    Raises:
        TriposeError: scenes that cannot be read; all others are kept, so that only these are read next time.
    """
    index, parts = dst / INDEX, dst / ".scenes"
    known = {s.name: s for s in read_index(index)} if index.exists() else {}
    if jobs.keys() <= known.keys():
        return list(known.values())
    parts.mkdir(parents=True, exist_ok=True)
    files = {name: parts / f"{_slug(name)}.npz" for name in jobs if name not in known}
    missing = {name: path for name, path in files.items() if not path.exists()}
    broken: dict[str, str] = {}
    with _pool(workers) as pool:
        coming = {pool.submit(_gather_one, jobs[name], path): name for name, path in missing.items()}
        for n, one in enumerate(as_completed(coming), start=len(jobs) - len(missing) + 1):
            if problem := _problem(one):
                broken[coming[one]] = problem
            else:
                for said in one.result():
                    warnings.warn(said, stacklevel=2)
            if progress is not None:
                progress(n, len(jobs))
    if broken:
        name, why = next(iter(broken.items()))
        raise TriposeError(
            f"{len(broken)} of {len(jobs)} scenes cannot be read, {name} among them: {why}; the others are kept, so "
            "mend or leave out these and start again"
        )
    scenes = [known[name] if name in known else read_index(files[name])[0] for name in {**jobs, **known}]
    write_index(scenes, index)
    shutil.rmtree(parts)
    return scenes


def check_room(
    dst: Path, splits: Iterable[str], scenes: Sequence[Scene], side_px: int, say: Callable[[str], None]
) -> None:
    """Tell how much room the crops take, before the first one is written.

    Args:
        dst: folder of the data set.
        splits: names of their folders.
        scenes: all of them.
        side_px: of the crops.
        say: what tells.

    Raises:
        TriposeError: there is not enough.
    """
    if any(True for split in splits for _ in (dst / split).glob("*.safetensors")):
        return
    images = sum(len(s.frame) * len(s.sources) for s in scenes)
    need, free = images * side_px**2 * _BYTES_PER_PIXEL, shutil.disk_usage(dst).free
    told = f"{dst}: {images} crops of {side_px} px take about {need / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
    if need > free:
        raise TriposeError(told)
    say(told)


def cut(
    dst: Path,
    splits: Mapping[str, Collection[str]],
    side_px: int,
    *,
    others: Sequence[Skeleton] = (),
    workers: int,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Cut everybody out of the images of an indexed data set, as one folder of shards for each split.

    Args:
        dst: folder of the index.
        splits: names of scenes, by the name of their folder.
        side_px: of the crops.
        others: skeletons in which the truth is kept beside its own.
        workers: processes.
        progress: told the samples done and their number.

    Returns:
        The number of labelled moments, by split.

    Raises:
        TriposeError: images that cannot be read; all other shards are kept.
    """
    scenes = {s.name: s for s in read_index(dst / INDEX)}
    wanted = {
        dst / split / f"{_slug(name)}-{start:06d}.safetensors": part
        for split, names in splits.items()
        for name in names
        for start, part in _parts(scenes[name])
    }
    for split in splits:
        (dst / split).mkdir(exist_ok=True)
    missing = {path: part for path, part in wanted.items() if not path.exists()}
    total, left = (sum(len(part.frame) for part in some.values()) for some in (wanted, missing))
    broken: dict[str, str] = {}
    with _pool(workers) as pool:
        coming = {pool.submit(_cut_one, part, dst, side_px, others, path): path for path, part in missing.items()}
        for one in as_completed(coming):
            if problem := _problem(one):
                broken[coming[one].name] = problem
            left -= len(missing[coming[one]].frame)
            if progress is not None:
                progress(total - left, total)
    if broken:
        name, why = next(iter(broken.items()))
        raise TriposeError(f"{len(broken)} of {len(wanted)} shards cannot be made, {name} among them: {why}")
    return {split: sum(len(scenes[name].frame) for name in names) for split, names in splits.items()}


def _gather_one(job: Job, path: Path) -> tuple[str, ...]:
    scene, missing = job()
    write_index([scene], path)
    return tuple(missing)


def _parts(scene: Scene) -> Iterator[tuple[int, Scene]]:
    """A scene as its shards have it: the number of their first row, and their rows."""
    for start in range(0, len(scene.frame), SAMPLES_PER_SHARD):
        rows = slice(start, start + SAMPLES_PER_SHARD)
        box_px = None if scene.box_px is None else scene.box_px[rows]
        yield start, replace(scene, frame=scene.frame[rows], keypoints_mm=scene.keypoints_mm[rows], box_px=box_px)


def _cut_one(part: Scene, dst: Path, side_px: int, others: Sequence[Skeleton], path: Path) -> None:
    import torch

    torch.set_num_threads(1)
    samples = LabelledSamples((label_scene(part, dst),), part.skeleton, side_px)
    some = list(stored(samples, range(len(samples)), others))
    if not some:
        raise TriposeError(f"{part.name}: the images from number {part.frame[0]} on show nobody, or are not there")
    write_shard(some, path)


def _problem(done: Future[Any]) -> str | None:
    """What went wrong in another process, if it is the data's fault."""
    error = done.exception()
    if error is None:
        return None
    if isinstance(error, TriposeError):
        return str(error)
    raise error


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", " ", name)
