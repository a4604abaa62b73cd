from __future__ import annotations

import contextlib
import resource
import sys
import warnings
from fractions import Fraction

import cv2
import numpy as np
import pytest

from clips import SIZE_PX, number_of, picture, turn_in_metadata, write_clip
from tripose.errors import TriposeError
from tripose.video import count_frames, probe, read_frames
from tripose.video_writer import write_video


def numbers(path, **options):
    """(index, number in the pixels) of every frame."""
    return [(f.index, number_of(f.image)) for f in read_frames(path, **options)]


def same(indices):
    return [(i, i) for i in indices]


@pytest.mark.parametrize("fps", [25, 30, Fraction(30000, 1001), 60])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_every_frame_has_its_index(tmp_path, fps, suffix):
    clip = write_clip(tmp_path / f"clip{suffix}", 60, fps)
    info = probe(clip)
    assert info.fps == pytest.approx(float(fps), rel=1e-3)
    assert info.size_px == SIZE_PX
    assert info.n_frames == pytest.approx(60, abs=1)
    assert numbers(clip) == same(range(60))
    assert count_frames(clip) == 60


@pytest.mark.parametrize("start", [0, 1, 29, 30, 31, 59, 75, 89])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_start_is_exact_with_long_gops_and_b_frames(tmp_path, start, suffix):
    clip = write_clip(tmp_path / f"clip{suffix}", 90, gop=60, b_frames=0 if suffix == ".avi" else 3)
    assert numbers(clip, start=start) == same(range(start, 90))


