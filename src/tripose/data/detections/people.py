"""The joints of random people, by two definitions of where a joint is, without images."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32

from tripose.data.synthetic.bodies import load_bodies, random_shape
from tripose.data.synthetic.prior import sample_pose
from tripose.formats.writing import atomic
from tripose.skeleton import H36M17, HALPE26

JOINTS = (*HALPE26.joints, "spine")
"""All that the body model tells."""
_CHUNK = 100


def make_people(
    n: int,
    seed: int,
    poses: Literal["train", "test"],
    progress: Callable[[int, int | None], None] = lambda done, total: None,
    workers: int = 2,
) -> Float32[np.ndarray, "person definition joint 3"]:
    """Random poses and shapes of the body model, metres, standing anywhere; the same for the same seed.

    Definitions: the surface-like joints that annotators of COCO click on, and the heads of bones that motion capture
    calls joints. Where only one of them has a joint, both are that one.

    Args:
        n: how many; about 15 ms each on one core.
        seed: another seed, other people.
        poses: half of the pose prior.
        progress: called with the number of people that are done, and of all.
        workers: processes.
    """
    starts = range(0, n, _CHUNK)
    parts = []
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        arguments = zip(*((seed, start, min(_CHUNK, n - start), poses) for start in starts), strict=True)
        for part in pool.map(_some, *arguments):
            parts.append(part)
            progress(sum(map(len, parts)), n)
    return np.concatenate(parts)


def stored_people(
    path: Path,
    n: int,
    seed: int,
    poses: Literal["train", "test"],
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Float32[np.ndarray, "person definition joint 3"]:
    """The same people, from a file that an earlier run left there, or made now and kept in it."""
    from filelock import FileLock  # a dependency of torch

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):  # of several processes one makes them
        kept = _kept(path, n, seed, poses)
        if kept is not None:
            return kept
        people = make_people(n, seed, poses, progress)
        with atomic(path, ".npz") as part:
            np.savez(part, people=people, seed=seed, poses=poses)
        return people


def _kept(
    path: Path, n: int, seed: int, poses: Literal["train", "test"]
) -> Float32[np.ndarray, "person definition joint 3"] | None:
    """The people of a file, if they are the same; None if it is damaged."""
    try:
        with np.load(path) as file:
            people: Float32[np.ndarray, "person definition joint 3"] = file["people"]
            return people if (int(file["seed"]), str(file["poses"]), len(people)) == (seed, poses, n) else None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def _some(seed: int, start: int, n: int, poses: Literal["train", "test"]) -> Float32[np.ndarray, "person two joint 3"]:
    torch.set_num_threads(1)
    model, rng = load_bodies(), np.random.default_rng([seed, start])
    pose = np.stack([sample_pose(rng, poses) for _ in range(n)])
    bodies = model(pose, [random_shape(rng) for _ in range(n)])
    return np.stack([_both(body.keypoints_mm["halpe26"], body.keypoints_mm["h36m17"]) for body in bodies])


def _both(
    halpe26: Float[np.ndarray, "joint 3"], h36m17: Float[np.ndarray, "joint 3"]
) -> Float32[np.ndarray, "definition joint 3"]:
    seen = dict(zip(HALPE26.joints, halpe26, strict=True))
    capture = dict(zip(H36M17.joints, h36m17, strict=True))
    both = [[(first | second)[joint] for joint in JOINTS] for first, second in ((capture, seen), (seen, capture))]
    return (np.array(both) / 1000).astype(np.float32)
