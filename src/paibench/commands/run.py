"""One run: execute it, show its record, verify it; and the quickstart."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paibench.commands import options as o
from paibench.methods.core.registry import UserError, is_file

if TYPE_CHECKING:
    from paibench.benchmark.execution.settings import RunSettings
    from paibench.benchmark.execution.verify import Verification
    from paibench.benchmark.record import Record
    from paibench.benchmark.store.store import Store

KeyValues = Annotated[list[str] | None, typer.Option(help="KEY=VALUE; repeatable.")]


def quickstart(
    out: Annotated[Path, typer.Option(help="The folder for records and leaderboard.")] = Path(
        "quickstart"
    ),
    methods: Annotated[
        str | None,
        typer.Option(
            help="Methods, separated by commas, or `file.py:function`; by default ten of the suite."
        ),
    ] = None,
    jobs: o.Jobs = None,
    device: o.Device = "cpu",
    trusted: o.Trusted = False,
    search_limit: o.SearchLimit = None,
    as_json: o.Json = False,
) -> None:
    """Run ten methods on the embedded digits, and build a leaderboard."""
    from paibench.benchmark.execution.settings import RunSettings
    from paibench.benchmark.sweeps.sweep import quickstart as quickstart_sweep
    from paibench.commands.leaderboard import write_board
    from paibench.commands.progress import do_sweep

    names = [name.strip() for name in methods.split(",")] if methods else []
    sweep = quickstart_sweep([o.method_name(name) for name in names])
    root = o.store_at(out, "quickstart")
    settings = RunSettings(
        jobs=o.jobs_for(jobs, 1),
        device=device,
        trusted=trusted,
        search_seconds=search_limit,
        # Workers are new processes, which have to register these files again.
        method_files=tuple(name for name in names if is_file(name)),
    )
    status = do_sweep(sweep, root, settings, as_json=as_json)
    # After failures too: the leaderboard shows the runs that are done.
    write_board([root], root / "leaderboard", as_json=as_json)
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
    density: Annotated[float | None, typer.Option(help="Kept / prunable weights.")] = None,
    sparsity: Annotated[float | None, typer.Option(help="1 - density.")] = None,
    compression: Annotated[float | None, typer.Option(help="1 / density.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, data order and search.")] = 0,
    init: Annotated[
        str, typer.Option(help="Distribution of the initial weights.")
    ] = "kaiming_normal",
    control: Annotated[str, typer.Option(help="none, shuffle, reinit or invert.")] = "none",
    method_option: KeyValues = None,
    model_option: KeyValues = None,
    data_option: KeyValues = None,
    recipe_option: KeyValues = None,
    out: o.StoreFolder = None,
    data: o.Data = None,
    device: o.Device = "cpu",
    threads: o.Threads = 1,
    trusted: o.Trusted = False,
    search_limit: o.SearchLimit = None,
    as_json: o.Json = False,
) -> None:
    """Find, train and measure one ticket. A finished run is not repeated but shown."""
    from paibench.benchmark.spec import Spec

    root = o.store_at(out, "single", data)
    resolved_density = o.one_density(density, sparsity, compression)
    if resolved_density is None and method != "dense":
        raise UserError("the density is missing: give --density, --sparsity or --compression")
    spec = Spec.of(
        dataset=o.named("datasets", dataset, data_option or []),
        model=o.named("models", model, model_option or []),
        recipe=o.named("recipes", recipe, recipe_option or []),
        method=o.named("methods", o.method_name(method), method_option or []),
        density=1.0 if resolved_density is None else resolved_density,
        seed=seed,
        init=init,
        control=control,
    )
    if (record := _finished(root, spec.key)) is not None:
        _print(record, as_json)
        return
    # Not before the spec is valid: these import torch, and a mistake must be reported at once.
    from paibench.benchmark.execution.attempt import Failed, attempt
    from paibench.benchmark.execution.settings import RunSettings
    from paibench.benchmark.store.store import Store

    store = Store.open(root)
    settings = RunSettings(device, threads, data, trusted=trusted, search_seconds=search_limit)
    try:
        outcome = attempt(spec, store, settings)
    except Failed as failed:
        # The user can provide missing input, so this is a user's mistake: exit status 2.
        if failed.cause == "input":
            raise UserError(str(failed)) from failed
        raise SystemExit(f"paibench: the run failed ({failed.cause}): {failed}") from failed
    if outcome == "busy":
        raise UserError(f"run {spec.key} is executed by another process; wait for it")
    _print(store.read_record(spec.key), as_json)


def _finished(root: Path, key: str) -> dict[str, Any] | None:
    """Return the record of a run that is done; nothing is written, so a store may be read-only."""
    from paibench.benchmark.store.checksummed_json import Corrupt
    from paibench.benchmark.store.layout import is_store
    from paibench.benchmark.store.store import Store

    if is_store(root):
        # A damaged record is moved away by the attempt that repeats the run.
        with suppress(FileNotFoundError, Corrupt):
            return Store.read(root).read_record(key)
    return None


def show(key: o.Key, out: o.Stores = None, as_json: o.Json = False) -> None:
    """Show the record of a run, or its failure."""
    from paibench.benchmark.store.checksummed_json import Corrupt

    store, full_key = find_run(key, out)
    done = store.is_done(full_key)
    path = store.record_path(full_key)
    try:
        record = store.read_record(full_key) if done else store.last_failure(full_key)
    except Corrupt as error:
        raise Corrupt(f"{path}: {error}; re-run its sweep to repeat the run") from error
    if record is None:
        raise Corrupt(f"{path.with_suffix('.failed')}: cannot be read; re-run its sweep")
    _print(record, as_json)


def find_run(key: str, out: list[Path] | None, attempted: bool = False) -> tuple["Store", str]:
    """Return the store and the full key of a run that is done, failed or, if asked, attempted.

    Raises UserError if no run's key begins with `key`, or more than one.
    """
    from paibench.benchmark.store.layout import is_store
    from paibench.benchmark.store.store import Store

    # These are where commands put stores by default, and the published results.
    roots = list(out or [*Path("runs").glob("*/"), *Path("results").glob("*/"), Path("quickstart")])
    stores: dict[str, Store] = {}
    for root in roots:
        if out or is_store(root):
            store = Store.read(root)
            listing = store.listing()
            keys = listing.done | listing.failed
            keys |= store.attempted_keys() if attempted else frozenset()
            # Keys are lower-case, and a user may type capitals.
            stores |= {full: store for full in keys if full.startswith(key.lower())}
    # Every key begins with the empty text, so one run in the store would match it.
    if len(stores) != 1 or not key:
        count = f"{len(stores)} runs begin" if stores else "no run begins"
        searched = ", ".join(map(str, roots)) or "runs/"
        raise UserError(
            f"{count} with {key!r:.80} in {searched}; give more characters of the key, or --out"
        )
    full_key, store = stores.popitem()
    return store, full_key


def _print(record: dict[str, Any], as_json: bool) -> None:
    if as_json:
        o.echo_json(record)
        return
    from paibench.benchmark.spec import Spec

    # Not `Spec.of`, since the method of a record may not be installed here.
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
    if record.get("ties"):
        typer.echo(f"  a lot decided which of {record['ties']} weights with equal scores are kept")
    for note in record.get("notes", ()):
        typer.echo(f"  note: {note}")
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


# -- verification ----------------------------------------------------------------------------------


def verify(
    run: o.RecordedRun,
    out: o.Stores = None,
    data: o.Data = None,
    device: o.RecordedDevice = None,
    threads: o.RecordedThreads = None,
    method: Annotated[
        str | None, typer.Option(help="`file.py:function` of a method that is not installed.")
    ] = None,
    trusted: o.Trusted = False,
    search_limit: o.SearchLimit = None,
    as_json: o.Json = False,
) -> None:
    """Repeat a recorded run, and compare the results.

    Exit status 0 if they are identical or within the seed interval, 1 if they differ.
    """
    from paibench.benchmark.execution.attempt import Failed
    from paibench.benchmark.execution.verify import verify as repeat

    if method:
        o.method_name(method)
    record, store = find_record(run, out)
    settings = recorded_settings(record, device, threads, data)
    settings = replace(settings, trusted=trusted, search_seconds=search_limit)
    try:
        verification = repeat(record, settings, store)
    except Failed as failed:
        raise SystemExit(f"paibench: the run failed now ({failed.cause}): {failed}") from failed
    if as_json:
        o.echo_json(verification_facts(verification))
    else:
        _print_verification(verification)
    raise SystemExit(1 if verification.verdict == "different" else 0)


def find_record(run: str, out: list[Path] | None) -> "tuple[Record, Store | None]":
    """Return the record with a key and its store, or the record in a file.

    Raises UserError, Corrupt.
    """
    from paibench.benchmark.record import Record
    from paibench.benchmark.store.atomic import read
    from paibench.benchmark.store.checksummed_json import Corrupt, decode

    if is_record_file(run):
        try:
            plain, store = decode(read(Path(run))), None
        except OSError as error:
            raise UserError(f"{run[:200]}: cannot be read: {error.strerror}") from error
        except Corrupt as error:
            raise Corrupt(f"{run[:200]}: {error}; the record cannot be trusted") from error
    else:
        run_store, key = find_run(run, out)
        if not run_store.is_done(key):
            raise UserError(f"run {key} failed and has no record; see `paibench show {key}`")
        plain, store = run_store.read_record(key), run_store
    try:
        return Record.read(plain), store
    except ValueError as error:
        raise Corrupt(f"{run[:200]}: {error}; the record cannot be trusted") from error


def is_record_file(run: str) -> bool:
    """Return whether a run is given as the file of its record, not as a key."""
    return Path(run).suffix == ".json" or "/" in run


def recorded_settings(
    record: "Record", device: str | None, threads: int | None, data: Path | None
) -> "RunSettings":
    """Return the settings to repeat a run; the defaults are those of its record."""
    from paibench.benchmark.execution.settings import RunSettings

    # A record names the model of its device, and `cuda` is None for a run on the CPU.
    recorded = "cpu" if record.environment.cuda is None else "cuda"
    return RunSettings(
        device=device or recorded, threads=threads or record.environment.threads, data=data
    )


def verification_facts(verification: "Verification") -> dict[str, Any]:
    """Return a verification as JSON values."""
    recorded, repeated = verification.recorded, verification.repeated
    return {
        "key": recorded.key,
        "verdict": verification.verdict,
        "mask_is_equal": recorded.mask_sha256 == repeated.mask_sha256,
        "mask_moved": verification.moved_fraction,
        "accuracy_then": recorded.accuracy,
        "accuracy_now": repeated.accuracy,
        "difference": verification.difference,
        "interval": verification.interval,
        "seeds": verification.seeds,
        "differing": verification.differing,
        "elsewhere": verification.environment_differences,
    }


def _print_verification(verification: "Verification") -> None:
    recorded, repeated = verification.recorded, verification.repeated
    typer.echo(f"{recorded.key}  {verification.verdict}")
    if recorded.mask_sha256 == repeated.mask_sha256:
        typer.echo("  the same mask")
    else:
        fraction = verification.moved_fraction
        share = f", {fraction:.2%} of its weights" if fraction else ""
        typer.echo(f"  a different mask{share}")
    if verification.difference is not None:
        typer.echo(
            f"  accuracy {repeated.accuracy:.4f} now, {recorded.accuracy:.4f} then: "
            f"{100 * verification.difference:+.2f} points; the interval is "
            f"{100 * verification.interval:.2f} points, from {verification.seeds} seeds"
        )
    for line in verification.environment_differences:
        typer.echo(f"  {line}")
