"""Functions that numba compiles, an optional library."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tripose.errors import missing_extra

_Function = Callable[..., Any]


def compiled(extra: str, **options: Any) -> Callable[[_Function], _Function]:
    """Machine code from the first call on; kept on disk, where there is a place that can be written to.

    Args:
        extra: of the package, which brings numba for this function.
        options: of ``numba.njit``, beside ``cache`` and ``nogil``.

    Raises:
        TriposeError: numba is not installed.
    """
    try:
        import numba
    except ModuleNotFoundError as error:
        raise missing_extra("numba", extra) from error

    def compile_it(function: _Function) -> _Function:
        machine_code: _Function
        try:
            machine_code = numba.njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:
            machine_code = numba.njit(nogil=True, **options)(function)
        return machine_code

    return compile_it
