"""For authors of methods: start one, and hold it to what every method keeps to."""

import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from paibench.commands import options as o
from paibench.methods.conformance.report import CASES, OTHER, Report, Result, states
from paibench.methods.core.registry import UserError, did_you_mean

Case = Annotated[
    list[str] | None, typer.Option("--case", help="Run this case alone; may be said again.")
]


def new_method(
    name: Annotated[str, typer.Argument(help="What the method is to be called.")],
    at: Annotated[Path | None, typer.Option(help="The new folder; by default NAME.")] = None,
    shape: Annotated[
        str, typer.Option("--from", help="oneshot, synflow, imp or edge_popup.")
    ] = "oneshot",
) -> None:
    """Write a package for a new method: it installs and conforms, and is yours to fill."""
    from paibench.methods.scaffold.write import write_package

    folder = at or Path(name)
    for path in write_package(name, folder, shape):
        typer.echo(f"  {path}")
    typer.echo(f"`pip install ./{folder}`, then `paibench check-method {name}`")


def check_method(
    method: Annotated[str, typer.Argument(help="A registered name, or `file.py:function`.")],
    case: Case = None,
    report: Annotated[
        Path | None, typer.Option(help="Where the report goes; by default the present folder.")
    ] = None,
    limit: Annotated[float, typer.Option(min=1.0, help="Seconds that one case may take.")] = 120.0,
    as_json: o.Json = False,
) -> None:
    """Hold a method to what all keep to; a table, and a report for a pull request.

    Exit status 2 where a case fails.
    """
    from paibench.benchmark.provenance import code_sha256, distribution, install_source
    from paibench.methods.conformance.runner import run_isolated
    from paibench.methods.core.registry import find

    name = o.method_name(method)
    find(name)
    cases = _cases(case)
    results = list[Result]()
    for result in run_isolated(method, [each for each in cases if each in CASES], limit):
        results.append(result)
        _tell(result, as_json)
    if "sandbox" in cases:
        from paibench.benchmark.sandbox.check import check_in_sandbox

        results.append(check_in_sandbox(name, limit))
        _tell(results[-1], as_json)
    about = {
        "distribution": " ".join(distribution(name)),
        "from": install_source(name),
        "sha256 of its code": str(code_sha256(name)),
        "paibench": version("paibench"),
        "torch": version("torch"),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    made = Report(name, results, about)
    folder = report or Path()
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"conformance-{_plain(name)}.{ending}" for ending in ("md", "json")]
    paths[0].write_text(made.to_markdown())
    paths[1].write_text(made.to_json())
    if as_json:
        typer.echo(made.to_json(), nl=False)
    else:
        typer.echo(f"{made.verdict}; report: {', '.join(map(str, paths))}")
    raise SystemExit(0 if made.conforms else 2)


def _cases(asked: list[str] | None) -> list[str]:
    known = [*CASES, *OTHER]
    for name in asked or ():
        if name not in known:
            raise UserError(f"--case {name[:80]!r} is unknown; {did_you_mean(name, known)}")
    return asked or known


def _plain(name: str) -> str:
    return name.replace(":", "-")


def _tell(result: Result, as_json: bool) -> None:
    """One line of the table, as soon as it is known."""
    if as_json:
        return
    marks = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}
    typer.echo(f"  {marks[result.outcome]:<8}{result.case:<12}{states(result)}")
    if result.words:
        typer.echo(f"  {'':<20}{' '.join(result.words.split())}")
