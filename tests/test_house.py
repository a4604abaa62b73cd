"""The rules of the house: what an import loads, who may import whom, and that the README runs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tripose
from scene import observe, ring, walk_mm, write_recording

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "tripose"
HEAVY = (
    "anny av cdflib cv2 ezc3d h5netcdf h5py kornia lightning llvmlite matplotlib numba onnx onnxruntime onnxscript "
    "pandas pyarrow rerun rich scipy tensorboard typer xarray yaml pydantic"
).split()

# Room -> rooms it may import. A file at the top is a room of its own.
NOUNS = {"errors", "lens", "cameras", "skeleton", "pose"}
MAY_IMPORT = {
    "compiled": {"errors"},
    "geometry": NOUNS | {"compiled"},
    "models": NOUNS | {"geometry"},
    "formats": NOUNS,
    "filters": NOUNS,
    "diagnosis": NOUNS,
    "image_folder": {"errors"},
    "video": {"errors", "image_folder"},
    "detect": NOUNS | {"models"},
    "associate": NOUNS | {"geometry"},
    "lifting": NOUNS | {"geometry", "models", "triangulation"},
    "triangulation": NOUNS | {"geometry", "models"},
    "drawing": NOUNS | {"diagnosis", "video", "video_writer", "formats"},
    "video_writer": {"errors"},
    "recording": NOUNS | {"discovery", "image_folder", "recording_file", "video", "formats"},
    "track": NOUNS | {"associate", "detect", "geometry", "models", "recording"},
    "data": NOUNS | {"compiled", "discovery", "formats", "geometry", "image_folder", "lifting", "recording", "video"},
    "train": NOUNS | {"data", "geometry", "metrics", "models"},
    "metrics": NOUNS,
    "evaluation": NOUNS | {"data", "drawing", "formats", "geometry", "metrics", "models", "triangulation"},
    "learned": NOUNS | {"geometry", "models", "recording"},
    "track_single": NOUNS | {"detect", "geometry", "recording", "track"},
}


def test_import_loads_numpy_and_torch_only():
    code = f"import tripose, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", tripose.__all__)
def test_every_public_name_loads(name):
    assert getattr(tripose, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'triangulat'"):
        tripose.triangulat  # noqa: B018


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_rooms_import_only_what_they_may(room):
    files = (SOURCE / room).rglob("*.py") if (SOURCE / room).is_dir() else [SOURCE / f"{room}.py"]
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tripose."):
                imported = node.module.split(".")[1]
                assert imported in MAY_IMPORT[room] | {room}, f"{file.name} imports {node.module}"


def test_only_training_imports_lightning():
    users = {f.relative_to(SOURCE).parts[0] for f in SOURCE.rglob("*.py") if "import lightning" in f.read_text()}
    assert users == {"train"}


def test_files_stay_small():
    assert not [f for f in SOURCE.rglob("*.py") if len(f.read_text().splitlines()) > 330]


def test_the_readme_script_runs(tmp_path):
    script = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    cameras = ring(4)
    write_recording(tmp_path / "trials" / "walk01", cameras, observe(cameras, [walk_mm(40)]))
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "walk01.trc").exists()
    assert (tmp_path / "walk01.html").exists()


def test_no_host_names_or_machine_paths_in_the_house():
    told = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    for name in told:
        if name.endswith((".py", ".md", ".toml", ".yaml", ".txt")) and not name.startswith("tests/test_house"):
            text = (ROOT / name).read_text(encoding="utf-8", errors="ignore")
            assert not re.search(r"npmjs|pypi\.org|/work/|/root/", text), name
