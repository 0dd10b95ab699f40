"""`docs/add-a-method.md`, typed as it stands into an empty folder, from a wheel."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "add-a-method.md").read_text()
VENV = "python3 -m venv venv && . venv/bin/activate"
TYPED = re.compile(r"(?:in `(?P<path>[^`]+)`:\n\n)?```(?P<kind>sh|python)\n(?P<text>.*?)```", re.S)


def script() -> str:
    """What the page has one type: its shell blocks in order, files written where it says so."""
    lines = ["set -euo pipefail"]
    for block in TYPED.finditer(PAGE):
        if block["kind"] == "sh":
            lines.append(block["text"].replace("pytest", "pip install -q pytest && pytest"))
        elif block["path"]:
            lines.append(f"cat > {block['path']} <<'END'\n{block['text']}END\n")
    return "\n".join(lines)


def test_all_of_it_is_typed() -> None:
    """The page has its two kinds of blocks, and the file that is filled in."""
    assert script().count(VENV) == 1
    assert script().count("cat > mine/src/paibench_mine/mine.py") == 1
    assert [line.split()[1] for line in script().splitlines() if line.startswith("paibench ")] == [
        *("new-method", "check-method", "quickstart", "run", "run", "check-method", "quickstart")
    ]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which all of it was typed, with nothing but Python, torch and a wheel of ours."""
    place = tmp_path_factory.mktemp("tutorial")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir"]
    for source in (ROOT, ROOT / "examples" / "kron"):
        subprocess.run([*build, place / "dist", source], check=True, capture_output=True)
    (place / "empty").mkdir()
    said = typed(place / "empty", script().replace(VENV, f"{VENV}\n{shared(place)}", 1))
    assert said.count("mine conforms: ") == 2
    return place / "empty"


def shared(place: Path) -> str:
    """The command by which a new venv uses this one's torch: a second copy takes 6 GB."""
    for kind in ("torch*", "functorch", "triton*", "nvidia*", "cuda*"):
        for path in Path(sysconfig.get_path("purelib")).glob(kind):
            shutil.copytree(path, place / "torch" / path.name, copy_function=linked)
    site = f"venv/lib/python{sysconfig.get_python_version()}/site-packages"
    return f"echo {place / 'torch'} > {site}/torch.pth"


def linked(source: str, target: str) -> None:
    """Link a file, or copy it to another file system: the sandbox follows no symbolic link."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def typed(folder: Path, text: str) -> str:
    """What a shell says to a text, every command of which succeeds."""
    clean = {name: os.environ[name] for name in os.environ if not name.startswith("PYTHON")}
    own = {"PIP_FIND_LINKS": str(folder.parent / "dist"), "HOME": str(folder.parent)}
    done = subprocess.run(
        ["bash", "-c", text], cwd=folder, env=clean | own, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.slow
def test_the_row_is_there(empty: Path) -> None:
    """The method is on both boards, and its report names what was checked."""
    for board in ("quickstart", "ranked"):
        table = (empty / board / "leaderboard" / "leaderboard.md").read_text()
        assert re.search(r"^\| mine \|", table, re.MULTILINE)
    report = json.loads((empty / "report" / "conformance-mine.json").read_text())
    assert (report["conforms"], report["distribution"]) == (True, "paibench-mine 0.1.0")


@pytest.mark.slow
def test_its_own_tests_pass(empty: Path) -> None:
    """What `new-method` wrote is a package whose tests pass where it is installed."""
    assert " passed" in typed(empty, ". venv/bin/activate && cd mine && pytest -q")


@pytest.mark.slow
def test_the_example_of_a_third_party(empty: Path) -> None:
    """Its wheel, installed beside the suite's, conforms and is ranked."""
    tests = ROOT / "examples" / "kron" / "tests"
    said = typed(
        empty,
        ". venv/bin/activate && pip install -q paibench-kron && cd .. && "
        f"pytest -q -p no:cacheprovider {tests} && paibench check-method kron --report report && "
        "paibench quickstart --methods kron,random --out with-kron",
    )
    assert " passed" in said
    assert "kron conforms: " in said
    table = (empty.parent / "with-kron" / "leaderboard" / "leaderboard.md").read_text()
    assert re.search(r"^\| kron \|", table, re.MULTILINE)
