"""The page, the drawn videos and the rerun file, on a synthetic walk with gaps and one bad camera."""

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

from tripose.cameras import Cameras
from tripose.errors import TriposeError
from tripose.pose import Pose2D, Pose3D
from tripose.skeleton import COCO17, custom
from tripose.view import overlay, report, write_rrd
from tripose.view.payload import _TO_Z_UP, payload, thin

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
BAD = "<b>right</b>"


_HEAD_MM = {"nose": (0, 90, 1640), "eye": (35, 80, 1680), "ear": (75, 0, 1660)}


def rig() -> Cameras:
    """Four cameras on a circle of 4 m, looking at the middle of a person; z is up."""
    R, t = [], []
    for angle in np.deg2rad([20, 110, 200, 290]):
        center = np.array([4000 * np.cos(angle), 4000 * np.sin(angle), 1800])
        forward = np.array([0, 0, 900]) - center
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0, 0, 1])
        right /= np.linalg.norm(right)
        R.append(np.stack([right, np.cross(forward, right), forward]))
        t.append(-R[-1] @ center)
    K = [[[700, 0, 320], [0, 700, 240], [0, 0, 1]]] * 4
    names = ("front", "left", "back", BAD)
    return Cameras.build(names, K, R, t, [[640, 480]] * 4, distortion=[[-0.1, 0.02, 0, 0]] * 4, up="z")


def _body(joint: str, phase: np.ndarray) -> np.ndarray:
    """[time, 3] mm: a joint of someone who walks on the spot, facing +y, with rigid limbs."""
    side, _, part = joint.rpartition("_")
    sign = -1 if side == "left" else 1  # facing +y, the left side is at -x
    if part in _HEAD_MM:
        return np.array(_HEAD_MM[part]) * (sign, 1, 1) + np.zeros((len(phase), 1))
    leg = part in ("hip", "knee", "ankle")
    chain = (("knee", 430), ("ankle", 410)) if leg else (("elbow", 300), ("wrist", 250))
    at = np.array([110 * sign, 0, 930] if leg else [185 * sign, 0, 1440]) + np.zeros((len(phase), 1))
    swing = 0.45 * np.sin(phase) * (sign if leg else -sign)
    bend = -0.25 + 0.25 * np.sin(phase + sign) if leg else np.full_like(phase, 0.4)
    angles = (swing, swing + bend)
    for (name, length), angle in zip(chain, angles, strict=True):
        if part in ("hip", "shoulder"):
            break
        at = at + length * np.stack([np.zeros_like(angle), np.sin(angle), -np.cos(angle)], -1)
        if part == name:
            break
    return at


def walk(frames: int = 120, persons: int = 1, fps: float = 60) -> Pose3D:
    """People of 1.75 m who walk along y and swing arms and legs; gaps, a filled gap, and a bad last camera."""
    random = np.random.default_rng(0)
    time = np.arange(frames) / fps
    position = np.empty((frames, persons, 17, 3))
    for p in range(persons):
        place = np.array([900 * (p - (persons - 1) / 2), 0, 0]) + np.outer(time - time.mean(), [0, 1100, 0])
        for j, name in enumerate(COCO17.joints):
            position[:, p, j] = place + _body(name, 2 * np.pi * 0.9 * time + p)
    position += random.normal(0, 3, position.shape)
    n_views = random.choice([2, 3, 4], (frames, persons, 17), p=[0.1, 0.3, 0.6])
    error = np.abs(random.normal(0, 1, (frames, 4, persons, 17))) * np.array([5, 6, 5.5, 21])[:, None, None]
    wrist, ankle = COCO17.index("left_wrist"), COCO17.index("right_ankle")
    position[30:48, :, wrist] = np.nan
    position[80:84, :, ankle] = np.nan
    n_views[60:66, :, ankle] = 0  # filled by interpolation
    missing = np.isnan(position).any(-1)
    error[np.broadcast_to(missing[:, None], error.shape) | (random.random(error.shape) < 0.1)] = np.nan
    return Pose3D(
        position_mm=position,
        confidence=np.where(missing, np.nan, 0.8),
        skeleton=COCO17,
        fps=fps,
        persons=tuple(f"person_{p}" for p in range(persons)),
        views=("front", "left", "back", BAD),
        n_views=np.where(missing, 0, n_views),
        reprojection_px=error,
        covariance_mm2=np.broadcast_to(np.eye(3) * 16.0, (frames, persons, 17, 3, 3)),
        up="z",
        notes={"method": "ransac, 30 px", "tripose": "0.1.0", "warning": "camera 4 looks out of sync"},
    )


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


