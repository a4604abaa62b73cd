"""Where a person is whom one camera sees, told from heatmaps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from people import SIDE_PX, body_mm, config, crop_cameras, peaked_heatmaps, views
from tripose.cameras import TO_Z_UP
from tripose.errors import TriposeError
from tripose.models.placing import standing
from tripose.skeleton import COCO17

SIZE_PX = (SIDE_PX, SIDE_PX)
HIPS = COCO17.indices(["left_hip", "right_hip"])
# Its eyes are at 1680 mm.
HEIGHT_MM = 1797.0


def seen(view, body, cameras=None):
    """The heatmaps of one view, and its camera."""
    camera = views(crop_cameras(4, len(body)) if cameras is None else cameras, [view])
    return (peaked_heatmaps(camera, body).float(),), camera


@pytest.mark.parametrize("window_px", [12.0, None])
@pytest.mark.parametrize("height_mm", [None, HEIGHT_MM])
@pytest.mark.parametrize("view", range(4))
def test_a_standing_person_is_found(view, height_mm, window_px):
    body = torch.cat([body_mm(), body_mm() + torch.tensor([400.0, -300.0, 0.0])])
    heatmaps, camera = seen(view, body)
    found = standing(config("evidence", window_px=window_px), height_mm=height_mm)(heatmaps, camera, SIZE_PX)
    assert (found - body[:, HIPS].mean(1)).norm(dim=-1).max() < 150


def test_the_floor_may_be_elsewhere():
    body = body_mm() + torch.tensor([0.0, 0.0, 300.0])
    heatmaps, camera = seen(0, body)
    found = standing(config("evidence"), floor_mm=300.0)(heatmaps, camera, SIZE_PX)
    assert (found - body[:, HIPS].mean(1)).norm() < 150
    assert (standing(config("evidence"))(heatmaps, camera, SIZE_PX) - body[:, HIPS].mean(1)).norm() > 500


@pytest.mark.parametrize("up", list(TO_Z_UP))
def test_any_axis_may_point_up(up):
    turn = torch.tensor(TO_Z_UP[up], dtype=torch.float64)
    upright = crop_cameras(4)
    body = body_mm() @ turn
    heatmaps, camera = seen(1, body, replace(upright, R=upright.R @ turn, up=up))
    found = standing(config("evidence"))(heatmaps, camera, SIZE_PX)
    assert (found - body[:, HIPS].mean(1)).norm() < 150


def test_feet_above_the_horizon_are_on_no_floor():
    heatmaps, camera = seen(0, body_mm() + torch.tensor([0.0, 0.0, 1600.0]))
    assert standing(config("evidence"))(heatmaps, camera, SIZE_PX).isnan().all()


def test_who_does_not_know_what_is_up_is_told_to_say_it():
    heatmaps, camera = seen(0, body_mm())
    with pytest.raises(TriposeError, match="one camera alone needs to know which way is up, and its calibration does"):
        standing(config("evidence"))(heatmaps, replace(camera, up=None), SIZE_PX)
