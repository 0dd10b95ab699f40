"""What users install: the wheel's files, and the main job done from it outside the checkout."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("benchmark", "leaderboard", "methods", "models", "slurm")


def command(*arguments: object, **options: object) -> str:
    """The output of a Python command, which must succeed."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        **options,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel that was built from that."""
    out = tmp_path_factory.mktemp("dist")
    command("-m", "build", "--no-isolation", "--outdir", out, ROOT)
    return out


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel was installed into."""
    target = tmp_path_factory.mktemp("site")
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", target)
    command(*pip, *built.glob("*.whl"), env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    return target


def modules(room: str) -> set[str]:
    """The Python files of a room of the checkout, as the wheel names them."""
    found = (ROOT / room).rglob("*.py")
    return {f"paibench/{path.relative_to(ROOT)}" for path in found}


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    """Every room, the front door and the type marker are in it, below `paibench` alone."""
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    info = {name for name in names if name.startswith("paibench-") and ".dist-info/" in name}
    door = (ROOT / "src" / "paibench").glob("*.py")
    commands = (ROOT / "src" / "paibench" / "commands").glob("*.py")
    expected = {"paibench/py.typed"}.union(
        {f"paibench/{path.name}" for path in door},
        {f"paibench/commands/{path.name}" for path in commands},
        *map(modules, ROOMS),
    )
    assert {name for name in names - info if name.endswith((".py", "py.typed"))} == expected
    assert "paibench/benchmark/sweeps/quickstart.toml" in names
    assert {name.partition("/")[0] for name in names - info} == {"paibench"}
    assert {"METADATA", "RECORD", "WHEEL", "entry_points.txt"} <= {Path(n).name for n in info}


def test_the_sources_hold_each_room_once(built: Path) -> None:
    """The links of the checkout are not copied into the source distribution."""
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as sources:
        names = {member.name.partition("/")[2] for member in sources.getmembers()}
    assert {f"{room}/__init__.py" for room in ROOMS} | {"src/paibench/cli.py", "LICENSE"} <= names
    assert [
        name for name in names if name.startswith(tuple(f"src/paibench/{r}" for r in ROOMS))
    ] == []


@pytest.mark.slow
def test_the_main_job_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    """Installed elsewhere, with the checkout out of sight, a run makes its record."""
    environment = os.environ | {"PYTHONPATH": str(installed)}
    where = command(
        "-c", "import paibench; print(paibench.__file__)", cwd=tmp_path, env=environment
    )
    assert Path(where.strip()).is_relative_to(installed)
    run = ("run", "--method", "random", "--density", "0.1", "--recipe", "smoke", "--out", "X")
    said = command("-m", "paibench", *run, "--json", cwd=tmp_path, env=environment)
    record = json.loads(said)
    assert (record["status"], record["kept"]) == ("done", 5020)
    assert record["environment"]["commit"] is None
    assert (tmp_path / "X" / "runs" / record["key"][:2] / f"{record['key']}.json").is_file()
