"""From light to a file: exposure, blur, noise, compression."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from tripose.data.photometric import motion_kernel

# Noise is cut out of one large tile at a random place: drawing it anew would cost as much as rendering.
_TILE = np.random.default_rng(7).standard_normal((1024, 1024, 3)).astype(np.float32)
_STEPS = np.linspace(0, 1, 4096, dtype=np.float32)


def expose(
    linear: Float32[np.ndarray, "height width 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "height width 3"]:
    """What a camera makes of linear colours: random exposure, gamma, blur and noise.

    Args:
        linear: RGB, 1 is white at normal exposure.
        rng: the camera's and the moment's accidents.
    """
    gain, gamma = rng.uniform(0.8, 1.6), rng.uniform(1.7, 2.6)
    curve = _STEPS ** np.float32(1 / gamma) * 255
    image: Float32[np.ndarray, "height width 3"] = curve[
        np.minimum(linear * np.float32(gain * 4095), 4095).astype(np.int32)
    ]
    height, width = image.shape[:2]
    if rng.random() < 0.5:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.3) * max(1.0, min(height, width) / 720)))
    elif rng.random() < 0.15:
        length_px = int(rng.integers(2, 5)) * 2 + 1
        image = np.asarray(cv2.filter2D(image, -1, motion_kernel(length_px, rng.uniform(0, np.pi))))
    level = rng.uniform(0, 6)
    row, column = rng.integers(0, 1024 - min(height, 1023)), rng.integers(0, 1024 - min(width, 1023))
    tile = np.resize(_TILE, (height, width, 3)) if max(height, width) > 1023 else _TILE[row:, column:][:height, :width]
    image += tile * np.float32(level)
    exposed: UInt8[np.ndarray, "height width 3"] = np.clip(image, 0, 255).astype(np.uint8)
    return exposed


def compress(image: UInt8[np.ndarray, "height width 3"], rng: np.random.Generator) -> bytes:
    """The image as JPEG, of good to poor quality."""
    _, code = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(45, 97))])
    return code.tobytes()
