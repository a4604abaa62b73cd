"""What light, lenses, sensors and codecs do to an image, and things that stand in front of people.

Every function takes an RGB image of 8 bits, the generator that decides, and returns a new image. A millisecond each at
256 px, so that a loader keeps up with a network on a CPU.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

Image = UInt8[np.ndarray, "height width 3"]
Mask = Bool[np.ndarray, "height width"]

# Rec. 601, of R, G and B in luminance.
_LUMINANCE = np.array([0.299, 0.587, 0.114])
# Noise is cut out of one larger field at any of so many rows and columns: drawn anew it costs more than all the rest.
_NOISE_ROOM = 256


def recolour(image: Image, rng: np.random.Generator, strength: float) -> Image:
    """Change brightness, contrast, gamma, white balance and saturation.

    Args:
        image: RGB.
        rng: decides how.
        strength: 0 changes nothing; 1 doubles the contrast, or takes all of it.
    """
    saturation = 1 + strength * rng.uniform(-1.5, 1.5)
    coloured = cv2.transform(image, saturation * np.eye(3) + (1 - saturation) * _LUMINANCE)
    contrast, brightness = 1 + strength * rng.uniform(-1, 1), strength * rng.uniform(-0.5, 0.5)
    gamma = np.exp(strength * rng.uniform(-1, 1))
    balance = 1 + strength * rng.uniform(-0.4, 0.4, 3)
    level = (np.arange(256)[:, None] / 255) ** gamma * balance
    table = np.clip(255 * ((level - 0.5) * contrast + 0.5 + brightness), 0, 255)
    return np.asarray(cv2.LUT(coloured, np.rint(table).astype(np.uint8)[None]))


def grey(image: Image) -> Image:
    """The luminance in all three channels."""
    return np.asarray(cv2.transform(image, np.tile(_LUMINANCE, (3, 1))))


def blur(image: Image, rng: np.random.Generator) -> Image:
    """Out of focus, moving, or a person so far away that a few pixels have been enlarged."""
    kind = rng.integers(3)
    if kind == 0:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 2.0)))
    height, width = image.shape[:2]
    if kind == 1:
        length_px = int(rng.integers(1, 6)) * 2 + 1
        return np.asarray(cv2.filter2D(image, -1, motion_kernel(length_px, rng.uniform(0, np.pi))))
    share = rng.uniform(0.25, 0.8)
    few = cv2.resize(image, (round(width * share), round(height * share)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(few, (width, height), interpolation=cv2.INTER_LINEAR))


def motion_kernel(length_px: int, angle_rad: float) -> Float32[np.ndarray, "length length"]:
    """The trace of a point that moves evenly; `length_px` is odd."""
    middle = length_px // 2
    reach = middle * np.array([np.cos(angle_rad), np.sin(angle_rad)])
    start, end = np.rint(middle - reach).astype(int).tolist(), np.rint(middle + reach).astype(int).tolist()
    trace = np.asarray(cv2.line(np.zeros((length_px, length_px), np.float32), start, end, 1.0))
    return trace / np.float32(trace.sum())


def add_noise(image: Image, rng: np.random.Generator, sigma: float) -> Image:
    """Add normal noise of a standard deviation given in parts of white."""
    height, width = image.shape[:2]
    row, column = rng.integers(0, _NOISE_ROOM, 2)
    noise = _noise(height, width)[row : row + height, column : column + width]
    return np.asarray(cv2.addWeighted(image, 1.0, noise, 255 * sigma, 0.0, dtype=cv2.CV_8U))


def compress(image: Image, rng: np.random.Generator) -> Image:
    """What is left of an image that a camera has stored as JPEG."""
    quality = int(rng.integers(15, 90))
    # OpenCV takes the channels for B, G, R, which decides how coarsely each is stored.
    _, code = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))
    return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))


def put_in_front(image: Image, rng: np.random.Generator) -> tuple[Image, Mask]:
    """Put one to three boards or balls of random colours in front of the scene.

    Returns:
        The image, and which pixels are covered.
    """
    height, width = image.shape[:2]
    covered = np.zeros((height, width), np.uint8)
    for _ in range(rng.integers(1, 4)):
        middle = rng.uniform(0.1, 0.9, 2) * (width, height)
        sides = rng.uniform(0.06, 0.35, 2) * (width, height)
        box = (tuple(middle.tolist()), tuple(sides.tolist()), float(rng.uniform(0, 180)))
        if rng.random() < 0.5:
            cv2.ellipse(covered, box, 1, -1)
        else:
            cv2.fillConvexPoly(covered, np.rint(cv2.boxPoints(box)).astype(np.int32), 1)
    colours = np.clip(rng.integers(0, 256, 3) + rng.normal(0, 30, (6, 6, 3)), 0, 255).astype(np.uint8)
    smooth = cv2.INTER_LINEAR if rng.random() < 0.5 else cv2.INTER_NEAREST
    surface = cv2.resize(colours, (width, height), interpolation=smooth)
    return np.asarray(cv2.copyTo(surface, covered, image.copy())), covered.astype(bool)


def end_of_frame(image: Image, rng: np.random.Generator) -> tuple[Image, Mask]:
    """Make one side black, as if the frame that the crop was cut from ended there.

    Returns:
        The image, and which pixels are lost.
    """
    height, width = image.shape[:2]
    side, depth = rng.integers(4), rng.uniform(0.15, 0.45)
    rows, columns = round(depth * height), round(depth * width)
    everything = slice(None)
    where = (
        (slice(rows), everything),
        (slice(height - rows, None), everything),
        (everything, slice(columns)),
        (everything, slice(width - columns, None)),
    )
    image, mask = image.copy(), np.zeros((height, width), bool)
    image[where[side]] = 0
    mask[where[side]] = True
    return image, mask


@lru_cache(maxsize=4)
def _noise(height: int, width: int) -> Float32[np.ndarray, "_ _ 3"]:
    """Standard normal numbers, always the same; larger than an image by `_NOISE_ROOM`."""
    shape = (height + _NOISE_ROOM, width + _NOISE_ROOM, 3)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
