"""The cameras of Human3.6M: from generated files, and against its real labels where they lie beside the repository."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from data.h36m_files import metadata_xml, write_human36m
from reference.triangulate import distort_point_human36m
from tripose.cameras import Cameras
from tripose.data.human36m.lens import opencv_coefficients
from tripose.data.human36m.protocol import CAMERAS, SIZE_PX
from tripose.data.human36m.rig import read_cameras
from tripose.errors import TriposeError
from tripose.lens import distort

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "h36m_mmpose"
needs_real = pytest.mark.skipif(not REAL.exists(), reason="h36m_mmpose is not here")


def real_rigs() -> dict[str, Cameras]:
    """The real cameras in the convention of `cameras.json`: metres, camera to world."""
    parts = json.loads((REAL / "cameras.json").read_text())["cameras"]
    rigs = {}
    for subject in {part["subject"] for part in parts}:
        own = {part["camera_id"]: part for part in parts if part["subject"] == subject}
        K, R, t, lens = [], [], [], []
        for part in (own[name] for name in CAMERAS):
            (fx, fy), (cx, cy) = part["focal_px"], part["center_px"]
            K.append([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
            R.append(np.transpose(part["R_camera_to_world"]))
            t.append(-R[-1] @ np.array(part["camera_centre_world_m"]) * 1000)
            k1, k2, k3 = part["radial_k1_k2_k3"]
            lens.append(opencv_coefficients((k1, k2, k3), part["tangential_p1_p2"]))
        sizes = [[own[name]["width"], own[name]["height"]] for name in CAMERAS]
        rigs[subject] = Cameras.build(CAMERAS, K, R, t, sizes, lens, up="z")
    return rigs


def assert_same(found: Cameras, expected: Cameras):
    assert (found.names, found.lens, found.up) == (expected.names, expected.lens, "z")
    assert found.size_px.tolist() == expected.size_px.tolist()
    torch.testing.assert_close(found.K, expected.K, rtol=0, atol=0)
    torch.testing.assert_close(found.distortion, expected.distortion, rtol=0, atol=0)
    torch.testing.assert_close(found.R, expected.R, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.t, expected.t, rtol=0, atol=1e-8)


def test_a_rig_reads_as_written(tmp_path):
    made = write_human36m(tmp_path, subjects=(), scenes=())
    assert made.cameras == {}
    rigs = read_cameras(tmp_path / "metadata.xml")
    assert list(rigs) == [f"S{i}" for i in range(1, 12)]
    for rig in rigs.values():
        assert [tuple(size) for size in rig.size_px.tolist()] == [SIZE_PX[name] for name in CAMERAS]
    assert not torch.allclose(rigs["S1"].t, rigs["S2"].t)


def test_every_number_has_its_place(tmp_path):
    """Typed out for one subject and camera: S5 is the 5th of eleven, 58860488 the 3rd of four."""
    numbers = np.random.default_rng(0).uniform(0.5, 1.0, 300)
    (tmp_path / "metadata.xml").write_text(f"<a><b/><w0>[{' '.join(map(repr, numbers.tolist()))}]</w0></a>")
    rig = read_cameras(tmp_path / "metadata.xml")["S5"].select(["58860488"])
    a, b, c, *place = numbers[6 * (2 * 11 + 4) :][:6]
    rx, ry, rz = (cv2.Rodrigues(angle * axis)[0] for angle, axis in zip((a, b, c), np.eye(3), strict=True))
    np.testing.assert_allclose(rig.R[0], rx @ ry @ rz, atol=1e-12)
    np.testing.assert_allclose(rig.centers_mm[0], place, atol=1e-12)
    fx, fy, cx, cy, k1, k2, k3, p1, p2 = numbers[264 + 9 * 2 :][:9]
    assert rig.K[0].tolist() == [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]
    assert rig.distortion[0, :12].tolist() == opencv_coefficients((k1, k2, k3), (p1, p2))


@needs_real
def test_the_real_rigs_survive_their_own_format(tmp_path):
    rigs = real_rigs()
    (tmp_path / "metadata.xml").write_text(metadata_xml(rigs))
    found = read_cameras(tmp_path / "metadata.xml")
    assert found.keys() == rigs.keys()
    for subject, rig in rigs.items():
        assert_same(found[subject], rig)


def test_the_lens_is_that_of_human36m():
    radial, tangential = (-0.2, 0.24, 0.007), (-0.0027, -0.0016)
    coefficients = torch.tensor([[*opencv_coefficients(radial, tangential), 0.0, 0.0]], dtype=torch.float64)
    points = torch.linspace(-0.5, 0.5, 9).double()
    points = torch.cartesian_prod(points, points)
    expected = [distort_point_human36m(x, y, (*radial[:2], *tangential, radial[2])) for x, y in points.tolist()]
    np.testing.assert_allclose(distort(points[None], coefficients, "opencv")[0], expected, rtol=0, atol=1e-14)


@needs_real
def test_real_labels_are_exact_through_the_lens_of_human36m():
    """Labels of four images: 1e-4 px in its own model, up to 0.1 px on average if the numbers are OpenCV's."""
    rigs, labels = real_rigs(), json.loads((REAL / "h36m_coco.json").read_text())
    files = {image["id"]: image["file_name"] for image in labels["images"]}
    means = []
    for label in labels["annotations"]:
        file = files[label["image_id"]]
        rig = rigs[file.split("_")[0]].select([file.split(".")[1].split("_")[0]])
        world_mm = 1000 * torch.tensor(label["keypoints_3d"], dtype=torch.float64).reshape(17, 4)[:, :3]
        points = torch.tensor(label["keypoints"], dtype=torch.float64).reshape(17, 3)[:, :2]
        assert float((rig.project(world_mm)[0][0] - points).norm(dim=-1).max()) < 2e-4
        k1, k2, p1, p2, k3 = rig.distortion[0, :5].tolist()
        taken = replace(rig, distortion=torch.tensor([[k1, k2, 2 * p1, 2 * p2, k3, *[0.0] * 9]], dtype=torch.float64))
        means.append(float((taken.project(world_mm)[0][0] - points).norm(dim=-1).mean()))
        # And back: the labels lie on the rays of their joints.
        ideal = rig.undistorted().project(world_mm)[0]
        torch.testing.assert_close(rig.undistort(points[None]), ideal, rtol=0, atol=3e-4)
    np.testing.assert_allclose(means, [0.0223, 0.0262, 0.1018, 0.0689], atol=5e-5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<metadata><w0>[1 2 3]</w0></metadata>", "the element 'w0' holds 3 numbers, expected 300"),
        ("<metadata><w0>[1 2 x]</w0></metadata>", "something else than numbers"),
        ("<metadata><w0/></metadata>", "something else than numbers"),
        ("<metadata></metadata>", "no element 'w0' with the cameras"),
        ("<metadata><w0>[1 2", "not an XML file, or truncated"),
        ("", "not an XML file, or truncated"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a/>', "declares a document type"),
        ("<a><w0>[" + "0 " * 300 + "]</w0></a>", "camera '54138969': the focal lengths are 0 and 0 px"),
        ("<a><w0>[" + "nan " * 300 + "]</w0></a>", "camera '54138969': K holds a value that is not finite"),
    ],
)
def test_mistakes(tmp_path, content, message):
    path = tmp_path / "metadata.xml"
    path.write_text(content)
    with pytest.raises(TriposeError, match=message) as error:
        read_cameras(path)
    assert str(error.value).startswith(str(path))


def test_no_file(tmp_path):
    with pytest.raises(TriposeError, match=r"metadata.xml: there is no such file; it is in the code release"):
        read_cameras(tmp_path / "metadata.xml")
