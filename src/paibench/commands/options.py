"""What several commands take, said once."""

import math
import os
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from paibench.methods.core.registry import UserError, is_file, use_file
from paibench.methods.core.signature import Value

Data = Annotated[
    Path | None,
    typer.Option(envvar="PAIBENCH_DATA", help="The folder that data sets lie in."),
]


def _device(device: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", device):
        raise UserError(f"--device {device!r:.80} is unknown; use cpu, cuda or cuda:N")
    return device


def _time_limit(seconds: float | None) -> float | None:
    if seconds is not None and not math.isfinite(seconds):
        raise UserError(f"--time-limit {seconds!r} is no number of seconds; leave it out for none")
    return seconds


def _search_limit(seconds: float | None) -> float | None:
    if seconds is not None and not math.isfinite(seconds):
        raise UserError(f"--search-limit {seconds!r} is no number of seconds; leave it out")
    return seconds


Device = Annotated[str, typer.Option(callback=_device, help="cpu, cuda or cuda:N.")]
Threads = Annotated[
    int,
    typer.Option(min=1, max=1024, help="Threads per run; another number gives other last bits."),
]
Jobs = Annotated[
    int | None,
    typer.Option(min=1, max=1024, help="Runs at a time; by default the cores over the threads."),
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        callback=_time_limit,
        help="Seconds after which a run is killed and noted as failed.",
    ),
]
Trusted = Annotated[
    bool,
    typer.Option("--trusted", help="Run methods of third parties without a process of their own."),
]
SearchLimit = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        callback=_search_limit,
        help="Seconds that a search of a third party's method may take; by default a day.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
StoreFolder = Annotated[
    Path | None, typer.Option("--out", help="The store: a folder for the records.")
]


def jobs_for(jobs: int | None, threads: int) -> int:
    """How many runs at a time: as asked, or so many that every thread has a core."""
    return jobs or max(1, len(os.sched_getaffinity(0)) // threads)


def method_name(said: str) -> str:
    """A registered name itself, or the name that a function in a file gets. Raises UserError."""
    return use_file(said) if is_file(said) else said


def store_at(out: Path | None, default: str, data: Path | None = None) -> Path:
    """Where the store is: as asked, or below `runs/` where one stands; never inside the data.

    Raises UserError for a name that no folder should have.
    """
    path = out or Path("runs") / default
    name = f"--out {str(path)!r:.80}"
    if not str(path).strip("."):
        raise UserError(f"{name}: name a folder of its own for the store")
    if not str(path).isprintable():
        raise UserError(f"{name}: the name has characters that cannot be printed; take others")
    if max(map(len, map(os.fsencode, path.parts))) > 255 or len(os.fsencode(path)) > 3000:
        raise UserError(f"{name}: the name is too long; no part may have more than 255 bytes")
    if any(part.startswith("-") for part in path.parts):
        raise UserError(f"{name}: a part begins with '-', as options do; take another name")
    if data is not None and path.resolve().is_relative_to(data.resolve()):
        raise UserError(f"{name}: lies in the data folder {str(data)!r:.80}; take another place")
    return path


def one_density(
    density: float | None, sparsity: float | None, compression: float | None
) -> float | None:
    """The density, said in one of three ways or not at all.

    Raises UserError when it is said twice or out of range.
    """
    said = {"--density": density, "--sparsity": sparsity, "--compression": compression}
    given = {name: value for name, value in said.items() if value is not None}
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} say the same thing; give exactly one")
    for name, value in given.items():
        low, high, words = {
            "--density": (value > 0, value <= 1, "in (0, 1]"),
            "--sparsity": (value >= 0, value < 1, "in [0, 1)"),
            "--compression": (value >= 1, value < math.inf, "at least 1"),
        }[name]
        if not (low and high):
            raise UserError(f"{name} {value!r} is out of range: it must be {words}")
    # In the decimals that were typed: 1 - 0.9 in floating point is not 0.1, and another run.
    if sparsity is not None:
        return float(1 - Fraction(str(sparsity)))
    return float(1 / Fraction(str(compression))) if compression is not None else density


def named(name: str, settings: Sequence[str], flag: str) -> dict[str, Value]:
    """A name with its `KEY=VALUE` settings, as a spec takes it.

    Values are read as numbers, `true`, `false` and `none` where they look so.
    """
    found: dict[str, Value] = {"name": name}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key or key == "name":
            raise UserError(f"{flag} {setting!r:.80} is not of the form KEY=VALUE")
        if key in found:
            raise UserError(f"{flag} {key[:80]!r} is given twice; give it once")
        found[key] = _plain(value)
    return found


def _plain(text: str) -> Value:
    words: dict[str, Value] = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
