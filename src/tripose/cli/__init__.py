"""The command line: one command a verb, each a thin call of the function of the same name."""

from __future__ import annotations

import sys
import warnings

from tripose.cli import recordings, tables, training
from tripose.cli.common import app, say
from tripose.errors import TriposeError

__all__ = ["main", "recordings", "tables", "training"]


def main() -> None:
    """Entry point: one sentence and exit code 2 for what the user can mend, no traceback."""
    warnings.showwarning = lambda message, *_args, **_kwargs: say("warning", str(message))
    try:
        app()
    except TriposeError as error:
        say("error", str(error))
        sys.exit(2)
