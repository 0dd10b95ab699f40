"""What the records say: tables and plots of a store, and records fit to be published."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paibench.commands.options import Json
from paibench.methods.registry import UserError

if TYPE_CHECKING:
    from paibench.benchmark.entries import Found
    from paibench.benchmark.store import Store

Root = Annotated[Path, typer.Argument(help="A store.")]


def leaderboard(
    store: Root,
    out: Annotated[
        Path | None, typer.Option(help="Where the files go; by default STORE/leaderboard.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make the tables and plots of a store: terminal, Markdown, CSV, PNG and SVG."""
    raise SystemExit(write_board(store, out or store / "leaderboard", as_json=as_json))


def write_board(store: Path, out: Path, *, as_json: bool = False) -> int:
    """Build a leaderboard, show it, and say what was left out; 3 when records were unreadable."""
    from rich.console import Console

    from paibench.leaderboard.build import build
    from paibench.leaderboard.frame import load
    from paibench.leaderboard.summary import summarize, tracks
    from paibench.leaderboard.table import table, terminal

    built = build(store, out)
    if as_json:
        files = [str(path) for path in built.paths]
        typer.echo(json.dumps({"files": files, "left_out": built.left_out, **built.counts}))
    else:
        console = Console()
        for track, cells in tracks(summarize(load(store).runs)):
            console.print(terminal(table(track, cells)))
        for line in built.left_out:
            typer.echo(f"left out: {line}")
        typer.echo(f"written: {', '.join(path.name for path in built.paths)} in {out}")
    return 3 if built.counts["unreadable"] else 0


def export(
    store: Root,
    out: Annotated[Path, typer.Option(help="A new folder for the copy.")],
    masks: Annotated[
        bool, typer.Option("--masks", help="Copy masks too, so that others can check the records.")
    ] = False,
) -> None:
    """Copy records and curves, without checkpoints and stages: small enough to publish."""
    from paibench.benchmark.commit import publish
    from paibench.benchmark.entries import Problem
    from paibench.benchmark.seal import Corrupt
    from paibench.benchmark.store import Store

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
        publish(target.root / "sweeps" / path.name, path.read_bytes())
    left = len(source.listing().failed)
    typer.echo(f"{out}: {copied} records; {left} failed runs were left out")
    for line in broken:
        typer.echo(line, err=True)
    raise SystemExit(3 if broken else 0)


def _copy(entry: "Found", source: "Store", target: "Store", masks: bool) -> None:
    key, record = entry.record["key"], entry.record
    if masks and record.get("mask_file"):
        target.publish_file(key, "mask.safetensors", source.read_file(key, record["mask_file"]))
    if record.get("curve_file"):
        target.publish_file(key, "curve.json", source.read_file(key, record["curve_file"]))
    target.publish_record(key, record, "export")
