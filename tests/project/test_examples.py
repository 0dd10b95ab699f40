"""The example of a third party's package: built, installed elsewhere, and found by name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "kron"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the wheel of the example was installed into."""
    folder = tmp_path_factory.mktemp("kron")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir"]
    subprocess.run([*build, folder / "dist", EXAMPLE], check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, "--target", folder / "site", wheel], check=True, capture_output=True)
    return folder / "site"


def said(site: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """What a module of Python says where the example is installed."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )


def test_its_own_tests_pass(site: Path, tmp_path: Path) -> None:
    """The conformance suite over it, and the facts that it states."""
    folder = str(EXAMPLE / "tests")
    done = said(site, "pytest", "-q", "-p", "no:cacheprovider", folder, cwd=tmp_path)
    assert done.returncode == 0, done.stdout


def test_all_its_kinds_in_one_run(site: Path, tmp_path: Path) -> None:
    """Its method, model, data set and recipe are found, checked, run and named in the record."""
    asked = ["run", "--method", "kron", "--density", "0.1", "--dataset", "stripes", "--json"]
    asked += ["--model", "bottleneck", "--recipe", "sprint", "--model-option", "width=16"]
    done = said(site, "paibench", *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    where = record["environment"]
    assert (where["plugin"], where["plugin_version"]) == ("paibench-kron", "1.0.0")
    assert len(where["plugin_sha256"]) == 64
    assert where["isolation"].startswith("process, folder, limits")
    ours = "paibench-kron 1.0.0"
    assert where["other_plugins"] == f"stripes: {ours}; bottleneck: {ours}; sprint: {ours}"
    assert record["data_name"] == "stripes-1"
    assert record["accuracy"] > 0.5


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--method-option", "per_clas=3"),
        ("--model-option", "widht=3"),
        ("--data-option", "nois=1"),
        ("--recipe-option", "epoch=1"),
    ],
)
def test_options_are_checked(site: Path, tmp_path: Path, option: str, text: str) -> None:
    """A misspelt option of any of them is refused in one line with the nearest, and status 2."""
    asked = ["run", "--method", "kron", "--density", "0.1", "--dataset", "stripes"]
    asked += ["--model", "bottleneck", "--recipe", "sprint", option, text]
    done = said(site, "paibench", *asked, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "did you mean" in done.stderr
    assert not (tmp_path / "runs").exists()
