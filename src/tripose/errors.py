"""The one exception that users see as a sentence."""


class TriposeError(ValueError):
    """Something about the user's input or machine that one sentence can explain.

    The message names the file, the value and the likely cause. The command line prints it without a
    traceback and exits with a code other than zero.
    """


def missing_extra(library: str, extra: str) -> TriposeError:
    """Return the error for an optional library that is not installed."""
    return TriposeError(f"this needs the library {library!r}, which is not installed: pip install 'tripose[{extra}]'")