# ---- the page's numbers ----


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
    assert (
        data["views"][0][COCO17.index("left_wrist")][29:49].strip("0")
        == data["views"][0][9][29] + data["views"][0][9][48]
    )
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
    with pytest.raises(TriposeError, match="the folder .*nowhere does not exist"):
        report(walk(3), tmp_path / "nowhere" / "a.html")
    with pytest.raises(TriposeError, match="the folder .*nowhere does not exist"):
        write_rrd(walk(3), tmp_path / "nowhere" / "a.rrd")


def test_turning_the_world_up_mirrors_nothing():
    for up, turn in _TO_Z_UP.items():
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


# ---- the page in a browser ----


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
      const log = [], at = () => document.getElementById("clock").textContent.split(" ")[1];
      const key = (k, shiftKey = false) => document.dispatchEvent(new KeyboardEvent("keydown", { key: k, shiftKey }));
      log.push(at()); key("ArrowRight"); log.push(at()); key("ArrowRight", true); log.push(at()); key("ArrowLeft"); log.push(at());
      const plots = document.getElementById("plots"), box = plots.getBoundingClientRect();
      plots.dispatchEvent(new PointerEvent("pointerdown", { clientX: box.left + 104 + (box.width - 104) * 0.5 + 1 })); log.push(at());
      const person = document.getElementById("person"); person.value = "1"; person.dispatchEvent(new Event("change"));
      log.push([...document.querySelectorAll("[data-person]")].map((e) => e.hidden).join());
      key(" ");
      setTimeout(() => { key(" "); log.push(+at() > 60); document.documentElement.dataset.log = log.join(" "); }, 400);
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


# ---- the drawn videos ----


def gray_video(path: Path, frames: int, fps: float, size_px: tuple[int, int] = (640, 480)) -> Path:
    video = pytest.importorskip("tripose.video")
    with video.write_video(path, fps, size_px) as write:
        for _ in range(frames):
            write(np.full((size_px[1], size_px[0], 3), 128, dtype=np.uint8))
    return path


def read(path: Path) -> list[np.ndarray]:
    video = pytest.importorskip("tripose.video")
    return [frame.image.astype(int) for frame in video.read_frames(path)]


def still() -> Pose3D:
    """Someone who stands without the left wrist, and one arm's length further along x in the second half."""
    poses = walk(20)
    position = np.repeat(poses.position_mm[:1], 20, 0)
    position[10:, ..., 0] += 250
    position[:, :, COCO17.index("left_wrist")] = np.nan
    return replace(poses, position_mm=position, fps=25.0)


def opencv_pixels(cameras: Cameras, name: str, points_mm: np.ndarray) -> np.ndarray:
    one = cameras.select([name])
    rotation = cv2.Rodrigues(one.R[0].numpy())[0]
    pixels = cv2.projectPoints(points_mm, rotation, one.t[0].numpy(), one.K[0].numpy(), one.distortion[0, :5].numpy())[
        0
    ]
    return pixels[:, 0]


def side_at(image: np.ndarray, pixel: np.ndarray) -> str:
    x, y = np.rint(pixel).astype(int)
    red, _, blue = image[y - 1 : y + 2, x - 1 : x + 2].mean((0, 1))
    return "left" if blue > red + 60 else "right" if red > blue + 60 else "nothing"


def test_limbs_are_drawn_where_opencv_projects_them(tmp_path):
    cameras, poses = rig(), still()
    videos = {name: gray_video(tmp_path / f"{i}.mp4", 20, 25) for i, name in enumerate(("front", "back"))}
    written = overlay(poses, cameras, videos, tmp_path / "out")
    assert [p.name for p in written] == ["overlay-front.mp4", "overlay-back.mp4"]
    for name, path in zip(videos, written, strict=True):
        images = read(path)
        assert len(images) == 20
        assert images[0].shape == (480, 640, 3)
        for time in (2, 17):
            pixels = opencv_pixels(cameras, name, poses.position_mm[time, 0])
            for bone in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow")):
                for side in ("left", "right"):
                    ends = [pixels[COCO17.index(f"{side}_{joint}")] for joint in bone]
                    assert side_at(images[time], np.mean(ends, 0)) == side
            assert side_at(images[time], pixels[COCO17.index("right_wrist")]) == "right"
        corner = images[5][:40, :40]
        assert (corner > 200).all(-1).any()  # the frame number


