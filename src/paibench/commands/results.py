"""Publishing results: held to what can be checked, and added."""

import json
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paibench.commands import options as o
from paibench.commands.run import Device, Run, Threads, facts_of, find_record, place_of
from paibench.methods.core.registry import UserError

if TYPE_CHECKING:
    from paibench.benchmark.execution.acceptance import Acceptance
    from paibench.benchmark.execution.settings import RunSettings
    from paibench.benchmark.execution.verify import Verification
    from paibench.benchmark.record import Record
    from paibench.benchmark.store.store import Store
    from paibench.leaderboard.submission.verification_level import Level
if TYPE_CHECKING:
    from paibench.leaderboard.submission.validate import Report


Root = Annotated[Path, typer.Argument(help="The store that holds it, and gets the mark.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


def check(
    run: Run,
    store: Root,
    data: o.Data = None,
    device: Device = None,
    threads: Threads = None,
    dry_run: DryRun = False,
    as_json: o.Json = False,
) -> None:
    """Train a run again from its mask, without its method, and mark it as checked.

    Exit status 0 where the accuracy is the same or within the seed interval, 1 where it is not.
    """
    from paibench.benchmark.execution.verify import compare, retrain
    from paibench.benchmark.store.store import Store
    from paibench.methods.core.mask_file import from_bytes

    here = Store.read(store)
    then, _ = find_record(run, [store])
    _hold_to_bytes(run, then, here)
    mask = from_bytes(_mask(run, then, here))
    now = retrain(then, mask, place_of(then, device, threads, data))
    found = compare(then, now, here, None)
    equal = then.mask_sha256 == now.mask_sha256
    good = equal and found.verdict != "different"
    if good and not dry_run:
        _mark(here, [then], "checked", facts_of(found), found)
    said = "checked" if good else "not checked" if equal else "not checked: the mask is another"
    _tell(facts_of(found) | {"checked": good}, [_accuracies(found), said], as_json)
    raise SystemExit(0 if good else 1)


def verify(
    run: Run,
    store: Root,
    seed: Annotated[
        list[int] | None, typer.Option(help="A fresh seed; by default three are drawn.")
    ] = None,
    data: o.Data = None,
    device: Device = None,
    threads: Threads = None,
    trusted: o.Trusted = False,
    search_limit: o.SearchLimit = None,
    dry_run: DryRun = False,
    as_json: o.Json = False,
) -> None:
    """Find and train a run again, then with fresh seeds, and mark all its seeds as verified.

    Exit status 0 where the mask is the same and the means lie near enough, 1 where not.
    """
    from paibench.benchmark.execution.acceptance import accept, same_mask
    from paibench.benchmark.execution.attempt import Failed
    from paibench.benchmark.execution.verify import of_seeds
    from paibench.benchmark.execution.verify import verify as again
    from paibench.benchmark.store.store import Store

    here = Store.read(store)
    then, _ = find_record(run, [store])
    _hold_to_bytes(run, then, here)
    cell = of_seeds(then, here)
    place = place_of(then, device, threads, data)
    place = replace(place, trusted=trusted, search_seconds=search_limit)
    seeds = _fresh_seeds(seed, cell)
    try:
        found = again(then, place, here)
        came = _accuracies_of(then, seeds, place)
    except Failed as failed:
        raise SystemExit(f"paibench: the run failed now ({failed.cause}): {failed}") from failed
    equal = then.mask_sha256 == found.now.mask_sha256
    same = same_mask(equal, bool(found.elsewhere), found.moved) and found.verdict != "different"
    means = accept([each.accuracy for each in cell if each.accuracy is not None], came)
    good = same and means.accepted
    facts = {**facts_of(found), "fresh_seeds": seeds, **means._asdict(), "verified": good}
    if good and not dry_run:
        _mark(here, cell, "verified", facts, found)
    _tell(facts, [_accuracies(found), _means(means, seeds), _words(same, means)], as_json)
    raise SystemExit(0 if good else 1)


def _hold_to_bytes(run: str, then: "Record", store: "Store") -> None:
    """Raise UserError where the record is not the store's, which is the one that is marked."""
    from paibench.benchmark.store.atomic import read

    there = store.record_path(then.key)
    if not store.is_done(then.key) or (_is_path(run) and read(Path(run)) != read(there)):
        raise UserError(f"{store.root}: has no such record of {then.key}; merge it first")


def _mask(run: str, then: "Record", store: "Store") -> bytes:
    """The file of a record's mask, from beside the record that was named. Raises UserError."""
    from paibench.benchmark.store.atomic import read
    from paibench.benchmark.store.records import check_hash
    from paibench.leaderboard.submission.scan import MASK_LIMIT

    folder = Path(run).with_suffix("") if _is_path(run) else store.run_folder(then.key)
    name = Path(then.mask_file or "no mask").name
    try:
        data = read(folder / name, MASK_LIMIT)
    except OSError as error:
        raise UserError(
            f"{folder / name}: cannot be read: {error.strerror}; export with --masks"
        ) from error
    check_hash(name, data)
    return data


def _is_path(run: str) -> bool:
    return Path(run).suffix == ".json" or "/" in run


def _fresh_seeds(given: list[int] | None, cell: "Sequence[Record]") -> list[int]:
    """Seeds that no run of the cell has, as given or drawn. Raises UserError."""
    from paibench.benchmark.execution.acceptance import FRESH_SEEDS

    had = {int(record.spec.get("seed", 0)) for record in cell}
    if given is None:  # which nobody can have prepared for
        return sorted(secrets.SystemRandom().sample(range(max(had) + 1, 2**31), FRESH_SEEDS))
    if len(set(given)) < len(given) or had & set(given):
        raise UserError(f"--seed {given}: fresh seeds are others than {sorted(had)}, each once")
    return given


def _accuracies_of(then: "Record", seeds: list[int], place: "RunSettings") -> list[float]:
    """What the run comes to with other seeds, in a store that is thrown away."""
    from paibench.benchmark.execution.attempt import attempt
    from paibench.benchmark.spec import Spec
    from paibench.benchmark.store.store import Store

    found = []
    with tempfile.TemporaryDirectory(prefix="paibench-verify-") as folder:
        fresh = Store.open(Path(folder) / "store")
        for seed in seeds:
            spec = Spec.of(**then.spec | {"seed": seed})
            attempt(spec, fresh, place)
            accuracy = fresh.read_record(spec.key)["accuracy"]
            if accuracy is None:
                raise SystemExit(f"paibench: seed {seed} diverged now; the claim is not verified")
            found.append(accuracy)
    return found


def _mark(
    store: "Store",
    records: "Sequence[Record]",
    level: "Level",
    came: dict[str, Any],
    by: "Verification",
) -> None:
    from paibench.leaderboard.submission.verification_level import Mark, write_mark

    where = by.now.environment
    for record in records:
        write_mark(
            store,
            Mark.now(
                *(store, record.key, level, came | {"dirty": where.dirty}),
                paibench=where.paibench,
                commit=where.commit,
                device=where.device,
                torch=where.torch,
            ),
        )


def _accuracies(found: "Verification") -> str:
    if found.difference is None:
        return f"{found.then.key}  {found.verdict}"
    return (
        f"{found.then.key}  {found.verdict}\n"
        f"  accuracy {found.now.accuracy:.4f} now, {found.then.accuracy:.4f} then; "
        f"the interval is {100 * found.interval:.2f} points, by {found.seeds} seeds"
    )


def _means(means: "Acceptance", seeds: list[int]) -> str:
    return (
        f"  mean {means.measured:.4f} of the fresh seeds {', '.join(map(str, seeds))}, "
        f"{means.claimed:.4f} was claimed; {100 * means.allowed:.2f} points are allowed"
    )


def _words(same: bool, means: "Acceptance") -> str:
    from paibench.benchmark.execution.acceptance import FRESH_SEEDS

    if means.n < FRESH_SEEDS:
        return f"not verified: {FRESH_SEEDS} fresh seeds are needed"
    if not same:
        return "not verified: the same seed gives another result"
    return "verified" if means.accepted else "not verified: the means lie too far apart"


def _tell(facts: dict[str, Any], lines: list[str], as_json: bool) -> None:
    typer.echo(json.dumps(facts) if as_json else "\n".join(lines))


# results: Publishing results: held to what can be checked, and added.

results = typer.Typer(
    name="results",
    help="Publish results: validate, merge, check and verify them, see docs/publishing.md.",
    no_args_is_help=True,
)


@results.command()
def validate(
    folder: Annotated[Path, typer.Argument(help="A store, or a folder of stores.")],
    against: Annotated[
        Path | None, typer.Option(help="What is published already: a store, or a folder of them.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="A file for the report, as Markdown.")] = None,
    as_json: o.Json = False,
) -> None:
    """Check records, masks and curves without running anything of theirs.

    Exit status 0 if they are valid, 1 if something is an error, 2 if there is no store.
    """
    from paibench.benchmark.store.atomic import replace_atomic as write
    from paibench.leaderboard.submission.report import markdown
    from paibench.leaderboard.submission.validate import validate as held

    found = held(folder, against)
    if report:
        write(report, markdown(found).encode())
    _tell_report(found, as_json)
    raise SystemExit(0 if found.valid else 1)


@results.command()
def merge(
    source: Annotated[Path, typer.Argument(help="A store with new records.")],
    into: Annotated[Path, typer.Argument(help="The store that they are added to.")],
    dry_run: DryRun = False,
    as_json: o.Json = False,
) -> None:
    """Add the records of a store to another if all of them are valid. Nothing is overwritten.

    Exit status 0 if they were added or are present, 1 if something is an error.
    """
    from paibench.leaderboard.submission.merge import merge as add
    from paibench.leaderboard.submission.report import plain

    merged = add(source, into, dry_run=dry_run)
    valid = merged.report.valid
    if as_json:
        facts = {"new": dict(merged.new), "already": merged.already, "dry_run": dry_run}
        typer.echo(json.dumps(facts | {"report": plain(merged.report)}))
    elif not valid:
        _tell_report(merged.report, False)
        typer.echo("nothing was added")
    else:
        new = ", ".join(f"{number} {kind}" for kind, number in sorted(merged.new.items()) if number)
        would = "would be added" if dry_run else "added"
        typer.echo(f"{into}: {new or 'nothing'} {would}; {merged.already} records were there")
    raise SystemExit(0 if valid else 1)


results.command()(check)
results.command()(verify)


def _tell_report(found: "Report", as_json: bool) -> None:
    from rich.console import Console

    from paibench.leaderboard.submission import report

    if as_json:
        typer.echo(json.dumps(report.plain(found)))
        return
    if found.findings:
        Console().print(report.terminal(found))
    lines = [report.more(found), *report.fixes(found), report.headline(found)]
    typer.echo("\n".join(line for line in lines if line))
