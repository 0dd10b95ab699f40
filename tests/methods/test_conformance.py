"""The conformance suite: our own finders pass it, and finders with a fault fail the right case."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from factories import installed

from paibench.methods.conformance import CASES, check
from paibench.methods.conformance.cases import results
from paibench.methods.conformance.report import Report, Result
from paibench.methods.conformance.runner import run_isolated
from paibench.methods.core.registry import UserError, names

HERE = [case for case in CASES if case != "gpu" or torch.cuda.is_available()]
MUTANTS = {
    "wrong_sign": "better",
    "wrong_sign_of_weights": "better",
    "off_by_one": "count",
    "rounds_by_layer": "count",
    "of_all_parameters": "count",
    "ignores_the_generator": "seed",
    "begins_alike": "seed",
    "draws_by_the_clock": "same-seed",
    "draws_globally": "untouched",
    "leaks_a_dtype": "untouched",
    "leaks_a_mode": "untouched",
    "changes_the_data": "untouched",
    "leaks_a_hook": "untouched",
    "leaks_a_setting": "untouched",
    "leaves_a_thread": "untouched",
    "keeps_in_mind": "again",
    "not_a_number": "finite",
    "forgets_the_last_layer": "covers",
    "prunes_biases": "covers",
    "not_a_mask": "covers",
    "counts_nothing": "cost",
    "forgets_its_state": "memo",
    "takes_anything": "options",
    "has_an_option_of_no_type": "options",
    "in_single_precision": "float64",
    "knows_two_layers": "transformer",
    "knows_no_tied_weights": "tied",
    "needs_biases": "bias-free",
    "needs_square_layers": "batch-norm",
}


@pytest.fixture
def mutants() -> Iterator[None]:
    """Finders with one fault each are installed, here and in processes that are started."""
    with installed("mutants"):
        yield


REFUSED = {
    ("phew", "transformer"): "it refuses this network: phew cannot follow the units of the network",
}
QUICK = ("random", "snip", "imp")  # without data, in one round, and with trainings


@pytest.mark.parametrize("case", HERE)
@pytest.mark.parametrize(
    "method",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in names()],
)
def test_our_own(method: str, case: str) -> None:
    """Every registered method conforms, and serves each network but those that it must refuse."""
    if (method, case) in REFUSED:
        with pytest.raises(pytest.skip.Exception, match=REFUSED[method, case]):
            check(method, case)
        return
    try:
        check(method, case)
    except pytest.skip.Exception as skipped:
        assert "refuses" not in str(skipped)
        raise


@pytest.mark.usefixtures("mutants")
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_fault_fails_its_case(mutant: str) -> None:
    """A finder with one fault fails exactly the case for that fault."""
    failed = [result for result in results(mutant, HERE) if result.outcome == "failed"]
    assert [result.case for result in failed] == [MUTANTS[mutant]]
    assert failed[0].expected
    assert failed[0].actual


@pytest.mark.usefixtures("mutants")
def test_every_mutant_is_tried() -> None:
    """The table above lists every mutant."""
    ours = subprocess.run(
        [sys.executable, "-c", "from paibench.methods import names; print(*names())"],
        env={},
        check=True,
        capture_output=True,
        text=True,
    )
    assert set(names()) - set(ours.stdout.split()) == MUTANTS.keys()


@pytest.mark.usefixtures("mutants")
def test_what_was_expected_and_what_came() -> None:
    """A failure states what was expected and what was found."""
    with pytest.raises(AssertionError, match="expected 540 of 540 weights at density 1; got 539"):
        check("off_by_one", "count")


def test_what_is_not_here_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A case that needs a GPU is skipped on a machine without one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(pytest.skip.Exception, match="this machine has no GPU"):
        check("random", "gpu")


def test_unknown_names() -> None:
    """The error for an unknown method or case suggests the nearest."""
    with pytest.raises(UserError, match="unknown case 'cuont'; did you mean count"):
        check("random", "cuont")
    with pytest.raises(UserError, match="unknown method 'randon'; did you mean random"):
        check("randon", "count")


# -- in a process of its own -----------------------------------------------------------------------

ABRUPT = """
import os
import time

