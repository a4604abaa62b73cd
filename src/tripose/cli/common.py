"""What the commands share: the application, messages, a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Calibrated multi-camera video in, metric 3D human pose out.",
)
console = Console()
# Where messages for people go, so that results on standard output can be piped.
aside = Console(stderr=True)


@contextmanager
def progress(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar on standard error; hidden when that is not a terminal."""
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TextColumn("frames"), TimeRemainingColumn())
    with Progress(*columns, console=aside, disable=not aside.is_terminal) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def say(level: str, text: str) -> None:
    """Tell people something, on standard error."""
    aside.print(f"tripose: {level}: {text}", markup=False, highlight=False, soft_wrap=True)
