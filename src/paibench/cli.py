"""The command line `paibench COMMAND`.

A command imports heavy libraries when it runs, so that `--help` and listings stay fast.
"""

import sys
from collections.abc import Callable
from io import TextIOWrapper
from typing import Annotated

import typer

from paibench.benchmark.store.checksummed_json import Corrupt
from paibench.commands import (
    cluster,
    leaderboard,
    listing,
    maintenance,
    methods,
    results,
    run,
    sweep,
)
from paibench.methods.core.registry import UserError
from paibench.methods.core.text import printable

app = typer.Typer(
    name="paibench",
    help="""The benchmark suite for pruning at initialization.

    Finds sparse subnetworks of untrained networks, trains them, and ranks the methods that found
    them. Start with `paibench quickstart`: all methods on a small embedded data set.
    """,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        from paibench.benchmark.provenance import commit

        head, dirty = commit()
        changes = ", with changes" if dirty else ""
        typer.echo(
            f"paibench {version('paibench')}" + (f" (commit {head}{changes})" if head else "")
        )
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and commit."
        ),
    ] = False,
) -> None:
    pass


PANELS: dict[str, list[Callable[..., None]]] = {
    "Run": [run.quickstart, run.run, sweep.sweep],
    "Cluster": [cluster.submit, cluster.cancel],
    "Inspect": [
        sweep.plan,
        sweep.status,
        run.show,
        run.verify,
        maintenance.logs,
        leaderboard.leaderboard,
        leaderboard.export,
    ],
    "List": [listing.methods, listing.models, listing.datasets, listing.recipes],
    "Extend": [methods.new_method, methods.check_method],
    "Set up": [listing.prepare, maintenance.doctor, maintenance.gc],
}
for panel, commands in PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(results.results, rich_help_panel="Inspect")
app.add_typer(cluster.profile_app, rich_help_panel="Set up")

# Typer does not export click's UsageError, only this subclass of it.
UsageError: type[Exception] = typer.BadParameter.__mro__[2]


def main() -> None:
    """Run a command; a user's mistake is one line on standard error and exit status 2.

    1 means that runs failed, 3 that records could not be trusted, 130 that Ctrl-C was pressed.
    """
    if isinstance(sys.stdout, TextIOWrapper):  # a terminal may be unable to show a name
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = app(standalone_mode=False)
    except UsageError as error:
        message = getattr(error, "format_message", error.__str__)()
        if message:  # it is empty if the help was printed for want of arguments
            _print_error(f"{message} (see `paibench --help`)")
        raise SystemExit(2) from None
    except Corrupt as error:
        _print_error(str(error))
        raise SystemExit(3) from None
    except (UserError, OSError) as error:
        _print_error(str(error))
        raise SystemExit(2) from None
    except (KeyboardInterrupt, typer.Abort):
        raise SystemExit(130) from None
    raise SystemExit(status if isinstance(status, int) else 0)


def _print_error(message: str) -> None:
    line = printable(" ".join(message.split()))
    if len(line) > 1000:  # the mistake is named at the beginning, the advice at the end
        line = f"{line[:500]} ... {line[-400:]}"
    print(f"paibench: {line}", file=sys.stderr)
