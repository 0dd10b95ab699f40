"""What the records say: tables and plots of a store, and records fit to be published."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paibench.commands.options import Json
from paibench.methods.core.registry import UserError

if TYPE_CHECKING:
    from paibench.benchmark.store.records import StoredRecord
    from paibench.benchmark.store.store import Store

LINES = 20  # of what was left out that a terminal shows

Root = Annotated[Path, typer.Argument(help="A store.")]


def leaderboard(
    stores: Annotated[list[Path], typer.Argument(help="One store, or several to be read as one.")],
    out: Annotated[
        Path | None, typer.Option(help="Where the files go; by default STORE/leaderboard.")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Places 1 to 3 are for what maintainers verified.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a site, tables and figures of what stores hold, and show the tables."""
    if out is None and len(stores) > 1:
        raise UserError("several stores have no place of their own; say --out FOLDER")
    folder = out or stores[0] / "leaderboard"
    raise SystemExit(write_board(stores, folder, public=public, as_json=as_json))


def write_board(
    stores: list[Path], out: Path, *, public: bool = False, as_json: bool = False
) -> int:
    """Build a leaderboard, show it, and say what was left out; 3 when records were unreadable."""
    from rich.console import Console

    from paibench.leaderboard.build import build
    from paibench.leaderboard.tables import terminal

    built = build(stores, out, public=public)
    if as_json:
        files = [str(path) for path in built.paths]
        typer.echo(json.dumps({"files": files, "left_out": built.left_out, **built.counts}))
    else:
        console = Console()
        for shown in built.tables:
            console.print(terminal(shown))
        for line in built.left_out[:LINES]:
            typer.echo(f"left out: {line}")
        if len(built.left_out) > LINES:
            typer.echo(f"left out: and {len(built.left_out) - LINES} more, see index.html")
        typer.echo(f"written: {len(built.paths)} files in {out}; open {out / 'index.html'}")
    return 3 if built.counts["unreadable"] else 0


def export(
    store: Root,
    out: Annotated[Path, typer.Option(help="A new folder for the copy.")],
    masks: Annotated[
        bool, typer.Option("--masks", help="Copy masks too, so that others can check the records.")
    ] = False,
) -> None:
    """Copy records and curves, without checkpoints and stages: small enough to publish."""
    from paibench.benchmark.store.atomic import create_once
    from paibench.benchmark.store.checksummed_json import Corrupt
    from paibench.benchmark.store.records import Problem
    from paibench.benchmark.store.store import Store

    source = Store.read(store)
    if out.resolve() == source.root.resolve():
        raise UserError(f"{out}: is the store itself; name another folder")
    target = Store.open(out)
    copied, broken = 0, []
    for entry in source.records():
        try:
            if isinstance(entry, Problem):
                raise Corrupt(entry.reason)
            _copy(entry, source, target, masks)
            copied += 1
        except (FileNotFoundError, Corrupt) as error:
            broken.append(f"left out: {entry.path}: {error}")
    for path in sorted((source.root / "sweeps").glob("*.json")):
        create_once(target.root / "sweeps" / path.name, path.read_bytes())
    left = len(source.listing().failed)
    typer.echo(f"{out}: {copied} records; {left} failed runs were left out")
    for line in broken:
        typer.echo(line, err=True)
    raise SystemExit(3 if broken else 0)


def _copy(entry: "StoredRecord", source: "Store", target: "Store", masks: bool) -> None:
    key, record = entry.record["key"], entry.record
    if masks and record.get("mask_file"):
        target.publish_file(key, "mask.safetensors", source.read_file(key, record["mask_file"]))
    if record.get("curve_file"):
        target.publish_file(key, "curve.json", source.read_file(key, record["curve_file"]))
    target.publish_record(key, record, "export")
