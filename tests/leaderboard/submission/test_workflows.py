"""The workflows run no code of a pull request and cannot write to the repository."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from paibench.cli import app

FOLDER = Path(__file__).resolve().parents[3] / ".github" / "workflows"
NAMES = ["results.yml", "site.yml"]
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def workflow(name: str) -> dict[Any, Any]:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def steps(name: str) -> Iterator[dict[str, Any]]:
    for job in workflow(name)["jobs"].values():
        yield from job["steps"]


def events(name: str) -> dict[str, Any]:
    return workflow(name)[True]  # type: ignore[no-any-return]  # `on` is a boolean of YAML 1.1


def test_the_workflows_are_these() -> None:
    """There is no workflow that these tests do not cover."""
    assert sorted(path.name for path in FOLDER.iterdir()) == NAMES


def test_a_pull_request_is_not_trusted() -> None:
    """The event gives a fork no secrets, and only changes of results trigger it."""
    assert events("results.yml") == {"pull_request": {"paths": ["results/**"]}}
    assert set(events("site.yml")) == {"push", "workflow_dispatch"}
    assert events("site.yml")["push"] == {"branches": ["main"]}
    for name in NAMES:
        text = (FOLDER / name).read_text(encoding="utf-8")
        assert "pull_request_target" not in text
        assert "workflow_run" not in text
        assert "secrets." not in text


def test_nothing_can_be_written() -> None:
    """Validation can only read; one job of the site may write pages and nothing else."""
    found = workflow("results.yml")
    assert found["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in found["jobs"].values())
    site = workflow("site.yml")
    assert site["permissions"] == {"contents": "read"}
    granted = {name: job.get("permissions") for name, job in site["jobs"].items()}
    assert granted == {"build": None, "publish": {"pages": "write", "id-token": "write"}}


def test_only_results_of_a_pull_request_are_fetched() -> None:
    """The program comes from the base branch; the head gives only files below results/."""
    base, head = (each["with"] for each in steps("results.yml") if "checkout" in str(each))
    assert base["ref"] == "${{ github.event.pull_request.base.sha }}"
    assert "repository" not in base
    assert head["ref"] == "${{ github.event.pull_request.head.sha }}"
    assert (head["sparse-checkout"], head["sparse-checkout-cone-mode"]) == ("/results/", False)
    assert (head["lfs"], head["submodules"], head["path"]) == (False, False, "head")


@pytest.mark.parametrize("name", NAMES)
def test_no_token_is_left_behind(name: str) -> None:
    """No checkout stores its credentials."""
    checkouts = [
        each for each in steps(name) if each.get("uses", "").startswith("actions/checkout")
    ]
    assert checkouts
    assert all(each["with"]["persist-credentials"] is False for each in checkouts)


def test_no_code_of_the_head_is_run() -> None:
    """Only the validation names the folder of the head, and no step runs in it."""
    runs = [each["run"] for each in steps("results.yml") if "run" in each]
    assert [run for run in runs if "head" in run] == [
        "paibench results validate ../head/results --against results --report ../report.md"
    ]
    folders = {each.get("working-directory") for each in steps("results.yml")}
    assert folders == {None, "base"}
    assert workflow("results.yml")["jobs"]["validate"]["env"] == {"PYTHONSAFEPATH": "1"}


@pytest.mark.parametrize("name", NAMES)
def test_no_text_of_a_pull_request_is_a_command(name: str) -> None:
    """No shell line has an expression, in which a title or a branch name could be code."""
    for each in steps(name):
        assert "${{" not in each.get("run", "")


@pytest.mark.parametrize("name", NAMES)
def test_actions_are_pinned(name: str) -> None:
    """Each action is GitHub's own, with a major version."""
    used = [each["uses"] for each in steps(name) if "uses" in each]
    assert used
    assert [use for use in used if not re.fullmatch(r"actions/[a-z-]+@v\d+", use)] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_exist(name: str) -> None:
    """Each paibench command exists and takes the given options."""
    lines = [shlex.split(each["run"]) for each in steps(name) if "run" in each]
    ours = [words[1:] for words in lines if words[0] == "paibench"]
    assert len(ours) == 1
    for command, *words in ours:
        context = COMMANDS[command].make_context(command, list(words))
        if group := getattr(COMMANDS[command], "commands", None):
            group[words[0]].make_context(words[0], words[1:], parent=context)


def test_every_job_ends() -> None:
    """No job may run for longer than half an hour."""
    jobs = [job for name in NAMES for job in workflow(name)["jobs"].values()]
    assert [job["timeout-minutes"] <= 30 for job in jobs] == [True] * 3
