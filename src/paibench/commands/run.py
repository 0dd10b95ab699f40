"""Do one run, look at one record, and the main job on the embedded data."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paibench.commands import options as o
from paibench.methods.core.registry import UserError, is_file

if TYPE_CHECKING:
    from paibench.benchmark.store.store import Store
if TYPE_CHECKING:
    from paibench.benchmark.execution.settings import RunSettings
    from paibench.benchmark.execution.verify import Verification
    from paibench.benchmark.record import Record
    from paibench.benchmark.store.store import Store


Key = Annotated[str, typer.Argument(help="A run's key, or enough of its beginning.")]
Stores = Annotated[list[Path] | None, typer.Option("--out", help="The store.")]


def find_run(key: str, out: list[Path] | None, tried: bool = False) -> tuple["Store", str]:
    """The store and the whole key of the run that is done or failed; with `tried`, or attempted.

    Raises UserError where no run begins so, or more than one.
    """
    from paibench.benchmark.store.store import Store

    roots = list(out or [*Path("runs").glob("*/"), *Path("results").glob("*/"), Path("quickstart")])
    found: dict[str, Store] = {}
    for root in roots:
        if out or (root / "bench.json").exists():
            store = Store.read(root)
            listing = store.listing()
            keys = (
                listing.done | listing.failed | (store.attempted_keys() if tried else frozenset())
            )
            found |= {full: store for full in keys if full.startswith(key.lower())}
    if len(found) != 1 or not key:
        what = f"{len(found)} runs begin" if found else "no run begins"
        where = ", ".join(map(str, roots)) or "runs/"
        raise UserError(f"{what} with {key!r:.80} in {where}; give more of the key or --out")
    full, store = found.popitem()
    return store, full


# runs: Do one run, look at one record, and the main job on the embedded data.

Settings = list[str]


def quickstart(
    out: Annotated[Path, typer.Option(help="Where records and leaderboard go.")] = Path(
        "quickstart"
    ),
    methods: Annotated[
        str | None,
        typer.Option(
            help="Which methods, comma-separated, `file.py:function` as well; by default all."
        ),
    ] = None,
    jobs: o.Jobs = None,
    device: o.Device = "cpu",
    trusted: o.Trusted = False,
    search_limit: o.SearchLimit = None,
    as_json: o.Json = False,
) -> None:
    """The main job, small: every method on the embedded digits, with a leaderboard."""
    from paibench.benchmark.execution.settings import RunSettings
    from paibench.benchmark.store.store import Store
    from paibench.benchmark.sweeps.sweep import quickstart as quickstart_sweep
    from paibench.commands.leaderboard import write_board
    from paibench.commands.progress import do_sweep

    said = [name.strip() for name in methods.split(",")] if methods else []
    sweep = quickstart_sweep([o.method_name(name) for name in said])
    store = Store.open(o.store_at(out, "quickstart"))
    settings = RunSettings(
        jobs=o.jobs_for(jobs, 1),
        device=device,
        trusted=trusted,
        search_seconds=search_limit,
        method_files=tuple(name for name in said if is_file(name)),
    )
    status = do_sweep(sweep, store, settings, as_json=as_json)
    write_board([store.root], store.root / "leaderboard", as_json=as_json)
    raise SystemExit(status)


def run(
    method: Annotated[
        str,
        typer.Option(
            help="The mask finder, see `paibench methods`; or `path/to/file.py:function`."
        ),
    ],
    dataset: Annotated[str, typer.Option(help="See `paibench datasets`.")] = "digits",
    model: Annotated[str, typer.Option(help="See `paibench models`.")] = "lenet-300-100",
    recipe: Annotated[str, typer.Option(help="See `paibench recipes`.")] = "lite",
    density: Annotated[float | None, typer.Option(help="Kept over prunable weights.")] = None,
    sparsity: Annotated[float | None, typer.Option(help="1 - density.")] = None,
    compression: Annotated[float | None, typer.Option(help="1 / density.")] = None,
    seed: Annotated[int, typer.Option(help="Decides weights, data order and search.")] = 0,
    init: Annotated[str, typer.Option(help="How weights are drawn.")] = "kaiming_normal",
    control: Annotated[str, typer.Option(help="none, shuffle, reinit or invert.")] = "none",
    method_option: Annotated[Settings | None, typer.Option(help="KEY=VALUE")] = None,
    model_option: Annotated[Settings | None, typer.Option(help="KEY=VALUE")] = None,
    data_option: Annotated[Settings | None, typer.Option(help="KEY=VALUE")] = None,
    recipe_option: Annotated[Settings | None, typer.Option(help="KEY=VALUE")] = None,
    out: o.StoreFolder = None,
    data: o.Data = None,
    device: o.Device = "cpu",
    threads: o.Threads = 1,
    trusted: o.Trusted = False,
    search_limit: o.SearchLimit = None,
    as_json: o.Json = False,
) -> None:
    """Find, train and measure one ticket. Say it again and the record is found."""
    from paibench.benchmark.spec import Spec

    place = o.store_at(out, "single", data)
    asked = o.one_density(density, sparsity, compression)
    if asked is None and method != "dense":
        raise UserError("say how many weights to keep: --density, --sparsity or --compression")
    spec = Spec.of(
        dataset=o.named(dataset, data_option or [], "--data-option"),
        model=o.named(model, model_option or [], "--model-option"),
        recipe=o.named(recipe, recipe_option or [], "--recipe-option"),
        method=o.named(o.method_name(method), method_option or [], "--method-option"),
        density=1.0 if asked is None else asked,
        seed=seed,
        init=init,
        control=control,
    )
    from paibench.benchmark.execution.attempt import Failed, attempt
    from paibench.benchmark.execution.settings import RunSettings
    from paibench.benchmark.store.store import Store

    store = Store.open(place)
    there = RunSettings(device, threads, data, trusted=trusted, search_seconds=search_limit)
    try:
        result = attempt(spec, store, there)
    except Failed as failed:
        if failed.cause == "input":
            raise UserError(str(failed)) from failed
        raise SystemExit(f"paibench: the run failed ({failed.cause}): {failed}") from failed
    if result == "busy":
        raise UserError(f"run {spec.key} is being done by another process; wait for it")
    _print(store.read_record(spec.key), as_json)


def show(
    key: Key,
    out: Stores = None,
    as_json: o.Json = False,
) -> None:
    """Show the record of one run, found by the beginning of its key."""
    from paibench.benchmark.store.checksummed_json import Corrupt

    store, full = find_run(key, out)
    done = store.is_done(full)
    path = store.record_path(full)
    try:
        record = store.read_record(full) if done else store.last_failure(full)
    except Corrupt as error:
        raise Corrupt(f"{path}: {error}; its sweep, said again, does the run again") from error
    if record is None:
        raise Corrupt(f"{path.with_suffix('.failed')}: cannot be read; say its sweep again")
    _print(record, as_json)


def _print(record: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(record))
        return
    from paibench.benchmark.spec import Spec

    typer.echo(f"{record['key']}  {record['status']}  {Spec.model_validate(record['spec'])}")
    if record.get("reason"):
        typer.echo(f"  {record['reason']}")
    if record.get("kept") is not None:
        density = record["density"]
        typer.echo(
            f"  keeps {record['kept']} of {record['prunable']} weights: density {density:.6g}, "
            f"sparsity {1 - density:.6g}, compression {1 / density:.6g}"
        )
    if record.get("collapsed"):
        typer.echo(f"  collapsed: {', '.join(record['collapsed'])}")
    if record.get("accuracy") is not None:
        typer.echo(
            f"  accuracy {record['accuracy']:.4f} after the last of "
            f"{record['epochs_trained']:g} epochs (best {record['accuracy_best']:.4f} in epoch "
            f"{record['best_epoch']}), {record['accuracy_untrained']:.4f} untrained"
        )
        typer.echo(
            f"  the search cost {record['search_epochs']:.3g} epochs and "
            f"{record['search_seconds']:.2f} s, training {record['train_seconds']:.2f} s"
        )


# verification: Holding a record to its word: its run done again.

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
    from paibench.benchmark.execution.attempt import Failed
    from paibench.benchmark.execution.verify import verify as again

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


def place_of(
    then: "Record", device: str | None, threads: int | None, data: Path | None
) -> "RunSettings":
    """Where a recorded run is done again: as asked, or else as it was."""
    from paibench.benchmark.execution.settings import RunSettings

    kind = "cpu" if then.environment.cuda is None else "cuda"
    return RunSettings(
        device=device or kind, threads=threads or then.environment.threads, data=data
    )


def find_record(run: str, out: list[Path] | None) -> "tuple[Record, Store | None]":
    """The record of a key in a store, or in a file. Raises UserError, Corrupt."""
    from paibench.benchmark.record import Record
    from paibench.benchmark.store.atomic import read
    from paibench.benchmark.store.checksummed_json import Corrupt, decode

    path = Path(run)
    if path.suffix == ".json" or "/" in run:
        try:
            plain, store = decode(read(path)), None
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
