"""The ground-truth boxes of Human3.6M: MAT files (version 7.3, that is HDF5) with a mask for every frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Shaped

from tripose.errors import TriposeError


def read_boxes(path: Path) -> Float[np.ndarray, "frame 4"]:
    """Read a file of ``ground_truth_bb``, one mask at a time.

    Returns:
        Left, upper, right and lower edge of each mask, pixels; right and lower are the first column and row outside.
        NaN where a mask is empty.

    Raises:
        TriposeError: no such file, truncated, or another kind of file.
    """
    import h5py

    if not path.is_file():
        raise TriposeError(f"{path}: there is no such file of boxes")
    try:
        with h5py.File(path, "r") as file:
            if "Masks" not in file:
                raise TriposeError(f"{path} has no 'Masks': it is not a file of ground_truth_bb")
            masks = file["Masks"]
            if not isinstance(masks, h5py.Dataset):
                raise TriposeError(f"{path}: 'Masks' is a group, expected one mask for every frame")
            if masks.dtype == h5py.ref_dtype:  # a cell array: [frame, 1] references
                boxes = [_box(file[reference][()]) for reference in masks[()].ravel()]
            elif masks.ndim == 3:
                boxes = [_box(mask) for mask in _in_blocks(masks)]
            else:
                raise TriposeError(f"{path}: 'Masks' has shape {masks.shape}, expected one mask for every frame")
    except (OSError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, TriposeError):
            raise
        raise TriposeError(
            f"{path} cannot be read: it is truncated, damaged or no MAT file of version 7.3 ({error})"
        ) from error
    return np.array(boxes, np.float64).reshape(-1, 4)


def _in_blocks(masks: Any) -> Iterator[Shaped[np.ndarray, "x y"]]:
    """The masks of one array, so that no compressed block is unpacked for every frame again."""
    step = masks.chunks[0] if masks.chunks else 1
    for start in range(0, len(masks), step):
        yield from masks[start : start + step]


def _box(mask: Shaped[np.ndarray, "x y"]) -> tuple[float, float, float, float]:
    """MATLAB's order of memory makes the first axis that of the columns, x."""
    if mask.ndim != 2:
        raise ValueError(f"a mask has shape {mask.shape}")
    inside = mask if mask.dtype == np.uint8 else np.asarray(mask != 0, np.uint8)
    upper, left, height, width = cv2.boundingRect(np.ascontiguousarray(inside))
    return (left, upper, left + width, upper + height) if width else (np.nan,) * 4
