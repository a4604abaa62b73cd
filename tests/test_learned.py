"""A detector's keypoints end up at the cells of the crops that show them."""

from __future__ import annotations

import numpy as np
import torch

from scene import observe, ring, walk_mm
from tripose.geometry.crops import crop_person, person_box
from tripose.geometry.heatmaps import to_cells
from tripose.learned import BOX_SCALE, _with_keypoints
from tripose.pose import Pose2D
from tripose.skeleton import COCO17


def test_keypoints_go_through_the_lens_into_the_crops_of_the_views_that_there_are():
    cameras = ring(3, distortion=[-0.2, 0.05])
    body = walk_mm(2)
    points = observe(cameras, [body], noise_px=0.0)[..., :2]
    points[1, 2, 0, 4] = np.nan
    detected = Pose2D(points, np.ones(points.shape[:-1]), COCO17, cameras.names, fps=25.0)
    each = [cameras.select([name]) for name in cameras.names]
    crops = {}
    for view in (0, 2):  # the second shows nothing
        width, height = each[view].size_px[0].tolist()
        box = person_box(each[view], body[1], BOX_SCALE)
        crops[view] = crop_person(np.zeros((height, width, 3), np.uint8), each[view], box, 256)
    flat = torch.zeros(1, 2, 26, 64, 64)
    heatmaps, other = _with_keypoints((flat, torch.ones(1, 2, 26)), 1, crops, each, detected)
    assert torch.equal(other, torch.ones(1, 2, 26))
    assert not flat.any()
    for row, (view, (_, crop)) in enumerate(crops.items()):
        true_px, _ = crop.project(torch.from_numpy(body[1]))
        true = to_cells(true_px[0], (256, 256), (64, 64))
        for joint in range(len(COCO17)):
            if (view, joint) == (2, 4):
                assert heatmaps[0, row, joint].std() < 1e-6
                continue
            found = np.unravel_index(int(heatmaps[0, row, joint].argmax()), (64, 64))[::-1]
            np.testing.assert_allclose(found, true[joint], atol=0.51)
        assert not heatmaps[0, row, 17:].any()
