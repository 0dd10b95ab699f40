"""`paibench check-method`: its table, its report and its exit status."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Say = Callable[..., tuple[int, str, str]]
FEW = ("--case", "covers", "--case", "count", "--case", "sandbox")


@pytest.mark.slow
def test_a_method_that_conforms(tmp_path: Path, say: Say) -> None:
    """Each case is one line, the report has two formats, and the status is 0."""
    status, out, err = say("check-method", "magnitude", *FEW, "--report", str(tmp_path / "new"))
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[:2] for line in lines[:3]] == [["ok", case] for case in FEW[1::2]]
    assert "isolated by: process, folder, limits" in lines[3]
    assert lines[4].startswith("magnitude conforms: 3 passed; report: ")
    plain = json.loads((tmp_path / "new" / "conformance-magnitude.json").read_text())
    assert (plain["conforms"], plain["distribution"].split()[0]) == (True, "paibench")
    assert "| count |" in (tmp_path / "new" / "conformance-magnitude.md").read_text()


def test_a_method_that_does_not_conform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say
) -> None:
    """Expected and actual result follow the failed case, and the status is 2."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "odd.py"
    file.write_text("def odd(net, task, density):\n    return {}\n")
    status, out, _ = say("check-method", f"{file}:odd", *FEW[:4])
    assert status == 2
    assert "  FAILED  covers" in out
    assert "expected the prunable weight '0.weight'; got nothing" in out
    assert "does not conform: 2 failed; report: conformance-local-odd." in out
    assert len(list(tmp_path.glob("conformance-local-odd.*"))) == 2


def test_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say) -> None:
    """Standard output is only the report, whatever the method prints."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "loud.py"
    file.write_text(
        "from paibench.methods.baselines.random import random\n\n\ndef loud(net, task, density):\n"
        "    print('noise')\n    return random(net, task, density)\n"
    )
    status, out, _ = say("check-method", f"{file}:loud", "--case", "count", "--json")
    assert (status, json.loads(out)["cases"][0]["outcome"]) == (0, "passed")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("magnitud",), "unknown method 'magnitud'; did you mean magnitude?"),
        (("no/such.py:mine",), "no/such.py:mine: the file cannot be read: No such file"),
        (("magnitude", "--case", "cuont"), "--case 'cuont' is unknown; did you mean count"),
    ],
    ids=["name", "file", "case"],
)
def test_wrong_usage(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    say: Say,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    """One line and status 2; no report is written."""
    monkeypatch.chdir(tmp_path)
    status, out, err = say("check-method", *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert list(tmp_path.iterdir()) == []
