"""The leaderboard of a store, and the export of its records."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paibench.commands import options as o
from paibench.methods.core.registry import UserError

if TYPE_CHECKING:
    from paibench.benchmark.store.records import StoredRecord
    from paibench.benchmark.store.store import Store

LINES_SHOWN = 20  # of the records that were left out


def leaderboard(
    stores: Annotated[
        list[Path], typer.Argument(help="Stores, or folders of stores, to be combined.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The folder of the files; by default STORE/leaderboard.")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Show the verification level beside every rank.")
    ] = False,
    release: Annotated[
        str | None,
        typer.Option(help="Write a release: a new folder of this name, to which `latest` leads."),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="The address of the repository, for links on every page.")
    ] = None,
    as_json: o.Json = False,
) -> None:
    """Build a site, tables and figures from the records of stores, and show the tables."""
    from paibench.benchmark.store.layout import all_stores

    if out is None and all_stores(stores) != stores[:1]:
        raise UserError("several stores have no default folder for the files; give --out FOLDER")
    folder = out or stores[0] / "leaderboard"
    if source is not None and not re.fullmatch(r"https://[!-~]{1,200}", source):
        raise UserError(f"--source {source!r:.80}: is not an address that begins with https://")
    raise SystemExit(
        write_board(stores, folder, public=public, release=release, source=source, as_json=as_json)
    )


def write_board(
    stores: list[Path],
    out: Path,
    *,
    public: bool = False,
    release: str | None = None,
    source: str | None = None,
    as_json: bool = False,
) -> int:
    """Build and show a leaderboard; return exit status 3 if a record is unreadable, else 0."""
    from rich.console import Console

    from paibench.leaderboard.build import build, build_release
    from paibench.leaderboard.tables import terminal

    if release is None:
        built = build(stores, out, public=public, source=source)
    else:
        built = build_release(stores, out, release, public=public, source=source)
        out = out / release
    if as_json:
        files = [str(path) for path in built.paths]
        o.echo_json({"files": files, "left_out": built.left_out, **built.counts})
    else:
        console = Console()
        for table in built.tables:
            console.print(terminal(table))
        for line in built.left_out[:LINES_SHOWN]:
            typer.echo(f"left out: {line}")
        if len(built.left_out) > LINES_SHOWN:
            typer.echo(f"left out: and {len(built.left_out) - LINES_SHOWN} more, see index.html")
        typer.echo(f"written: {len(built.paths)} files in {out}; open {out / 'index.html'}")
    return 3 if built.counts["unreadable"] else 0


def export(
    store: o.Store,
    out: Annotated[Path, typer.Option(help="A new folder for the copy.")],
    masks: Annotated[
        bool, typer.Option("--masks", help="Also copy masks, so that others can check the records.")
    ] = False,
) -> None:
    """Copy records, curves and predictions, without checkpoints and stages, for publication."""
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
                # A damaged record is reported like a damaged mask or curve.
                raise Corrupt(entry.reason)
            _copy(entry, source, target, masks)
            copied += 1
        except (FileNotFoundError, Corrupt) as error:
            broken.append(f"left out: {entry.path}: {error}")
    # Sweeps list the planned runs, so that `status` of the copy finds those that are missing.
    for path in sorted((source.root / "sweeps").glob("*.json")):
        create_once(target.root / "sweeps" / path.name, path.read_bytes())
    failed = len(source.listing().failed)
    typer.echo(f"{out}: {copied} records; {failed} failed runs were left out")
    for line in broken:
        typer.echo(line, err=True)
    raise SystemExit(3 if broken else 0)


def _copy(entry: "StoredRecord", source: "Store", target: "Store", masks: bool) -> None:
    key, record = entry.record["key"], entry.record
    # The record comes last: it must not name a file that is not there yet.
    if masks and record.get("mask_file"):
        target.publish_file(key, "mask.safetensors", source.read_file(key, record["mask_file"]))
    for name in ("curve.json", "predictions.bin"):
        if file := record.get(f"{name.partition('.')[0]}_file"):
            target.publish_file(key, name, source.read_file(key, file))
    target.publish_record(key, record, "export")
