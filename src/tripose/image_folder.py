"""Folders of numbered images."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from tripose.errors import TriposeError

IMAGE_SUFFIXES = frozenset(".png .jpg .jpeg .bmp .tif .tiff .webp".split())


def frame_numbers(folder: Path) -> tuple[int, int]:
    """The lowest and the highest number in a folder of images."""
    images = numbered_images(folder)
    return next(iter(images)), next(reversed(images))


def numbered_images(folder: Path) -> dict[int, Path]:
    """Images by the last number in their names, ascending."""
    images: dict[int, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in IMAGE_SUFFIXES or file.name.startswith("."):
            continue
        numbers = re.findall(r"\d+", file.stem)
        if not numbers:
            raise TriposeError(f"{file} has no frame number in its name, so its place in time is unknown")
        number = int(numbers[-1])
        if number in images:
            raise TriposeError(f"{file} and {images[number].name} have the same frame number {number}")
        images[number] = file
    if not images:
        raise TriposeError(f"there are no images in {folder} (looked for {' '.join(sorted(IMAGE_SUFFIXES))})")
    return dict(sorted(images.items()))


def read_image(file: Path) -> UInt8[np.ndarray, "height width 3"] | None:
    """RGB, 8 bit, upright by EXIF; None if the file cannot be read."""
    import cv2

    try:  # bytes, as OpenCV cannot open every path that the system can
        encoded = np.frombuffer(file.read_bytes(), np.uint8)
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if len(encoded) else None
    except (OSError, cv2.error):
        return None
    return None if image is None else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
