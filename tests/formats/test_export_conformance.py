"""Files read by the programs they are for: OpenSim (TRC) and movement (netCDF).

Both may live in another Python: `TRIPOSE_OPENSIM_PYTHON` and `TRIPOSE_MOVEMENT_PYTHON` name its interpreter.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tripose.formats.export import export
from tripose.formats.netcdf import read_netcdf
from tripose.pose import Pose3D
from tripose.skeleton import COCO17

pytestmark = pytest.mark.conformance

OPENSIM = """
import json, sys
import opensim
table = opensim.TimeSeriesTableVec3(sys.argv[1])
rows = [table.getRowAtIndex(i) for i in range(table.getNumRows())]
print("RESULT" + json.dumps({
    "labels": list(table.getColumnLabels()),
    "time": list(table.getIndependentColumn()),
    "about": {key: table.getTableMetaDataString(key) for key in ("Units", "DataRate", "NumFrames", "NumMarkers")},
    "values": [[[row[j][k] for k in range(3)] for j in range(table.getNumColumns())] for row in rows],
}))
"""

MOVEMENT = """
import json, sys
import xarray as xr
from movement.io import load_poses
from movement.kinematics import compute_velocity
from movement.validators.datasets import ValidPosesInputs
ds = xr.open_dataset(sys.argv[1])
ValidPosesInputs.validate(ds)
own = load_poses.from_numpy(
    ds.position.values, ds.confidence.values, fps=ds.fps, source_software="tripose",
    individual_names=list(ds.individual.values), keypoint_names=list(ds.keypoint.values),
)
same = all(own[name].drop_attrs().equals(ds[name].drop_attrs()) for name in own.data_vars)
missing = {key: own.attrs[key] for key in own.attrs if ds.attrs.get(key) != own.attrs[key]}
speed = float(compute_velocity(ds.position).sel(space="x", keypoint="nose", individual="ann")[5])
own.to_netcdf(sys.argv[2])
print("RESULT" + json.dumps({"same": same, "missing": missing, "speed": speed}))
"""


def run(library: str, script: str, *arguments: Path) -> dict[str, object]:
    python = os.environ.get(f"TRIPOSE_{library.upper()}_PYTHON")
    if python is None and importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    command = [python or sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    # OpenSim also prints; Python's JSON reads back NaN
    return json.loads(done.stdout.split("RESULT")[1])  # type: ignore[no-any-return]


def example(people: tuple[str, ...]) -> Pose3D:
    rng = np.random.default_rng(0)
    position = rng.uniform(-3000, 3000, (12, len(people), 17, 3))
    position[:, 0, 0, 0] = 1000 * np.arange(12) / 29.97  # the nose moves along x with 1 m/s
    position[rng.random((12, len(people), 17)) < 0.2] = np.nan
    position[3, :, 10:] = np.nan  # the end of a row
    position[7] = np.nan  # a whole row
    position[4:7, 0, 0] = 500.0 + 1000 * np.arange(3)[:, None] / 29.97
    confidence = np.where(np.isnan(position[..., 0]), np.nan, 0.8)
    return Pose3D(position, confidence, COCO17, 29.97, persons=people, views=("left", "right"), up="z")


@pytest.mark.parametrize(("unit", "mm"), [("m", 1000.0), ("mm", 1.0)])
def test_opensim_reads_trc(tmp_path: Path, unit: str, mm: float) -> None:
    poses = example(("ann",))
    [path] = export(poses, tmp_path / "my walk.trc", unit=unit)  # type: ignore[arg-type]
    read = run("opensim", OPENSIM, path)
    assert read["labels"] == list(COCO17.joints)
    assert read["about"] == {"Units": unit, "DataRate": "29.97", "NumFrames": "12", "NumMarkers": "17"}
    np.testing.assert_allclose(read["time"], poses.time_s, atol=1e-8)
    expected = poses.position_mm[:, 0][..., [1, 2, 0]]
    np.testing.assert_allclose(np.array(read["values"]) * mm, expected, atol=1e-3)  # NaN where NaN


def test_movement_reads_netcdf_and_the_other_way_round(tmp_path: Path) -> None:
    poses = example(("ann", "bob"))
    export(poses, tmp_path / "ours.nc")
    read = run("movement", MOVEMENT, tmp_path / "ours.nc", tmp_path / "theirs.nc")
    assert read == {"same": True, "missing": {}, "speed": pytest.approx(1000.0)}
    theirs = read_netcdf(tmp_path / "theirs.nc", unit="mm")
    np.testing.assert_array_equal(theirs.position_mm, poses.position_mm)
    np.testing.assert_array_equal(theirs.confidence, poses.confidence)
    assert (theirs.persons, theirs.skeleton.joints, theirs.fps) == (poses.persons, COCO17.joints, poses.fps)
