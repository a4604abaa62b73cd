"""Which cameras of a rig the methods are given."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import Literal

from tripose.errors import TriposeError

Choice = Literal["all", "pairs"] | int | tuple[str, ...]
"""All cameras; every pair of them; the first n; or those with these names."""


def parse_choices(text: str) -> list[Choice]:
    """Choices as they are typed: ``all,pairs,3,left+right``.

    Raises:
        TriposeError: nothing, or a number of cameras below 1.
    """
    choices = [_parse(part.strip()) for part in text.split(",") if part.strip()]
    if not choices:
        raise TriposeError("no views are chosen; give all, pairs, a number of cameras, or names like left+right")
    return choices


def _parse(part: str) -> Choice:
    if part in ("all", "pairs"):
        return "all" if part == "all" else "pairs"
    if part.lstrip("-").isdigit():
        if int(part) < 1:
            raise TriposeError(f"{part} views are chosen; at least 1 is needed")
        return int(part)
    return tuple(name.strip() for name in part.split("+"))


def chosen_views(choices: Iterable[Choice], cameras: tuple[str, ...]) -> list[tuple[int, ...]]:
    """Which views of a rig the choices mean, each set once.

    A rig that has fewer cameras than a choice asks for has no such choice.

    Args:
        choices: in any order.
        cameras: names of the rig's cameras, in the order of the views.

    Raises:
        TriposeError: a name that no camera has.
    """
    views = range(len(cameras))
    sets: dict[tuple[int, ...], None] = {}
    for choice in choices:
        match choice:
            case "all":
                sets[tuple(views)] = None
            case "pairs":
                sets.update(dict.fromkeys(combinations(views, 2)))
            case int():
                if choice <= len(cameras):
                    sets[tuple(views[:choice])] = None
            case _:
                unknown = [name for name in choice if name not in cameras]
                if unknown:
                    raise TriposeError(f"no camera is called {unknown[0]!r}; the rig has {', '.join(cameras)}")
                sets[tuple(sorted({cameras.index(name) for name in choice}))] = None
    return list(sets)
