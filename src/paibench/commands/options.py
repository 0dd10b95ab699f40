"""Options and arguments that several commands share, and checks of their values."""

import json
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from io import UnsupportedOperation
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from paibench.methods.core.registry import Kind, UserError, is_file, use_file
from paibench.methods.core.signature import Value


def _device(device: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", device):
        raise UserError(f"--device {device!r:.80} is unknown; use cpu, cuda or cuda:N")
    return device


def _finite(option: str) -> Callable[[float | None], float | None]:
    def check(seconds: float | None) -> float | None:
        # The minimum of a typer option does not refuse NaN or infinity.
        if seconds is not None and not math.isfinite(seconds):
            raise UserError(f"{option} {seconds!r} is not a finite number; omit it for no limit")
        return seconds

    return check


# -- JSON on standard output ---------------------------------------------------------------------

_json_output: TextIO | None = None
_saved: tuple[TextIO, int] | None = None


def reserve_output(as_json: bool) -> bool:
    """If asked, keep standard output for `echo_json`; all other output goes to standard error.

    Plugins and libraries print as they like, in Python and below it.
    """
    global _json_output, _saved
    if as_json and _saved is None:
        sys.stdout.flush()
        _saved = sys.stdout, os.dup(1)
        try:
            sys.stdout.fileno()
            _json_output = os.fdopen(os.dup(1), "w", encoding="utf-8")
        except UnsupportedOperation:  # another object takes the place of standard output
            _json_output = sys.stdout
        os.dup2(2, 1)
        sys.stdout = sys.stderr
    return as_json


def release_output() -> None:
    """Undo `reserve_output`, for a process that goes on after a command."""
    global _json_output, _saved
    if _saved is not None:
        sys.stdout, descriptor = _saved
        if _json_output not in (None, sys.stdout):
            _json_output.close()
        os.dup2(descriptor, 1)
        os.close(descriptor)
        _json_output = _saved = None


def echo_json(value: Any) -> None:
    """Print a value as one line of JSON on standard output."""
    print(json.dumps(value), file=_json_output or sys.stdout, flush=True)


# -- options ---------------------------------------------------------------------------------------

SweepFile = Annotated[Path, typer.Argument(help="A sweep in TOML, see docs/sweeps.md.")]
Key = Annotated[str, typer.Argument(help="The key of a run, or its first characters.")]
Store = Annotated[Path, typer.Argument(help="A store.")]
StoreFolder = Annotated[
    Path | None, typer.Option("--out", help="The store: a folder for the records.")
]
Stores = Annotated[
    list[Path] | None, typer.Option("--out", help="The store to search; repeatable.")
]
Data = Annotated[
    Path | None, typer.Option(envvar="PAIBENCH_DATA", help="The folder of the data sets.")
]
Device = Annotated[str, typer.Option(callback=_device, help="cpu, cuda or cuda:N.")]
Threads = Annotated[
    int,
    typer.Option(min=1, max=1024, help="Threads per run; another number may change the last bits."),
]
Jobs = Annotated[
    int | None,
    typer.Option(min=1, max=1024, help="Concurrent runs; by default cores / threads."),
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        callback=_finite("--time-limit"),
        help="Seconds after which a run is killed and recorded as failed.",
    ),
]
Trusted = Annotated[
    bool, typer.Option("--trusted", help="Run third-party methods without a sandbox.")
]
SearchLimit = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        callback=_finite("--search-limit"),
        help="Seconds for the search of a third-party method; by default one day.",
    ),
]
Retry = Annotated[bool, typer.Option("--retry", help="Also retry permanently failed runs.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")
]
Json = Annotated[bool, typer.Option("--json", callback=reserve_output, help="Print JSON.")]

# For commands that repeat a recorded run, the defaults are those of the record.
RecordedDevice = Annotated[
    str | None, typer.Option("--device", help="By default the device of the record: cpu or cuda.")
]
RecordedThreads = Annotated[
    int | None,
    typer.Option("--threads", min=1, max=1024, help="By default the threads of the record."),
]
RecordedRun = Annotated[str, typer.Argument(help="The key of a run, or the file of a record.")]


def jobs_for(jobs: int | None, threads: int) -> int:
    """Return the number of concurrent runs: `jobs`, or by default one core for each thread."""
    # The cores that this process may use can be fewer than the machine has, as in a job of SLURM.
    return jobs or max(1, len(os.sched_getaffinity(0)) // threads)


def method_name(method: str) -> str:
    """Return a registered name as it is, or register `file.py:function`. Raises UserError."""
    return use_file(method) if is_file(method) else method


def store_at(out: Path | None, default: str, data: Path | None = None) -> Path:
    """Return the path of the store: `out`, or by default `runs/<default>`.

    Raises UserError for a path that is unfit for a store, or inside the data folder.
    """
    path = out or Path("runs") / default
    option = f"--out {str(path)!r:.80}"
    if not str(path).strip("."):
        raise UserError(f"{option}: name a separate folder for the store")
    if not str(path).isprintable():
        raise UserError(f"{option}: the name has unprintable characters; choose another")
    # Linux allows 255 bytes for a name and 4,096 for a path, and paths in the store are longer.
    if max(map(len, map(os.fsencode, path.parts))) > 255 or len(os.fsencode(path)) > 3000:
        raise UserError(f"{option}: the name is too long; no part may have more than 255 bytes")
    if any(part.startswith("-") for part in path.parts):
        raise UserError(f"{option}: a part begins with '-' like an option; choose another name")
    if data is not None and path.resolve().is_relative_to(data.resolve()):
        raise UserError(f"{option}: is inside the data folder {str(data)!r:.80}; choose another")
    return path


def one_density(
    density: float | None, sparsity: float | None, compression: float | None
) -> float | None:
    """Return the density, which may be given in one of three ways.

    Raises UserError if it is given twice or out of range.
    """
    options = {"--density": density, "--sparsity": sparsity, "--compression": compression}
    values = {name: value for name, value in options.items() if value is not None}
    if len(values) > 1:
        raise UserError(f"{' and '.join(values)} have the same meaning; give exactly one")
    for name, value in values.items():
        low, high, interval = {
            "--density": (value > 0, value <= 1, "in (0, 1]"),
            "--sparsity": (value >= 0, value < 1, "in [0, 1)"),
            "--compression": (value >= 1, value < math.inf, "at least 1"),
        }[name]
        if not (low and high):
            raise UserError(f"{name} {value!r} is out of range: it must be {interval}")
    # Computed on the typed decimals: 1 - 0.9 in floating point is not 0.1, but another run.
    if sparsity is not None:
        return float(1 - Fraction(str(sparsity)))
    return float(1 / Fraction(str(compression))) if compression is not None else density


def named(kind: Kind, name: str, settings: Sequence[str]) -> dict[str, Value]:
    """Return a name with its `KEY=VALUE` settings, in the form that a spec takes.

    A value is read as the declared type of its option. Raises UserError.
    """
    # Imported on use, because it takes longer than all of --help.
    from paibench.benchmark.spec import read_option

    option = f"--{'data' if kind == 'datasets' else kind.removesuffix('s')}-option"
    values: dict[str, Value] = {"name": name}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key or key == "name":
            raise UserError(f"{option} {setting!r:.80} is not of the form KEY=VALUE")
        if key in values:
            raise UserError(f"{option} {key[:80]!r} is given twice; give it once")
        values[key] = read_option(kind, name, key, text)
    return values
