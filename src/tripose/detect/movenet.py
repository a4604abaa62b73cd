"""People and their COCO-17 keypoints in single images, by MoveNet with the weights that ship with the package.

`detect_people` finds everyone in whole images (Multipose); `estimate_keypoints` looks at crops of one person each
(Thunder), which is more accurate. The joint order is COCO-17. Pixel coordinates have the centre of the top-left pixel
at (0, 0).
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from tripose.models.movenet import N_KEYPOINTS, STRIDE, MoveNet
from tripose.models.movenet_weights import MULTIPOSE, THUNDER, released_weights

CROP_SIZE_PX = 256
# A crop is a square with this multiple of the longer side of the box that `detect_people` gives. Chosen of 1.0, 1.1,
# 1.25 and 1.4 by the distance to the reprojected triangulation of four cameras, median (90th percentile): ZJU
# LightStage 5.8 (13.7), 5.6 (13.1), 5.7 (14.4), 6.3 (14.9) px; Pose2Sim's demo 7.5 (16.2), 8.0 (15.8), 8.4 (16.7),
# 9.1 (19.3) px. The demo's keypoints more than 40 px from OpenPose: 2.1, 1.6, 0.9, 0.9 %.
BOX_SCALE = 1.1
MAX_PEOPLE = 6
# People below this score (probability of the centre times mean probability of the keypoints) are dropped. In 12 images
# of three real recordings people had 0.48 to 0.75, and nothing else was above 0.05.
SCORE_THRESHOLD = 0.2
# Two detections are one person if their boxes overlap by more than this (intersection over union).
OVERLAP_THRESHOLD = 0.7
# The released models divide a keypoint's probability by (distance to the expected cell + 1.8 cells).
DISTANCE_OFFSET_CELLS = 1.8
# Standard deviation of the prior around an expected keypoint. With the 3D pose of 0.2 s ago in a balance exercise, 8 px
# put 9 % of the keypoints more than 80 px from OpenPose's, 16 px 1.4 %, and 32 px 0.1 % (0.2 % without prior).
EXPECTED_SIGMA_PX = 32.0
# Keypoints below this probability do not count in a person's score (released multipose graph).
KEYPOINT_THRESHOLD = 0.127


@dataclass(frozen=True)
class Detections:
    """The people of one image, best first; all arrays are empty along `person` when there is nobody.

    `points_px` and `box_px` (left, top, right, bottom) are pixels of the image that was given, `confidence` and
    `score` are in 0..1.
    """

    points_px: Float[np.ndarray, "person 17 2"]
    confidence: Float[np.ndarray, "person 17"]
    box_px: Float[np.ndarray, "person 4"]
    score: Float[np.ndarray, " person"]


def load_thunder() -> MoveNet:
    """MoveNet Thunder for crops of one person: 6.2 M parameters, 256 x 256 px."""
    return _load(MoveNet(1.75), THUNDER)


def load_multipose() -> MoveNet:
    """MoveNet Multipose for whole images: 4.7 M parameters, long side 256 px."""
    return _load(MoveNet(1.5, boxes=True), MULTIPOSE)


def _load(model: MoveNet, filename: str) -> MoveNet:
    model.load_state_dict(released_weights(filename))
    return model.eval()


def detect_people(model: MoveNet, images: UInt8[np.ndarray, "batch height width 3"]) -> list[Detections]:
    """Everyone in each image, at most six, by MoveNet Multipose.

    Args:
        model: a network with box heads, as from `load_multipose`.
        images: RGB images of one size; they are scaled to a long side of 256 px.

    Returns:
        One `Detections` for each image, in its pixels.

    Raises:
        ValueError: for another shape or dtype of the images.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape:
        raise ValueError(f"expected uint8 images [batch height width 3], got {images.dtype} {list(images.shape)}")
    inputs, scale = _letterbox(images)
    with torch.inference_mode():
        heads = model(_as_input(inputs, model))
    return [_people({name: head[i].float().cpu() for name, head in heads.items()}, scale) for i in range(len(images))]