def test_detections_are_crosses_and_large_videos_shrink(tmp_path):
    cameras, poses = rig(), still()
    points = np.full((20, 1, 1, 17, 2), np.nan)
    points[..., 0, :] = (320.5, 100.5)
    found = Pose2D(points, np.nan_to_num(points[..., 0] * 0 + 1), COCO17, ("front",), 25.0)
    videos = {"front": gray_video(tmp_path / "a.mp4", 20, 25)}
    [path] = overlay(
        replace(poses, position_mm=poses.position_mm * np.nan), cameras, videos, tmp_path, pose2d=found, max_side_px=320
    )
    image = read(path)[3]
    assert image.shape == (240, 320, 3)
    yellow = (image[..., :2].min(-1) - image[..., 2] > 60).nonzero()
    assert np.mean(yellow[1]) == pytest.approx(160, abs=0.75)
    assert np.mean(yellow[0]) == pytest.approx(50, abs=0.75)


def test_poses_of_another_rate_follow_the_time(tmp_path):
    cameras, poses = rig(), still()
    videos = {"front": gray_video(tmp_path / "a.mp4", 40, 50)}
    images = read(overlay(poses, cameras, videos, tmp_path)[0])
    hip = COCO17.index("right_knee")
    for frame in (2, 16, 24, 37):
        pixel = opencv_pixels(cameras, "front", poses.position_mm[frame // 2, 0])[hip]
        assert side_at(images[frame], pixel) == "right"


def test_no_camera_name_leaves_the_folder(tmp_path):
    names = ("../x", "..", "x", "a/b")
    cameras = rig().rename(names)
    videos = dict.fromkeys(names, gray_video(tmp_path / "a.mp4", 2, 25))
    out = tmp_path / "out"
    written = overlay(still(), cameras, videos, out)
    assert len(set(written)) == 4
    assert sorted(out.iterdir()) == sorted(written)
    assert all(p.resolve().parent == out.resolve() for p in written)


def test_a_video_that_is_not_the_cameras_is_refused(tmp_path):
    videos = {"front": gray_video(tmp_path / "a.mp4", 2, 25, (480, 640))}
    with pytest.raises(TriposeError, match=r"a.mp4: the frames are 480x640 px, but camera 'front' .* 640x480"):
        overlay(still(), rig(), videos, tmp_path)
    with pytest.raises(TriposeError, match="no camera named 'top'"):
        overlay(still(), rig(), {"top": tmp_path / "a.mp4"}, tmp_path)


# ---- rerun ----


def test_rerun_reads_the_recording_back(tmp_path):
    chunk = pytest.importorskip("rerun.chunk")
    poses = walk(60, persons=2)
    write_rrd(poses, tmp_path / "a.rrd", cameras=rig())
    assert [p.name for p in tmp_path.iterdir()] == ["a.rrd"]
    columns = {}
    for part in chunk.RrdReader(tmp_path / "a.rrd").stream():
        batch = part.to_record_batch()
        columns |= {(str(part.entity_path), name): batch.column(name) for name in batch.schema.names}
    positions = columns["/world/person_1/joints", "Points3D:positions"]
    assert len(positions) == 60
    assert len(positions[0]) == 17
    assert len(positions[35]) == 16  # the wrist is missing
    np.testing.assert_allclose(np.array(positions[9].as_py()), poses.position_mm[9, 1], rtol=1e-5)
    strips = columns["/world/person_0/bones", "LineStrips3D:strips"]
    assert len(strips[0]) == len(COCO17.bones)
    assert len(strips[35]) == len(COCO17.bones) - 1
    assert {entity for entity, name in columns if name == "Pinhole:image_from_camera"} >= {"/world/cameras/front"}
    assert ("/world/person_0/joints", "frame") in columns
