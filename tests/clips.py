"""Test clips whose frames carry their number in pixels, so that frame identity is checked exactly."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS = 8
SIZE_PX = (128, 64)


def picture(number: int, size_px: tuple[int, int] = SIZE_PX) -> np.ndarray:
    """An image with the number as black and white blocks in its upper half; its lower left corner is red."""
    width, height = size_px
    image = np.full((height, width, 3), 64, np.uint8)
    for bit in range(BITS):
        block = slice(bit * width // BITS, (bit + 1) * width // BITS)
        image[: height // 2, block] = 255 if number >> bit & 1 else 0
    image[height // 2 :, : width // 2] = (200, 30, 30)
    return image


def number_of(image: np.ndarray) -> int:
    """The number that `picture` wrote."""
    height, width = image.shape[:2]
    blocks = [image[: height // 2, i * width // BITS : (i + 1) * width // BITS].mean() > 128 for i in range(BITS)]
    return sum(1 << i for i, white in enumerate(blocks) if white)


def write_clip(
    path: Path,
    frames: int = 90,
    fps: Fraction | int = 30,
    *,
    gop: int = 30,
    b_frames: int = 0,
    skip: frozenset[int] = frozenset(),
    first_tick: int = 0,
    options: dict[str, str] | None = None,
    codec: str = "libx264",
) -> Path:
    """Encode `picture` of every frame number but the skipped ones, each at its own time."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, Fraction(fps))
        stream.width, stream.height = SIZE_PX
        stream.pix_fmt = "yuv420p" if codec == "libx264" else "yuvj420p"
        stream.gop_size = gop
        if codec == "libx264":
            stream.options = {"bf": str(b_frames), "crf": "18", "g": str(gop), "sc_threshold": "0"}
        stream.codec_context.time_base = 1 / Fraction(fps)
        for i in range(frames):
            if i in skip:
                continue
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24")
            frame.pts, frame.time_base = i + first_tick, 1 / Fraction(fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def turn_in_metadata(path: Path, clockwise_deg: int) -> None:
    """Write a rotation into the display matrix of an mp4's track header (ISO 14496-12, 8.3.2), not into its pixels."""
    one, w = 1 << 16, 1 << 30
    cos, sin = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[clockwise_deg]
    matrix = [cos * one, sin * one, 0, -sin * one, cos * one, 0, 0, 0, w]
    content = bytearray(path.read_bytes())
    header = content.index(b"tkhd") + 4
    wide = content[header] == 1  # version 1 has 64-bit times
    start = header + 4 + (32 if wide else 20) + 16
    content[start : start + 36] = b"".join(int(v).to_bytes(4, "big", signed=True) for v in matrix)
    path.write_bytes(bytes(content))
