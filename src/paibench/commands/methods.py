"""Commands for authors of methods: start a package, run the conformance checks."""

import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from paibench.commands import options as o
from paibench.methods.conformance.report import CASES, OTHER, Report, Result, states
from paibench.methods.core.registry import UserError, did_you_mean

_OUTCOMES = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}


def new_method(
    name: Annotated[str, typer.Argument(help="The name of the method.")],
    at: Annotated[Path | None, typer.Option(help="The new folder; by default NAME.")] = None,
    template: Annotated[
        str, typer.Option("--from", help="oneshot, synflow, imp or edge_popup.")
    ] = "oneshot",
) -> None:
    """Write a package for a new method, which installs and passes the conformance checks."""
    from paibench.methods.scaffold.write import write_package

    folder = at or Path(name)
    for path in write_package(name, folder, template):
        typer.echo(f"  {path}")
    typer.echo(f"`pip install ./{folder}`, then `paibench check-method {name}`")


def check_method(
    method: Annotated[str, typer.Argument(help="A registered name, or `file.py:function`.")],
    case: Annotated[
        list[str] | None, typer.Option("--case", help="Run only this case; repeatable.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="The folder of the report; by default the present folder.")
    ] = None,
    limit: Annotated[float, typer.Option(min=1.0, help="Seconds for each case.")] = 120.0,
    as_json: o.Json = False,
) -> None:
    """Run the conformance checks of a method; print a table and write a report.

    Exit status 2 if a case fails.
    """
    from paibench.benchmark.provenance import code_sha256, distribution, install_source
    from paibench.methods.conformance.runner import run_isolated
    from paibench.methods.core.registry import find

    name = o.method_name(method)
    # An unknown name is reported before any process is started for a case.
    find(name)
    cases = _cases(case)
    results = list[Result]()
    # `method` as it was typed, because each process has to register a file again.
    for result in run_isolated(method, [each for each in cases if each in CASES], limit):
        results.append(result)
        _print(result, as_json)
    # The sandbox belongs to the benchmark, which the suite of the other cases must not import.
    if "sandbox" in cases:
        from paibench.benchmark.sandbox.check import check_in_sandbox

        results.append(check_in_sandbox(name, limit))
        _print(results[-1], as_json)
    about = {
        "distribution": " ".join(distribution(name)),
        "from": install_source(name),
        "sha256 of its code": str(code_sha256(name)),
        "paibench": version("paibench"),
        "torch": version("torch"),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    conformance = Report(name, results, about)
    folder = report or Path()
    folder.mkdir(parents=True, exist_ok=True)
    # Some file systems refuse a colon in a name.
    stem = f"conformance-{name.replace(':', '-')}"
    paths = [folder / f"{stem}.{ending}" for ending in ("md", "json")]
    paths[0].write_text(conformance.to_markdown())
    paths[1].write_text(conformance.to_json())
    if as_json:
        o.echo_json(json.loads(conformance.to_json()))
    else:
        typer.echo(f"{conformance.verdict}; report: {', '.join(map(str, paths))}")
    raise SystemExit(0 if conformance.conforms else 2)


def _cases(requested: list[str] | None) -> list[str]:
    available = [*CASES, *OTHER]
    for name in requested or ():
        if name not in available:
            raise UserError(f"--case {name[:80]!r} is unknown; {did_you_mean(name, available)}")
    return requested or available


def _print(result: Result, as_json: bool) -> None:
    """Print one line of the table as soon as it is known."""
    if as_json:
        return
    typer.echo(f"  {_OUTCOMES[result.outcome]:<8}{result.case:<12}{states(result)}")
    if result.details:
        typer.echo(f"  {'':<20}{' '.join(result.details.split())}")
