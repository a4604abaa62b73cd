from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import golden, load
from reference.learned import UP_VECTOR
from reference.volumes import coordinate_volume, rotation_about, unproject_heatmaps, unproject_sample
from reference.volumes import integrate_volumes as integrate_published
from scene import ring
from tripose.geometry.volume import Cuboid, integrate_volumes, place_cuboid, unproject

AGGREGATIONS = ["sum", "max", "softmax", "conf", "conf_norm"]
VIEWS = [1, 2, 4, 6]
SIZE_PX = (640, 360)
angles = st.floats(-7.0, 7.0)


def scene(views=4, voxels=4, side_mm=4000.0, rows=7, columns=12, batch=2, center_mm=(0.0, 0.0, 1000.0)):
    """Arguments of `unproject`, with flat images and flat maps; the cuboid sticks out of the views."""
    generator = torch.Generator().manual_seed(views)
    features = 2 * torch.randn(batch, views, 3, rows, columns, dtype=torch.float64, generator=generator)
    confidence = torch.rand(batch, views, 3, dtype=torch.float64, generator=generator)
    P = ring(views).P * torch.tensor([SIZE_PX[0] / 1000, SIZE_PX[1] / 1000, 1.0], dtype=torch.float64)[:, None]
    center = torch.tensor(center_mm).double() + 50 * torch.randn(batch, 3, dtype=torch.float64, generator=generator)
    yaw = torch.linspace(0.3, 2.0, batch)
    cuboid = place_cuboid(center, side_mm, voxels, up="z", world_up="z", yaw_rad=yaw)
    return features, P.expand(batch, views, 3, 4), cuboid, confidence


def places(cuboid):
    """Where the voxels are, voxel by voxel."""
    index = torch.cartesian_prod(*[torch.arange(cuboid.voxels).double()] * 3)
    n, batch = cuboid.voxels, len(cuboid.center_mm)
    return cuboid.to_world(index.expand(batch, -1, 3)).view(batch, n, n, n, 3)


def slow(features, P, cuboid, aggregation, confidence, legacy):
    if not legacy:
        return torch.stack(
            [
                unproject_sample(f, p, SIZE_PX, place, aggregation, c)
                for f, p, place, c in zip(features, P, places(cuboid), confidence, strict=True)
            ]
        )
    rows, columns = features.shape[-2:]
    P = P * P.new_tensor([columns / SIZE_PX[0], rows / SIZE_PX[1], 1])[:, None]
    if aggregation == "conf_norm":
        confidence = confidence / confidence.sum(1, keepdim=True)
    return unproject_heatmaps(features, P, places(cuboid), aggregation, confidence)


def fast(features, P, cuboid, aggregation, confidence, legacy, **options):
    return unproject(
        features, P, SIZE_PX, cuboid, aggregation, confidence=confidence, legacy_alignment=legacy, **options
    )


def with_gradients(function, features, P, cuboid, aggregation, confidence, *rest, **options):
    """The volume, and its gradients with respect to features, cameras and confidences."""
    inputs = [x.clone().requires_grad_() for x in (features, P, confidence)]
    volume = function(inputs[0], inputs[1], cuboid, aggregation, inputs[2], *rest, **options)
    pull = torch.linspace(-1, 1, volume.numel(), dtype=torch.float64).view_as(volume)
    gradients = torch.autograd.grad((volume * pull).sum(), inputs, materialize_grads=True)
    return [volume.detach(), *gradients]


# --- The cuboid ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("up", "world_up"), list(itertools.product(UP_VECTOR, UP_VECTOR)))
def test_up_is_up_and_yaw_turns_counter_clockwise_seen_from_above(up, world_up):
    own, above = (torch.tensor(UP_VECTOR[u]).double() for u in (up, world_up))
    center = torch.zeros(2, 3)
    still = place_cuboid(center, 2000.0, 8, up=up, world_up=world_up).turn
    yaw = torch.tensor([0.4, -2.0], dtype=torch.float64)
    turned = place_cuboid(center, 2000.0, 8, up=up, world_up=world_up, yaw_rad=yaw).turn
    for i, turn in enumerate([*still, *turned]):
        torch.testing.assert_close(turn @ turn.T, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-12)
        assert float(torch.linalg.det(turn)) == pytest.approx(1.0)
        torch.testing.assert_close(turn @ own, above, rtol=0, atol=1e-12)
        if i >= 2:
            level = torch.linalg.cross(above, torch.tensor([0.3, 0.5, 0.8]).double())
            left = torch.linalg.cross(above, level)
            angle = float(yaw[i - 2])
            torch.testing.assert_close(turn @ still[0].T @ level, math.cos(angle) * level + math.sin(angle) * left)


