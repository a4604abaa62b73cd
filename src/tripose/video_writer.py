"""Write images as an H.264 video."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from tripose.errors import TriposeError


@contextmanager
def write_video(
    path: Path, fps: float, size_px: tuple[int, int]
) -> Iterator[Callable[[UInt8[np.ndarray, "height width 3"]], None]]:
    """Write an H.264 file: a context that gives a function which appends one RGB image.

    The file appears under its name only when the context ends without an error. An odd width or height is padded by
    repeating the last column or row, as yuv420p needs even sizes.

    Args:
        path: file to write; the suffix names the container (.mp4, .mov, .mkv).
        fps: frames per second.
        size_px: width and height of every image.

    Raises:
        TriposeError: an image of another size.
    """
    import av

    path = Path(path)
    width, height = size_px
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        with av.open(str(partial), "w") as container:
            stream = container.add_stream("libx264", Fraction(fps).limit_denominator(1001), {"preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"

            def append(image: UInt8[np.ndarray, "height width 3"]) -> None:
                if image.shape != (height, width, 3):
                    raise TriposeError(f"{path} takes images of {(height, width, 3)}, got one of {image.shape}")
                even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
                container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))

            yield append
            container.mux(stream.encode())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
