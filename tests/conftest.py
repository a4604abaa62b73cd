from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import jaxtyping
import pytest

if TYPE_CHECKING:
    from tripose.data.synthetic.bodies import BodyModel


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the shape checks of ``--jaxtyping-packages``, which would come before the library's own."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(scope="session")
def bodies() -> BodyModel:
    """The body model; its first build (90 s, 0.8 GB) is one worker's, and the others wait for the files it leaves."""
    pytest.importorskip("numba")
    pytest.importorskip("anny")
    from anny.paths import get_anny_cache_path
    from filelock import FileLock  # a dependency of torch

    from tripose.data.synthetic.bodies import load_bodies

    cache = get_anny_cache_path()
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / "tests.lock"):
        return load_bodies()
