"""A crop by taking every pixel through the lens, and looking there whether the lens folds back."""

from __future__ import annotations

import cv2
import numpy as np

from tripose.cameras import Cameras


def crop_pixel_by_pixel(frame: np.ndarray, camera: Cameras, view: Cameras) -> tuple[np.ndarray, np.ndarray]:
    """What a pinhole camera sees [side, side, 3] in a frame [height, width, 3], and which pixels lie behind a fold.

    A lens folds where the image is mirrored: the area that a step to the right and one down span is not positive.

    Args:
        frame: the raw image, not much finer than the crop.
        camera: took it, through a lens of OpenCV's standard model.
        view: the crop's camera.
    """
    side, K = int(view.size_px[0, 0]), view.K[0].numpy()
    lens = camera.distortion[0].numpy()
    x, y = cv2.initUndistortRectifyMap(camera.K[0].numpy(), lens, np.eye(3), K, (side, side), cv2.CV_32FC1)
    (x_down, x_right), (y_down, y_right) = np.gradient(x), np.gradient(y)
    folded = x_right * y_down <= x_down * y_right
    row, column = np.indices((side, side))
    radius = np.hypot(column - K[0, 2], row - K[1, 2])
    behind = radius >= radius[folded].min(initial=np.inf)
    colours = [cv2.remap(frame[..., c], x, y, cv2.INTER_LINEAR) for c in range(3)]
    return np.where(behind[..., None], 0, np.stack(colours, -1)), behind