def estimate_keypoints(
    model: MoveNet,
    crops: UInt8[np.ndarray, "batch 256 256 3"],
    expected_px: Float[np.ndarray, "batch 17 2"] | None = None,
) -> tuple[Float[np.ndarray, "batch 17 2"], Float[np.ndarray, "batch 17"]]:
    """The keypoints of one person in each crop, by MoveNet Thunder.

    Args:
        model: as from `load_thunder`.
        crops: RGB crops, each with a person in its middle; see `BOX_SCALE` for the best size.
        expected_px: where the keypoints should be, in pixels of the crop, if something is known, e.g. the projection
            of the last 3D pose; NaN for an unknown joint.

    Returns:
        The keypoints in pixels of the crop, and their confidence in 0..1.

    Raises:
        ValueError: for another shape or dtype.
    """
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != (CROP_SIZE_PX, CROP_SIZE_PX, 3):
        raise ValueError(f"expected uint8 crops [batch 256 256 3], got {crops.dtype} {list(crops.shape)}")
    shape = (len(crops), N_KEYPOINTS, 2)
    if expected_px is not None and expected_px.shape != shape:
        raise ValueError(f"expected expected_px of shape {list(shape)}, got {list(expected_px.shape)}")
    with torch.inference_mode():
        heads = {name: head.float().cpu() for name, head in model(_as_input(crops, model)).items()}
    probability = heads["keypoint_heatmap"].sigmoid()
    size = (probability.shape[2], probability.shape[3])
    people = zip(heads["center_heatmap"], heads["keypoint_regression"], strict=True)
    regressed = torch.stack([_regressed(center, regression) for center, regression in people])
    weight = 1 / (_distance(regressed, size) + DISTANCE_OFFSET_CELLS)
    if expected_px is not None:
        expected = (torch.from_numpy(expected_px).float() + 0.5) / STRIDE - 0.5
        prior = torch.exp(-((_distance(expected, size) * STRIDE / EXPECTED_SIGMA_PX) ** 2) / 2)
        weight = torch.where(prior.isnan(), weight, prior)
    peak = _peak(probability * weight)
    return _points(probability, peak)


def _as_input(images: UInt8[np.ndarray, "batch height width 3"], model: MoveNet) -> Float[Tensor, "batch 3 h w"]:
    device = next(model.parameters()).device
    # The permuted view of a packed RGB image is the channels-last layout of the weights.
    return torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2).float() / 255


