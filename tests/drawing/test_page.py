"""The page of `tripose.drawing.page`: its numbers, its safety, and what a browser makes of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tripose.cameras import TO_Z_UP
from tripose.drawing import report
from tripose.drawing.page_data import payload, thin
from tripose.errors import TriposeError
from tripose.pose import Pose3D
from tripose.skeleton import COCO17, custom
from walkers import BAD, rig, walk

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")


def data_of(page: Path) -> dict:
    """The numbers inside a page, as its script reads them."""
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


def browse(page: Path, tmp_path: Path, *flags: str) -> str:
    """Open a page in headless Chromium; return its DOM. Fails on any message on the console."""
    quiet = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    command = [CHROMIUM, *quiet.split(), "--disable-component-update", "--disable-sync", "--hide-scrollbars"]
    command += [
        f"--user-data-dir={tmp_path / 'profile'}",
        "--enable-logging=stderr",
        "--v=0",
        "--window-size=1400,1500",
    ]
    command += ["--virtual-time-budget=4000", *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    messages = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not messages
    return done.stdout


def test_the_page_holds_everything_and_reaches_for_nothing(tmp_path):
    page = tmp_path / "walk01.html"
    poses = walk()
    report(poses, page, cameras=rig(), summary={"Lab": "R&D <3"})
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"https?://|\bsrc=|<link|@import|url\(|\beval\(|import\(", text)
    assert "<title>walk01</title>" in text
    assert "R&amp;D &lt;3" in text
    assert "ransac, 30 px" in text
    assert f"Camera {BAD} is the worst" in unescape(text)
    assert not [p for p in tmp_path.iterdir() if p != page]
    data = data_of(page)
    frame = np.array(data["xyz"][7], dtype=float).reshape(1, 17, 3)
    np.testing.assert_allclose(frame, poses.position_mm[7], atol=0.5)
    assert data["xyz"][30][3 * COCO17.index("left_wrist")] is None
    assert data["hollow"][62][COCO17.index("right_ankle")] == "1"
    wrist = data["views"][0][COCO17.index("left_wrist")]
    assert wrist[30:48] == "0" * 18
    assert "0" not in wrist[:30] + wrist[48:]
    assert data["views"][0][COCO17.index("right_ankle")][60:66] == "111111"
    assert [plot["label"] for plot in data["lengths"][0]] == ["thigh", "shank", "upper arm", "forearm"]
    per_frame = np.nanmedian(poses.reprojection_px[:, 3].reshape(120, -1), 1)
    np.testing.assert_allclose(data["errors"][3]["px"], per_frame, atol=0.051)


def test_tables_show_the_statistics(tmp_path):
    page = tmp_path / "a.html"
    poses = walk()
    poses.reprojection_px[:, 2, 0, 4] = 123.4
    poses.position_mm[:, 0, 13] += [0, 100, 0]
    report(poses, page)
    text = page.read_text(encoding="utf-8")
    assert re.search(r'<th scope="row">right_ear</th>.*?<td class="heat" style="--heat:1.00">123.4</td>', text)
    assert '<th scope="row">left_wrist</th>' in text
    assert ">15.0 %</td>" in text
    assert re.search(r"thigh</th><td[^>]*>\d+ <span class=\"warn\">± ", text)


def test_bad_names_stay_text(tmp_path):
    evil = "</script><script>document.title='owned'</script>{{data}}<!--"
    joints = ("left_hip", "left_knee", evil)
    poses = Pose3D(
        np.zeros((5, 1, 3, 3)),
        np.ones((5, 1, 3)),
        custom("x", joints, [("left_hip", evil)]),
        30.0,
        (evil,),
        notes={evil: evil},
    )
    page = tmp_path / "a.html"
    report(poses, page, title=evil, summary={evil: evil})
    text = page.read_text(encoding="utf-8")
    assert text.count("<script") == 2
    assert text.lower().count("</script>") == 2
    assert data_of(page)["joints"][2] == evil


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(TriposeError, match=r"cannot be written: there is no folder .*nowhere"):
        report(walk(3), tmp_path / "nowhere" / "a.html")


def test_turning_the_world_up_mirrors_nothing():
    for up, turn in TO_Z_UP.items():
        assert np.linalg.det(turn) == pytest.approx(1)
        axis = np.eye(3)["xyz".index(up[-1])] * (-1 if up.startswith("-") else 1)
        np.testing.assert_allclose(np.array(turn) @ axis, [0, 0, 1])


def test_a_camera_is_drawn_where_it_stands_and_looks_where_it_looks():
    cameras = rig()
    for camera in payload(walk(3), cameras)["cameras"]:
        points = np.reshape(camera["xyz"], (5, 3)).astype(float)
        view = cameras.select([camera["name"]]).undistorted()
        np.testing.assert_allclose(points[0], view.centers_mm[0], atol=0.51)
        pixels = view.project(view.centers_mm.new_tensor(points[1:]))[0][0]
        np.testing.assert_allclose(pixels, [[0, 0], [639, 0], [639, 479], [0, 479]], atol=3)  # whole mm at 250 mm


@given(st.lists(st.one_of(st.just(np.nan), st.floats(-1e3, 1e3)), min_size=1, max_size=60), st.integers(2, 9))
def test_thinning_keeps_the_extremes_of_every_column(values, size):
    low, middle, high = thin(np.array(values), size).reshape(-1, 3).T
    for i in range(len(low)):
        column = [v for v in values[i * size : (i + 1) * size] if not np.isnan(v)]
        expected = (min(column), np.median(column), max(column)) if column else (np.nan,) * 3
        np.testing.assert_allclose((low[i], middle[i], high[i]), expected)


def test_a_long_recording_stays_small(tmp_path):
    poses = walk(120)
    many = {k: np.concatenate([getattr(poses, k)] * 400) for k in ("position_mm", "confidence", "n_views")}
    long = replace(poses, **many, reprojection_px=None, covariance_mm2=None)
    page = tmp_path / "long.html"
    report(long, page)
    assert page.stat().st_size < 10e6
    data = data_of(page)
    assert data["frames"] == 48000
    assert len(data["xyz"]) == -(-48000 // data["step"])
    assert len(data["views"][0][0]) == -(-48000 // data["size"]) <= 900
    assert "0" in data["views"][0][COCO17.index("right_ankle")]  # gaps of 4 frames survive columns of 54


@pytest.mark.parametrize("shape", [(0, 1), (4, 0), (4, 1)])
def test_a_page_without_poses_says_so(tmp_path, shape):
    frames, persons = shape
    position = np.full((frames, persons, 17, 3), np.nan)
    names = tuple(map(str, range(persons)))
    report(Pose3D(position, position[..., 0], COCO17, 30.0, names), tmp_path / "a.html")
    assert 'class="bad"' in (tmp_path / "a.html").read_text(encoding="utf-8")
    if CHROMIUM is not None:
        assert 'data-ready="1"' in browse(tmp_path / "a.html", tmp_path, "--dump-dom")


@needs_chromium
@pytest.mark.conformance
def test_the_page_draws_people_in_two_colours(tmp_path):
    page, shot = tmp_path / "a.html", tmp_path / "a.png"
    report(walk(persons=2), page, cameras=rig())
    browse(page, tmp_path, f"--screenshot={shot}", "--blink-settings=preferredColorScheme=1")
    image = cv2.imread(str(shot))[:, :, ::-1].astype(int)
    half = image[:, : image.shape[1] // 2]
    for color in ((0x2B, 0x6C, 0xD4), (0xD9, 0x62, 0x2B)):
        assert (np.abs(half - color).max(-1) < 8).sum() > 500
    strip = image[:, image.shape[1] // 2 :]
    assert (np.abs(strip - (0xC8, 0x33, 0x4A)).max(-1) < 8).sum() > 300  # the missing wrist


@needs_chromium
@pytest.mark.conformance
def test_the_page_answers_keys_clicks_and_choices(tmp_path):
    page = tmp_path / "a.html"
    report(walk(persons=2), page, cameras=rig())
    script = """<script>
    {
      const log = [], by = (id) => document.getElementById(id), at = () => by("clock").textContent.split(" ")[1];
      const key = (k, shiftKey = false) => document.dispatchEvent(new KeyboardEvent("keydown", { key: k, shiftKey }));
      log.push(at());
      key("ArrowRight");
      log.push(at());
      key("ArrowRight", true);
      log.push(at());
      key("ArrowLeft");
      log.push(at());
      const box = by("plots").getBoundingClientRect(), middle = box.left + 104 + (box.width - 104) * 0.5 + 1;
      by("plots").dispatchEvent(new PointerEvent("pointerdown", { clientX: middle }));
      log.push(at());
      by("person").value = "1";
      by("person").dispatchEvent(new Event("change"));
      log.push([...document.querySelectorAll("[data-person]")].map((e) => e.hidden).join());
      // Timers obey the virtual clock, the screen's refresh does not.
      window.requestAnimationFrame = (tick) => setTimeout(() => tick(performance.now()), 16);
      key(" ");
      setTimeout(() => {
        key(" ");
        log.push(+at() > 62 && +at() < 100);
        document.documentElement.dataset.log = log.join(" ");
      }, 400);
    }
    </script></body>"""
    text = page.read_text(encoding="utf-8").replace("</body>", script)
    page.write_text(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text), encoding="utf-8")
    assert 'data-log="0 1 11 10 60 true,false true"' in browse(page, tmp_path, "--dump-dom")


@needs_chromium
@pytest.mark.conformance
def test_a_script_in_a_name_does_not_run(tmp_path):
    evil = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"
    poses = replace(
        walk(), views=(evil, "b", "c", "d"), skeleton=custom("x", [*COCO17.joints[:-1], evil]), persons=(evil,)
    )
    report(poses, tmp_path / "a.html", cameras=rig().rename((evil, "b", "c", "d")), title="calm")
    dom = browse(tmp_path / "a.html", tmp_path, "--dump-dom")
    assert 'data-ready="1"' in dom
    assert "<title>calm</title>" in dom
    assert "<img" not in dom