@pytest.mark.parametrize("up", [None, *UP_VECTOR])
def test_an_unknown_up_means_the_axes_of_the_world(up):
    center, eye = torch.zeros(1, 3), torch.eye(3, dtype=torch.float64)
    yaw = torch.tensor([0.7])
    for pair in ((up, None), (None, up)):
        cuboid = place_cuboid(center, 1.0, 8, up=pair[0], world_up=pair[1])
        torch.testing.assert_close(cuboid.turn[0], eye)
        turned = place_cuboid(center, 1.0, 8, up=pair[0], world_up=pair[1], yaw_rad=yaw)
        torch.testing.assert_close(turned.turn[0], rotation_about(UP_VECTOR[up or "z"], float(yaw)))


# Up of the network, up of the world, and whether the published code calls that a transfer.
STANDS = [("z", "z", False), ("-y", "-y", False), ("-y", "z", True), ("-z", "-y", True)]


@pytest.mark.parametrize(("up", "world_up", "transfer"), STANDS)
def test_voxels_are_where_the_published_ones_are(up, world_up, transfer):
    center = torch.tensor([[100.0, -50.0, 900.0], [0.0, 0.0, 0.0]]).double()
    yaw = torch.tensor([0.9, -4.0]).double()
    found = places(place_cuboid(center, 2500.0, 6, up=up, world_up=world_up, yaw_rad=yaw))
    for place, c, angle in zip(found, center, yaw, strict=True):
        expected = coordinate_volume(c, 2500.0, 6, UP_VECTOR[world_up], float(angle), transfer)
        torch.testing.assert_close(place, expected, rtol=0, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(list(UP_VECTOR)), angles, st.integers(2, 64), st.floats(1.0, 1e4))
def test_indices_and_positions_are_inverse(seed, up, yaw, voxels, side_mm):
    generator = torch.Generator().manual_seed(seed)
    center = 3000 * torch.randn(2, 3, dtype=torch.float64, generator=generator)
    cuboid = place_cuboid(center, side_mm, voxels, up=up, world_up="z", yaw_rad=torch.tensor([yaw, 0.0]))
    index = torch.rand(2, 5, 3, dtype=torch.float64, generator=generator) * 2 * voxels - voxels / 2
    world = cuboid.to_world(index)
    torch.testing.assert_close(cuboid.to_index(world), index, rtol=1e-7, atol=1e-6)
    ends = cuboid.to_world(torch.tensor([[0.0] * 3, [voxels - 1.0] * 3]).expand(2, 2, 3))
    torch.testing.assert_close(ends.mean(1), center)
    torch.testing.assert_close((ends[:, 0] - ends[:, 1]).norm(dim=-1), torch.full((2,), side_mm * 3**0.5).double())
    torch.testing.assert_close(cuboid.axis_mm, torch.linspace(-side_mm / 2, side_mm / 2, voxels, dtype=torch.float64))