def test_times_start_at_zero_even_when_the_file_does_not(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", 40, first_tick=100)
    frames = list(read_frames(clip))
    assert frames[0].time_s == pytest.approx(0, abs=1e-3)
    assert [f.index for f in frames] == list(range(40))


def test_dropped_frames_leave_gaps_and_do_not_lower_the_rate(tmp_path):
    skip = frozenset({10, 11, 35})
    clip = write_clip(tmp_path / "clip.mp4", 60, skip=skip)
    assert probe(clip).fps == pytest.approx(30, rel=0.01)
    assert numbers(clip) == same(i for i in range(60) if i not in skip)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_metadata_is_applied_clockwise(tmp_path, degrees):
    clip = write_clip(tmp_path / "clip.mp4", 3)
    turn_in_metadata(clip, degrees)
    info = probe(clip)
    assert info.rotation_deg == degrees
    expected = np.rot90(picture(0), -degrees // 90)
    assert info.size_px == (expected.shape[1], expected.shape[0])
    image = next(iter(read_frames(clip))).image
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 8
    assert number_of(next(iter(read_frames(clip, rotate_deg=-degrees))).image) == 0


def test_rotation_by_request(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 2)
    image = next(iter(read_frames(clip, rotate_deg=90))).image
    assert np.abs(image.astype(int) - np.rot90(picture(0), -1)).mean() < 8
    with pytest.raises(TriposeError, match="multiples of 90"):
        next(read_frames(clip, rotate_deg=45))


def test_a_file_that_is_cut_off_gives_what_decodes(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", 90)
    clip.write_bytes(clip.read_bytes()[: int(clip.stat().st_size * 0.8)])
    found = numbers(clip)
    assert found == same(range(len(found)))
    assert 30 < len(found) < 90
    assert count_frames(clip) == len(found)


def test_an_mp4_cut_off_after_its_index(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 90, options={"movflags": "faststart"})
    clip.write_bytes(clip.read_bytes()[: int(clip.stat().st_size * 0.8)])
    assert probe(clip).n_frames == 90
    with pytest.warns(UserWarning, match=r"clip\.mp4"):
        found = numbers(clip)
    assert found == same(range(len(found)))
    assert 30 < len(found) < 90


def test_damage_in_the_middle_does_not_shift_what_follows(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 120, gop=20)
    content = bytearray(clip.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 600] = np.random.default_rng(0).bytes(600)
    clip.write_bytes(bytes(content))
    with pytest.warns(UserWarning, match="damaged"):
        found = numbers(clip)
    assert all(index == number for index, number in found)
    assert 80 < len(found) < 120
    assert found[-1] == (119, 119)


def test_image_folders_behave_like_videos(tmp_path):
    folder = tmp_path / "动作 é"
    folder.mkdir()
    for i in (7, 8, 10, 11, 100):
        encoded = cv2.imencode(".png", picture(i)[..., ::-1])[1]
        (folder / f"img_{i}.png").write_bytes(encoded.tobytes())
    (folder / "notes.txt").write_text("not an image")
    assert probe(folder, 50).fps == 50
    assert [i for i, _ in numbers(folder)] == [0, 1, 3, 4, 93]
    assert [n for _, n in numbers(folder)] == [7, 8, 10, 11, 100]
    assert [i for i, _ in numbers(folder, start=3)] == [3, 4, 93]
    (folder / "img_8.png").write_bytes(b"broken")
    with pytest.warns(UserWarning, match="1 frame"):
        assert [i for i, _ in numbers(folder)] == [0, 3, 4, 93]


@pytest.mark.parametrize("values", [np.full((8, 8), 40000, np.uint16), np.full((8, 8), 200, np.uint8)])
def test_gray_and_16_bit_images_become_rgb(tmp_path, values):
    (tmp_path / "0.png").write_bytes(cv2.imencode(".png", values)[1].tobytes())
    image = next(iter(read_frames(tmp_path))).image
    assert image.shape == (8, 8, 3)
    assert image.dtype == np.uint8
    assert image.std() == 0


def test_what_is_no_video_is_refused_in_one_sentence(tmp_path):
    for name, content in (("empty.mp4", b""), ("text.mp4", b"hello " * 100)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TriposeError, match=name):
            probe(tmp_path / name)
    with pytest.raises(TriposeError, match=r"nowhere\.mp4"):
        read_frames(tmp_path / "nowhere.mp4")
    (tmp_path / "folder").mkdir()
    with pytest.raises(TriposeError, match="no images"):
        probe(tmp_path / "folder")


def test_written_videos_read_back_and_odd_sizes_are_padded(tmp_path):
    path = tmp_path / "out.mp4"
    images = [picture(i, (127, 63)) for i in range(12)]
    with write_video(path, 29.97, (127, 63)) as write:
        for image in images:
            write(image)
    assert probe(path).size_px == (128, 64)
    assert probe(path).fps == pytest.approx(29.97, rel=1e-3)
    assert [f.index for f in read_frames(path)] == list(range(12))


def test_a_failed_write_leaves_nothing(tmp_path):
    def fail():
        with write_video(tmp_path / "out.mp4", 30, SIZE_PX) as write:
            write(picture(0))
            write(picture(0, (32, 32)))

    with pytest.raises(TriposeError, match="takes images of"):
        fail()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kB on Linux only")
def test_memory_does_not_grow_with_length(tmp_path):
    clip = tmp_path / "big.mp4"
    with write_video(clip, 30, (1280, 720)) as write:
        for i in range(200):
            write(picture(i, (1280, 720)))
    for i, _ in enumerate(read_frames(clip)):
        if i == 50:
            before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 40_000


@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".mov", ".flv"])
@pytest.mark.parametrize("start", [1, 29, 30, 56, 88, 117, 146])
def test_start_is_exact_in_other_containers(tmp_path, suffix, start):
    clip = write_clip(tmp_path / f"clip{suffix}", 150, 25, gop=30, b_frames=2)
    assert numbers(clip, start=start) == same(range(start, 150))


def test_a_damaged_first_key_frame_costs_only_its_group(tmp_path):
    clip = write_clip(tmp_path / "clip.mp4", 90, gop=15)
    content = bytearray(clip.read_bytes())
    at = content.index(b"mdat") + 4
    content[at : at + 700] = np.random.default_rng(0).bytes(700)
    clip.write_bytes(bytes(content))
    with pytest.warns(UserWarning, match="damaged"):
        found = numbers(clip)
    assert found[-1] == (89, 89)
    assert all(index == number for index, number in found)
    assert len(found) >= 60


def test_a_cut_matroska_file_is_said(tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", 90)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with pytest.warns(UserWarning, match=r"ends after \d+ of 90 frames"):
        numbers(clip)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".flv", ".ts"])
def test_garbage_in_a_container_is_one_sentence_or_fewer_frames(tmp_path, suffix):
    whole = write_clip(tmp_path / f"whole{suffix}", 30).read_bytes()
    clip = tmp_path / f"clip{suffix}"
    for seed in range(25):
        random = np.random.default_rng(seed)
        content = bytearray(whole)
        for at in random.integers(0, len(content), 40):
            content[at] = random.integers(256)
        clip.write_bytes(bytes(content))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(TriposeError):
                count_frames(clip)
                list(read_frames(clip, start=3))
