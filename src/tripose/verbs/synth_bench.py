"""``synth-bench``: a fixed test of synthetic people in bodies, motion, rooms and rigs that no model has seen.

The rig is a ring of four cameras at 2.5 to 3.1 m. Five hundred people, each rendered three times:

- ``clear``: nothing is in the way;
- ``occluded``: the same people with furniture, planks and sometimes somebody else before the cameras;
- ``truncated``: besides, boxes that cut part of the person off.

The first and the second are looked at with all four cameras; the second also with one, two neighbouring and three.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from tripose.data.batch import Samples
from tripose.data.shards import open_shards
from tripose.data.synthetic.people import Difficulty, People
from tripose.evaluation.choices import Choice
from tripose.evaluation.methods import Method
from tripose.evaluation.predictions import Predictions, merge
from tripose.evaluation.report import write_report
from tripose.evaluation.run import evaluate
from tripose.evaluation.tables import Tables
from tripose.models.weights import load_model
from tripose.triangulation import METHODS
from tripose.triangulation import Method as Baseline
from tripose.verbs.evaluate import methods_for
from tripose.verbs.sample import cache_folder
from tripose.verbs.synth import synth

BODIES = 500
SPLITS: tuple[Difficulty, ...] = ("clear", "occluded", "truncated")
FEW_VIEWS: tuple[Choice, ...] = (
    1,
    ("cam01", "cam02"),
    ("cam02", "cam03"),
    ("cam03", "cam04"),
    ("cam01", "cam04"),
    3,
    "all",
)
"""How the occluded people are looked at; a ring's neighbours are about 90 degrees apart."""
_SEED = 2026
_ROWS = 50  # that a process evaluates at a time
_VERSION = 1  # of the renderings: another picture, another number


def people_of(split: Difficulty) -> People:
    """The people of a split."""
    return People(seed=_SEED, views=(4, 4), difficulty=split, poses="test", layout="ring", distance_mm=(2500.0, 3100.0))


def choices_of(split: str) -> tuple[Choice, ...]:
    """Which views of a split are looked at."""
    return FEW_VIEWS if split == "occluded" else ("all",)


def open_bench(split: Difficulty, skeleton: str, *, workers: int = 2) -> Samples:
    """A split; rendered on first use and kept in the cache.

    Args:
        split: one of `SPLITS`.
        skeleton: of the truth: "halpe26" or "h36m17".
        workers: processes that render.

    Raises:
        TriposeError: rendering needs the package anny, or the cache cannot be written.
    """
    folder = cache_folder() / f"synth-bench-{_VERSION}" / split
    synth(people_of(split), BODIES, folder, workers=workers)
    return open_shards(folder, skeleton)


def evaluate_bench(
    models: Mapping[str, Path | str],
    out: Path,
    *,
    classical: Sequence[Baseline] = METHODS,
    dtype: torch.dtype | None = None,
    workers: int = 2,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Tables:
    """Evaluate models, and classical triangulation of what the first one's 2D network sees, on all splits.

    Args:
        models: name in the tables -> folder, or name of a model that ships.
        out: folder for predictions.npz, metrics.json, report.md and plots.
        classical: which classical methods.
        dtype: of the networks, see `tripose.models.inference.for_inference`.
        workers: processes, each with one thread.
        progress: called with the number of people that are rendered or evaluated, and of all.

    Raises:
        TriposeError: a model that cannot be loaded, rendering needs the package anny, or `out` cannot be written.
    """
    skeleton = load_model(next(iter(models.values()))).config.skeleton
    steps, rendered = 2 * BODIES * len(SPLITS), 0
    for split in SPLITS:
        open_bench(split, skeleton, workers=workers)
        rendered += BODIES
        progress(rendered, steps)
    work = [(split, range(start, start + _ROWS)) for split in SPLITS for start in range(0, BODIES, _ROWS)]
    asked = tuple((name, str(place)) for name, place in models.items()), tuple(classical), dtype
    found = list[Predictions]()
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        coming = [pool.submit(_evaluate_rows, split, rows, skeleton, *asked) for split, rows in work]
        for one in as_completed(coming):
            found.append(one.result())
            progress(steps // 2 + len(found) * _ROWS, steps)
    about = {"data": f"synth-bench {_VERSION}", **{f"model {name}": str(place) for name, place in models.items()}}
    return write_report(merge(*found), out, about)


def _evaluate_rows(
    split: Difficulty,
    rows: range,
    skeleton: str,
    models: tuple[tuple[str, str], ...],
    classical: tuple[Baseline, ...],
    dtype: torch.dtype | None,
) -> Predictions:
    torch.set_num_threads(1)
    samples = open_bench(split, skeleton)
    found = evaluate(samples, _methods(models, classical, dtype), choices_of(split), rows=rows)
    # The same person in another split is another row.
    return replace(found, row=found.row + BODIES * SPLITS.index(split))


@cache
def _methods(
    models: tuple[tuple[str, str], ...], classical: tuple[Baseline, ...], dtype: torch.dtype | None
) -> list[Method]:
    """Once a process."""
    return methods_for(dict(models), classical, dtype)