# --- Unprojection against the slow twins -----------------------------------------------------------------------------


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("views", VIEWS)
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_unproject_equals_its_twin(aggregation, views, legacy):
    features, P, cuboid, confidence = scene(views)
    found = with_gradients(fast, features, P, cuboid, aggregation, confidence, legacy)
    expected = with_gradients(slow, features, P, cuboid, aggregation, confidence, legacy)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9 * max(1.0, float(theirs.abs().max())))
    assert (found[0] != 0).float().mean() > 0.1
    assert (found[0] == 0).any() or views > 2  # one or two views do not see every voxel


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_a_camera_inside_the_cuboid(aggregation, legacy):
    """Voxels before, beside and behind it; none divides by zero."""
    at = tuple(ring(3).centers_mm[0].tolist())
    features, P, cuboid, confidence = scene(3, voxels=5, batch=1, center_mm=at)
    # The middle voxel is the camera's centre itself, and its neighbours lie in the camera's plane.
    cuboid = replace(cuboid, center_mm=ring(3).centers_mm[:1], turn=ring(3).R[:1].mT)
    found = with_gradients(fast, features, P, cuboid, aggregation, confidence, legacy)
    assert all(x.isfinite().all() for x in found)
    expected = slow(features, P, cuboid, aggregation, confidence, legacy)
    # The plane itself, where the sign of a depth of 1e-13 mm decides, does not compare.
    keep = [0, 1, 3, 4]
    torch.testing.assert_close(found[0][..., keep], expected[..., keep], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("chunk", [1, 200, 360, 10**9, None])
def test_chunks_do_not_show(chunk, aggregation, legacy):
    features, P, cuboid, confidence = scene(3, voxels=5)
    whole = with_gradients(fast, features, P, cuboid, aggregation, confidence, legacy)
    found = with_gradients(fast, features, P, cuboid, aggregation, confidence, legacy, chunk=chunk)
    for ours, theirs in zip(found, whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12 * float(theirs.abs().max()))
    with torch.no_grad():
        assert torch.equal(fast(features, P, cuboid, aggregation, confidence, legacy, chunk=chunk), found[0])


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("masked", [(2,), (0, 3), (0, 1, 2)])
def test_a_masked_view_is_a_removed_view(masked, aggregation, legacy):
    features, P, cuboid, confidence = scene(4)
    kept = [v for v in range(4) if v not in masked]
    removed = with_gradients(fast, features[:, kept], P[:, kept], cuboid, aggregation, confidence[:, kept], legacy)
    view_valid = torch.ones(2, 4, dtype=torch.bool)
    view_valid[:, masked] = False
    features[:, masked] = torch.nan
    confidence[:, masked] = torch.tensor([torch.nan, torch.inf, 7.0]).double()
    found = with_gradients(fast, features, P, cuboid, aggregation, confidence, legacy, view_valid=view_valid)
    torch.testing.assert_close(found[0], removed[0], rtol=0, atol=1e-9)
    for ours, theirs in zip(found[1:], removed[1:], strict=True):
        torch.testing.assert_close(ours[:, kept], theirs, rtol=1e-9, atol=1e-9 * float(theirs.abs().max()))
        assert (ours[:, masked] == 0).all()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("why", ["masked", "far away"])
def test_a_cuboid_that_no_view_sees_is_zero(why, aggregation, legacy):
    features, P, cuboid, confidence = scene(4)
    view_valid = torch.tensor([[why != "masked"] * 4, [True] * 4])
    if why == "far away":
        above = torch.tensor([[0.0, 0.0, 1e6], [0.0, 0.0, 1000.0]]).double()
        cuboid = Cuboid(above, cuboid.turn, cuboid.side_mm, cuboid.voxels)
    found = with_gradients(fast, features, P, cuboid, aggregation, confidence, legacy, view_valid=view_valid)
    assert all(x.isfinite().all() for x in found)
    assert all((x[0] == 0).all() for x in found)
    assert (found[0][1] != 0).any()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("aggregation", ["conf", "conf_norm"])
def test_confidences_of_zero(aggregation, legacy):
    features, P, cuboid, confidence = scene(4)
    confidence[0] = 0.0
    confidence[1, 1:] = 0.0
    found = with_gradients(fast, features, P, cuboid, aggregation, confidence, legacy)
    assert all(x.isfinite().all() for x in found)
    assert (found[0][0] == 0).all()
    with pytest.raises(ValueError, match=f"'{aggregation}' needs the views' confidences"):
        fast(features, P, cuboid, aggregation, None, legacy)


# --- What the numbers mean -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_a_ramp_reads_as_the_pixel_that_a_voxel_projects_to(aggregation):
    """Every cell of the map holds the mean x and y of the pixels that it covers."""
    _, P, cuboid, _ = scene(1, voxels=7)
    rows, columns = 18, 40
    x, y = (torch.arange(n).double() for n in SIZE_PX)
    x, y = x.view(columns, -1).mean(1), y.view(rows, -1).mean(1)
    ramps = torch.stack([x.expand(rows, columns), y[:, None].expand(rows, columns)])
    found = fast(ramps.expand(2, 1, 2, rows, columns), P, cuboid, aggregation, torch.ones(2, 1, 2), legacy=False)
    projected = places(cuboid) @ P[0, 0, :, :3].T + P[0, 0, :, 3]
    pixel = projected[..., :2] / projected[..., 2:]
    size = torch.tensor(SIZE_PX)
    seen = (projected[..., 2] > 1) & (pixel >= -0.5).all(-1) & (pixel <= size - 0.5).all(-1)
    # Between the centre of the last cell and the edge of the image a map says no more than its last cell.
    pixel = pixel.clamp(torch.stack([x[0], y[0]]), torch.stack([x[-1], y[-1]]))
    expected = torch.where(seen[..., None], pixel, 0.0).movedim(-1, 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    assert 50 < int(seen.sum()) < seen.numel()


def test_geometry_is_not_cast_down():
    features, P, cuboid, confidence = scene(4)
    plain = fast(features.float(), P, cuboid, "softmax", confidence.float(), legacy=False)
    assert plain.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fast(features.float(), P, cuboid, "softmax", confidence.float(), legacy=False), plain)
    low = features.bfloat16()
    found = fast(low, P, cuboid, "softmax", confidence.bfloat16(), legacy=False)
    assert torch.equal(found, fast(low.float(), P, cuboid, "softmax", confidence, legacy=False))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("yaw", [0.0, 1.1])
def test_integration_equals_its_twin(relu, yaw):
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(2, 3, 6, 6, 6, dtype=torch.float64, generator=generator)
    logits[1, 2] = -logits[1, 2].abs()  # nothing is left of it after the ReLU
    logits.requires_grad_()
    center = torch.tensor([[3000.0, -2000.0, 900.0], [0.0, 0.0, 0.0]]).double()
    cuboid = place_cuboid(center, 2500.0, 6, up="-y", world_up="z", yaw_rad=torch.tensor([yaw, -yaw]))
    ours = integrate_volumes(logits, cuboid, relu=relu)
    theirs, _ = integrate_published(logits, places(cuboid), relu)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-7)
    pull = torch.linspace(-1, 1, ours.numel()).double().view_as(ours)
    gradients = [torch.autograd.grad((x * pull).sum(), logits)[0] for x in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


# --- Against the published code --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [pytest.param("sq", marks=golden), pytest.param("rect", marks=golden)])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_recorded_unprojections(shape, aggregation):
    ops = {k[len(shape) + 5 :]: torch.as_tensor(v) for k, v in load("ops").items() if k.startswith(f"unp_{shape}_")}
    maps, confidence = (ops[name].double().requires_grad_() for name in ("maps", "confidences_in"))
    parts = []
    for i, coordinates in enumerate(ops["coords"].double()):  # samples differ in the side of their cuboid
        center, side_mm = coordinates.mean((0, 1, 2)), float(coordinates[-1, 0, 0, 0] - coordinates[0, 0, 0, 0])
        cuboid = place_cuboid(center[None], side_mm, 8, up=None, world_up=None)
        size = maps.shape[-1], maps.shape[-2]  # the recorded P are those of the maps
        given = {"confidence": confidence[i : i + 1], "legacy_alignment": True}
        parts.append(unproject(maps[i : i + 1], ops["P"][i : i + 1], size, cuboid, aggregation, **given))
    volume = torch.cat(parts)
    torch.testing.assert_close(volume.float(), ops[aggregation], rtol=0, atol=1e-4)
    pull = torch.linspace(-1, 1, volume.numel()).double().view_as(volume)
    of_maps, of_confidence = torch.autograd.grad((volume * pull).sum(), (maps, confidence), materialize_grads=True)
    torch.testing.assert_close(of_maps.float(), ops[f"{aggregation}_grad_maps"], rtol=0, atol=1e-4)
    if aggregation.startswith("conf"):
        torch.testing.assert_close(of_confidence.float(), ops[f"{aggregation}_grad_conf"], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", [pytest.param(name, marks=golden) for name in ("rot_010", "rot_001", "rot_123")])
def test_recorded_rotations(name):
    for theta, expected in zip(load("ops")["rot_thetas"], load("ops")[name], strict=True):
        axis = tuple(int(x) for x in name[4:])
        torch.testing.assert_close(rotation_about(axis, theta), torch.as_tensor(expected), rtol=0, atol=1e-12)
        if name != "rot_123":  # about +y, which points down, the angle counts the other way
            up, yaw = ("z", theta) if name == "rot_001" else ("-y", -theta)
            cuboid = place_cuboid(torch.zeros(1, 3), 1.0, 8, up=up, world_up=up, yaw_rad=torch.tensor([yaw]))
            torch.testing.assert_close(cuboid.turn[0], torch.as_tensor(expected), rtol=0, atol=1e-7)
