"""Do one run, look at one record, and the main job on the embedded data."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from paibench.commands import options as o
from paibench.commands.lookup import Key, Stores, find_run
from paibench.methods.registry import UserError, is_file

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
    from paibench.benchmark.pool import Settings
    from paibench.benchmark.quickstart import quickstart_sweep
    from paibench.benchmark.store import Store
    from paibench.commands.boards import write_board
    from paibench.commands.progress import do_sweep

    said = [name.strip() for name in methods.split(",")] if methods else []
    sweep = quickstart_sweep([o.method_name(name) for name in said])
    store = Store.open(o.store_at(out, "quickstart"))
    settings = Settings(
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
    out: o.Store = None,
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
    from paibench.benchmark.attempt import Failed, attempt
    from paibench.benchmark.place import Place
    from paibench.benchmark.store import Store

    store = Store.open(place)
    there = Place(device, threads, data, trusted=trusted, search_seconds=search_limit)
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
    from paibench.benchmark.seal import Corrupt

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