def _letterbox(
    images: UInt8[np.ndarray, "batch height width 3"],
) -> tuple[UInt8[np.ndarray, "batch h w 3"], Float[np.ndarray, " 2"]]:
    """Scaled to a long side of 256 px, black on the right and below to multiples of 32; and the scales in x and y."""
    height, width = images.shape[1:3]
    factor = CROP_SIZE_PX / max(height, width)
    new_height, new_width = max(1, round(height * factor)), max(1, round(width * factor))
    out = np.zeros((len(images), -(-new_height // 32) * 32, -(-new_width // 32) * 32, 3), np.uint8)
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    for image, target in zip(images, out, strict=True):
        target[:new_height, :new_width] = cv2.resize(image, (new_width, new_height), interpolation=method)
    return out, np.array([new_width / width, new_height / height], np.float32)


def _people(heads: dict[str, Tensor], scale: Float[np.ndarray, " 2"]) -> Detections:
    """The people that the multipose heads of one image speak of."""
    center = heads["center_heatmap"][0].sigmoid()
    # The released graph takes the maxima of 5 x 5 cells.
    is_peak = F.max_pool2d(center[None], 5, 1, 2)[0] == center
    value, flat = (center * is_peak).flatten().topk(MAX_PEOPLE)
    index = torch.stack([flat % center.shape[1], flat // center.shape[1]], -1)
    at = (..., index[:, 1], index[:, 0])
    regressed = index[:, None] + heads["keypoint_regression"][at].permute(2, 0, 1)
    middle = index + heads["box_offset"][at].T
    half = heads["box_size"][at].T.clamp(min=0) / 2
    box = torch.cat([middle - half, middle + half], -1)

    probability = heads["keypoint_heatmap"].sigmoid()
    size = (probability.shape[1], probability.shape[2])
    weight = torch.exp(-(_distance(regressed, size) ** 2) / (0.3 * min(size)))
    peak = _peak(probability * weight * _inside(box, size)[:, None])
    points_px, confidence = _points(probability.expand(len(index), -1, -1, -1), peak)

    counts = confidence > KEYPOINT_THRESHOLD
    score = value.numpy() * (confidence * counts).sum(1) / np.maximum(counts.sum(1), 1)
    box_px = box.numpy() * STRIDE - 0.5
    keep = [i for i in np.argsort(-score, kind="stable").tolist() if score[i] > SCORE_THRESHOLD]
    keep = _distinct(box_px, keep)
    return Detections(
        (points_px[keep] + 0.5) / scale - 0.5,
        confidence[keep],
        (box_px[keep] + 0.5) / np.tile(scale, 2) - 0.5,
        score[keep].astype(np.float32),
    )


def _regressed(center_logits: Float[Tensor, "1 r c"], regression: Float[Tensor, "17 2 r c"]) -> Float[Tensor, "17 2"]:
    """Coarse keypoints, in cells, of the person whose centre is most probable and nearest to the crop's middle."""
    rows, columns = center_logits.shape[1:]
    middle = torch.tensor([columns / 2, rows / 2])
    weighted = center_logits[0].sigmoid() / (_distance(middle, (rows, columns)) + DISTANCE_OFFSET_CELLS)
    flat = int(weighted.argmax())
    row, column = divmod(flat, columns)
    return regression[:, :, row, column] + torch.tensor([column, row])


def _distance(points: Float[Tensor, "*n 2"], size: tuple[int, int]) -> Float[Tensor, "*n rows columns"]:
    """From each point to the index of each cell, in cells."""
    dx = torch.arange(size[1]) - points[..., 0, None]
    dy = torch.arange(size[0]) - points[..., 1, None]
    return (dx[..., None, :] ** 2 + dy[..., :, None] ** 2).sqrt()


def _inside(box: Float[Tensor, "n 4"], size: tuple[int, int]) -> Bool[Tensor, "n rows columns"]:
    left, top, right, bottom = box[..., None].unbind(1)
    x, y = torch.arange(size[1]), torch.arange(size[0])
    return ((x >= left) & (x < right))[:, None, :] & ((y >= top) & (y < bottom))[:, :, None]


def _peak(weighted: Float[Tensor, "n 17 rows columns"]) -> Int[Tensor, "n 17 2"]:
    """The cell (column, row) of the maximum."""
    flat = weighted.flatten(2).argmax(-1)
    return torch.stack([flat % weighted.shape[3], flat // weighted.shape[3]], -1)


def _points(
    probability: Float[Tensor, "n 17 rows columns"],
    peak: Int[Tensor, "n 17 2"],
) -> tuple[Float[np.ndarray, "n 17 2"], Float[np.ndarray, "n 17"]]:
    """Keypoints in input pixels and the probability at their peaks.

    The position is the mean over 7 x 7 cells around the peak, weighted by probability. Against OpenPose on 100 images
    of Pose2Sim's demo its median distance was 11.7 px (14.6 for the cell alone, 12.5 for the cell and the offset head;
    one pixel of the crop is 3 to 4 px there), so the offset head is not used.
    """
    reach = torch.arange(-3, 4)
    x, y = peak[..., 0, None] + reach, peak[..., 1, None] + reach
    padded = F.pad(probability, (3, 3, 3, 3))
    n = torch.arange(len(peak))[:, None, None, None]
    joint = torch.arange(N_KEYPOINTS)[:, None, None]
    window = padded[n, joint, y[..., :, None] + 3, x[..., None, :] + 3]
    mean_x = (window.sum(2) * x).sum(-1)
    mean_y = (window.sum(3) * y).sum(-1)
    # A cell's centre lies half a cell from its edge; pixel centres half a pixel from theirs.
    cells = torch.stack([mean_x, mean_y], -1) / window.sum((2, 3))[..., None] + 0.5
    return (cells * STRIDE - 0.5).numpy(), window[:, :, 3, 3].numpy()


def _distinct(box_px: Float[np.ndarray, "n 4"], order: list[int]) -> list[int]:
    """The indices in `order` whose box does not overlap too much with that of an earlier one."""
    keep: list[int] = []
    for i in order:
        if all(_overlap(box_px[i], box_px[j]) <= OVERLAP_THRESHOLD for j in keep):
            keep.append(i)
    return keep


def _overlap(a: Float[np.ndarray, " 4"], b: Float[np.ndarray, " 4"]) -> float:
    """Intersection over union."""
    shared = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    return float(shared / max(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared, 1e-9))