from paibench.methods.baselines.random import random

CALLS = []


def abrupt(net, task, density):
    CALLS.append(density)
    if density == 0.03:
        {does}
    print('{{"case": "forged"}}', flush=True)
    return random(net, task, density)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("does", "actual"),
    [
        ("os.kill(os.getpid(), 11)", "its process ended with signal SIGSEGV"),
        ("os._exit(0)", "its process ended with exit status 0"),
        ("time.sleep(600)", "no result in 4 s; killed"),
    ],
    ids=["crash", "exit", "hang"],
)
def test_a_finder_that_ends_or_hangs_fails_a_case(tmp_path: Path, does: str, actual: str) -> None:
    """The current case fails, and the other cases run."""
    file = tmp_path / "abrupt.py"
    file.write_text(ABRUPT.format(does=does))
    found = list(run_isolated(f"{file}:abrupt", ["finite", "count", "covers"], seconds=4))
    assert [(result.case, result.outcome) for result in found] == [
        ("finite", "passed"),
        ("count", "failed"),
        ("covers", "passed"),
    ]
    assert found[1].actual == actual


def test_a_finder_that_cannot_be_imported_fails(tmp_path: Path) -> None:
    """A finder that cannot be imported fails with the error of the import."""
    file = tmp_path / "broken.py"
    file.write_text("import no_such_library\n\n\ndef broken(net, task, density):\n    return {}\n")
    (found,) = run_isolated(f"{file}:broken", ["count"])
    assert (found.outcome, found.actual) == (
        "failed",
        "ModuleNotFoundError: No module named 'no_such_library'",
    )


def test_there_is_no_such_method() -> None:
    """An unknown method raises before any case runs."""
    with pytest.raises(UserError, match="did you mean magnitude"):
        list(run_isolated("magnitud", ["count"]))


# -- as tests of pytest's --------------------------------------------------------------------------


def pytest_said(folder: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_the_option_of_pytest(tmp_path: Path) -> None:
    """The option runs every case of a method, without any test file."""
    status, said = pytest_said(tmp_path, "--paibench-method", "magnitude", "-v")
    assert status == 0
    assert said.count("PASSED") + said.count("SKIPPED") == len(CASES)
    assert "magnitude[same-seed] PASSED" in said


@pytest.mark.slow
@pytest.mark.usefixtures("mutants")
def test_a_failure_in_pytest(tmp_path: Path) -> None:
    """A failed case is one line without a traceback."""
    status, said = pytest_said(tmp_path, "--paibench-method", "off_by_one")
    assert status == 1
    assert "expected 540 of 540 weights at density 1; got 539 kept" in said
    assert "Traceback" not in said
    assert said.count("FAILED") == 1


def test_a_wrong_name_in_pytest(tmp_path: Path) -> None:
    """An unknown name is a usage error that suggests the nearest name."""
    status, said = pytest_said(tmp_path, "--paibench-method", "magnitud")
    assert status == 4
    assert "unknown method 'magnitud'; did you mean magnitude?" in said


# -- reports ---------------------------------------------------------------------------------------

RESULTS = [
    Result("count", "passed", seconds=0.5),
    Result("finite", "failed", "finite scores", "2 of 9 of a|b are *not*", 0.1),
    Result("gpu", "skipped", actual="this machine has no GPU"),
]


def test_reports() -> None:
    """Reports in Markdown escape texts of the method; reports in JSON have all fields."""
    report = Report("mine", RESULTS, {"from": "an <index>"})
    assert not report.conforms
    assert report.verdict == "mine does not conform: 1 passed, 1 failed, 1 skipped"
    markdown = report.to_markdown()
    assert r"- from: an \<index\>" in markdown
    assert r"**failed**: expected finite scores; got 2 of 9 of a\|b are \*not\* |" in markdown
    plain = json.loads(report.to_json())
    assert (plain["conforms"], plain["from"]) == (False, "an <index>")
    assert [case["outcome"] for case in plain["cases"]] == ["passed", "failed", "skipped"]
    assert plain["cases"][0]["states"] == CASES["count"]
    assert Report("mine", RESULTS[:1], {}).conforms
