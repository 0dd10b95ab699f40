"""Holding a record to its word: its run done again."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paibench.commands import options as o
from paibench.commands.lookup import Stores, find_run
from paibench.methods.registry import UserError

if TYPE_CHECKING:
    from paibench.benchmark.place import Place
    from paibench.benchmark.record import Record
    from paibench.benchmark.store import Store
    from paibench.benchmark.verify import Verification


Run = Annotated[str, typer.Argument(help="A run's key, or the file of a record.")]
Device = Annotated[str | None, typer.Option(help="By default the record's kind: cpu or cuda.")]
Threads = Annotated[int | None, typer.Option(min=1, max=1024, help="By default the record's.")]


def verify(
    run: Run,
    out: Stores = None,
    data: o.Data = None,
    device: Device = None,
    threads: Threads = None,
    method: Annotated[
        str | None, typer.Option(help="`file.py:function` of a method that is not installed.")
    ] = None,
    trusted: o.Trusted = False,
    search_limit: o.SearchLimit = None,
    as_json: o.Json = False,
) -> None:
    """Do a run again from its record, and say whether the same comes of it.

    Exit status 0 where it is identical or within the seed interval, 1 where it is different.
    """
    from paibench.benchmark.attempt import Failed
    from paibench.benchmark.verify import verify as again

    if method:
        o.method_name(method)
    then, store = find_record(run, out)
    place = replace(
        place_of(then, device, threads, data), trusted=trusted, search_seconds=search_limit
    )
    try:
        found = again(then, place, store)
    except Failed as failed:
        raise SystemExit(f"paibench: the run failed now ({failed.cause}): {failed}") from failed
    tell(found, as_json)
    raise SystemExit(1 if found.verdict == "different" else 0)


def place_of(then: "Record", device: str | None, threads: int | None, data: Path | None) -> "Place":
    """Where a recorded run is done again: as asked, or else as it was."""
    from paibench.benchmark.place import Place

    kind = "cpu" if then.environment.cuda is None else "cuda"
    return Place(device=device or kind, threads=threads or then.environment.threads, data=data)


def find_record(run: str, out: list[Path] | None) -> "tuple[Record, Store | None]":
    """The record of a key in a store, or in a file. Raises UserError, Corrupt."""
    from paibench.benchmark.commit import read
    from paibench.benchmark.record import Record
    from paibench.benchmark.seal import Corrupt, unseal

    path = Path(run)
    if path.suffix == ".json" or "/" in run:
        try:
            plain, store = unseal(read(path)), None
        except OSError as error:
            raise UserError(f"{run[:200]}: cannot be read: {error.strerror}") from error
        except Corrupt as error:
            raise Corrupt(f"{run[:200]}: {error}; it is no record that can be trusted") from error
    else:
        found, key = find_run(run, out)
        if not found.is_done(key):
            raise UserError(f"run {key} has no record, it failed; `paibench show {key}` says why")
        plain, store = found.read_record(key), found
    try:
        return Record.read(plain), store
    except ValueError as error:
        raise Corrupt(f"{run[:200]}: {error}; it is no record that can be trusted") from error


def tell(found: "Verification", as_json: bool) -> None:
    """Say what came of a run then and now, in words or as JSON."""
    facts = facts_of(found)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.echo(f"{found.then.key}  {found.verdict}")
    mask = "the same mask"
    if not facts["mask_is_equal"]:
        mask = "another mask" + (f", {found.moved:.2%} of it moved" if found.moved else "")
    typer.echo(f"  {mask}")
    if found.difference is not None:
        typer.echo(
            f"  accuracy {found.now.accuracy:.4f} now, {found.then.accuracy:.4f} then: "
            f"{100 * found.difference:+.2f} points; the interval is {100 * found.interval:.2f} "
            f"points, by {found.seeds} seeds"
        )
    for line in found.elsewhere:
        typer.echo(f"  {line}")


def facts_of(found: "Verification") -> dict[str, Any]:
    """The same as JSON values."""
    return {
        "key": found.then.key,
        "verdict": found.verdict,
        "mask_is_equal": found.then.mask_sha256 == found.now.mask_sha256,
        "mask_moved": found.moved,
        "accuracy_then": found.then.accuracy,
        "accuracy_now": found.now.accuracy,
        "difference": found.difference,
        "interval": found.interval,
        "seeds": found.seeds,
        "differing": found.differing,
        "elsewhere": found.elsewhere,
    }
