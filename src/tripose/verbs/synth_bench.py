"""``synth-bench``: a fixed test of synthetic people in bodies, motion, rooms and rigs that no model has seen.

The rig is a ring of four cameras at 2.5 to 3.1 m. Five hundred people, each rendered three times:

- ``clear``: nothing is in the way;
- ``occluded``: the same people with furniture, planks and sometimes somebody else before the cameras;
- ``truncated``: besides, boxes that cut part of the person off.

The first and the second are looked at with all four cameras; the second also with one, two neighbouring and three.
"""

from __future__ import annotations

from collections.abc import Callable

from tripose.data.batch import Samples
from tripose.data.shards import open_shards
from tripose.data.synthetic.people import Difficulty, People
from tripose.evaluation.choices import Choice
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
_VERSION = 1  # of the renderings: another picture, another number


def people_of(split: Difficulty) -> People:
    """The people of a split."""
    return People(seed=_SEED, views=(4, 4), difficulty=split, poses="test", layout="ring", distance_mm=(2500.0, 3100.0))


def choices_of(split: str) -> tuple[Choice, ...]:
    """Which views of a split are looked at."""
    return FEW_VIEWS if split == "occluded" else ("all",)


def open_bench(
    split: Difficulty, skeleton: str, *, workers: int = 2, progress: Callable[[int, int], None] | None = None
) -> Samples:
    """A split; rendered on first use and kept in the cache.

    Args:
        split: one of `SPLITS`.
        skeleton: of the truth: "halpe26" or "h36m17".
        workers: processes that render.
        progress: told the number of people that are rendered, and of all.

    Raises:
        TriposeError: rendering needs the package anny, or the cache cannot be written.
    """
    folder = cache_folder() / f"synth-bench-{_VERSION}" / split
    synth(people_of(split), BODIES, folder, workers=workers, progress=progress)
    return open_shards(folder, skeleton)
