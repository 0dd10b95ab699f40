"""Publication of results: validate and merge records, check and verify them by new runs."""

import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from paibench.commands import options as o
from paibench.commands.run import (
    find_record,
    is_record_file,
    recorded_settings,
    verification_facts,
)
from paibench.methods.core.registry import UserError

if TYPE_CHECKING:
    from paibench.benchmark.execution.acceptance import Acceptance
    from paibench.benchmark.execution.settings import RunSettings
    from paibench.benchmark.execution.verify import Verification
    from paibench.benchmark.record import Record
    from paibench.benchmark.store.store import Store
    from paibench.leaderboard.submission.validate import Report
    from paibench.leaderboard.submission.verification_level import Level

results = typer.Typer(
    name="results",
    help="Publish results: validate, merge, check and verify them, see docs/publishing.md.",
    no_args_is_help=True,
)

Maintainer = Annotated[
    bool, typer.Option("--maintainer", help="Allow new runs in published cells.")
]
MarkedStore = Annotated[Path, typer.Argument(help="The store that has the record.")]


@results.command()
def validate(
    folder: Annotated[Path, typer.Argument(help="A store, or a folder of stores.")],
    against: Annotated[
        Path | None, typer.Option(help="The published records: a store, or a folder of stores.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="The file for a Markdown report.")] = None,
    maintainer: Maintainer = False,
    as_json: o.Json = False,
) -> None:
    """Check records and the files beside them without running third-party code.

    Exit status 0 if they are valid, 1 if there is an error, 2 if there is no store.
    """
    from paibench.benchmark.store.atomic import replace_atomic
    from paibench.leaderboard.submission.report import markdown
    from paibench.leaderboard.submission.validate import validate as validate_stores

    validation = validate_stores(folder, against, maintainer=maintainer)
    if report:
        replace_atomic(report, markdown(validation).encode())
    _print_report(validation, as_json)
    raise SystemExit(0 if validation.valid else 1)


@results.command()
def merge(
    source: Annotated[Path, typer.Argument(help="A store with new records.")],
    into: Annotated[Path, typer.Argument(help="The store to add them to.")],
    maintainer: Maintainer = False,
    dry_run: o.DryRun = False,
    as_json: o.Json = False,
) -> None:
    """Add the records of a store to another if all are valid. Nothing is overwritten.

    Exit status 0 if they are merged, 1 if there is an error and nothing is added.
    """
    from paibench.leaderboard.submission.merge import merge as merge_stores
    from paibench.leaderboard.submission.report import plain

    merged = merge_stores(source, into, dry_run=dry_run, maintainer=maintainer)
    valid = merged.report.valid
    if as_json:
        facts = {"new": dict(merged.new), "already": merged.already, "dry_run": dry_run}
        o.echo_json(facts | {"report": plain(merged.report)})
    elif not valid:
        _print_report(merged.report, False)
        typer.echo("nothing was added")
    else:
        new = ", ".join(f"{number} {kind}" for kind, number in sorted(merged.new.items()) if number)
        added = "would be added" if dry_run else "added"
        typer.echo(f"{into}: {new or 'nothing'} {added}; {merged.already} records were there")
    raise SystemExit(0 if valid else 1)


def _print_report(report: "Report", as_json: bool) -> None:
    from rich.console import Console

    from paibench.leaderboard.submission import report as reports

    if as_json:
        o.echo_json(reports.plain(report))
        return
    if report.findings:
        Console().print(reports.terminal(report))
    lines = [reports.more(report), *reports.fixes(report), reports.headline(report)]
    typer.echo("\n".join(line for line in lines if line))


# -- check: train again from the mask --------------------------------------------------------------


@results.command()
def check(
    run: o.RecordedRun,
    store: MarkedStore,
    data: o.Data = None,
    device: o.RecordedDevice = None,
    threads: o.RecordedThreads = None,
    dry_run: o.DryRun = False,
    as_json: o.Json = False,
) -> None:
    """Train a run again from its mask, without its method, and mark it as checked.

    Exit status 0 if the accuracy is the same or within the seed interval, 1 if it is not.
    """
    from paibench.benchmark.execution.verify import compare, retrain
    from paibench.benchmark.store.store import Store
    from paibench.methods.core.mask_file import from_bytes

    target = Store.read(store)
    record, _ = find_record(run, [store])
    _require_same_record(run, record, target)
    mask = from_bytes(_read_mask(run, record, target))
    repeated = retrain(record, mask, recorded_settings(record, device, threads, data))
    verification = compare(record, repeated, target, None)
    same_mask = record.mask_sha256 == repeated.mask_sha256
    checked = same_mask and verification.verdict != "different"
    facts = verification_facts(verification)
    if checked and not dry_run:
        _mark(target, [record], "checked", facts, verification)
    reason = "" if same_mask else ": the mask is different"
    outcome = "checked" if checked else f"not checked{reason}"
    _print(facts | {"checked": checked}, [_accuracies(verification), outcome], as_json)
    raise SystemExit(0 if checked else 1)


def _require_same_record(run: str, record: "Record", store: "Store") -> None:
    """Raise UserError if the store, which gets the mark, does not have this very record."""
    from paibench.benchmark.store.atomic import read

    path = store.record_path(record.key)
    # A file with the same key may claim another accuracy, and the mark would confirm it.
    if not store.is_done(record.key) or (is_record_file(run) and read(Path(run)) != read(path)):
        raise UserError(f"{store.root}: has no such record of {record.key}; merge it first")


def _read_mask(run: str, record: "Record", store: "Store") -> bytes:
    """Return the mask file beside the given record. Raises UserError."""
    from paibench.benchmark.store.atomic import read
    from paibench.benchmark.store.records import check_hash
    from paibench.leaderboard.submission.scan import MASK_LIMIT

    folder = Path(run).with_suffix("") if is_record_file(run) else store.run_folder(record.key)
    # The last part alone: a submitted record must not lead to a file elsewhere.
    name = Path(record.mask_file or "no mask").name
    try:
        data = read(folder / name, MASK_LIMIT)
    except OSError as error:
        raise UserError(
            f"{folder / name}: cannot be read: {error.strerror}; export with --masks"
        ) from error
    check_hash(name, data)
    return data


# -- verify: search and train with fresh seeds -----------------------------------------------------


@results.command()
def verify(
    run: o.RecordedRun,
    store: MarkedStore,
    seed: Annotated[
        list[int] | None,
        typer.Option(help="A fresh seed; repeatable; by default three are drawn at random."),
    ] = None,
    data: o.Data = None,
    device: o.RecordedDevice = None,
    threads: o.RecordedThreads = None,
    trusted: o.Trusted = False,
    search_limit: o.SearchLimit = None,
    dry_run: o.DryRun = False,
    as_json: o.Json = False,
) -> None:
    """Search and train a run again, then with fresh seeds, and mark all its seeds as verified.

    Exit status 0 if the mask is the same and the means are close enough, 1 if not.
    """
    from paibench.benchmark.execution.acceptance import accept, same_mask
    from paibench.benchmark.execution.attempt import Failed
    from paibench.benchmark.execution.verify import of_seeds
    from paibench.benchmark.execution.verify import verify as repeat
    from paibench.benchmark.store.store import Store

    target = Store.read(store)
    record, _ = find_record(run, [store])
    _require_same_record(run, record, target)
    records = of_seeds(record, target)
    settings = recorded_settings(record, device, threads, data)
    settings = replace(settings, trusted=trusted, search_seconds=search_limit)
    seeds = _fresh_seeds(seed, records)
    try:
        verification = repeat(record, settings, target)
        accuracies = _fresh_accuracies(record, seeds, settings)
    except Failed as failed:
        raise SystemExit(f"paibench: the run failed now ({failed.cause}): {failed}") from failed
    equal = record.mask_sha256 == verification.repeated.mask_sha256
    same = same_mask(equal, bool(verification.environment_differences), verification.moved_fraction)
    same = same and verification.verdict != "different"
    claimed = [each.accuracy for each in records if each.accuracy is not None]
    acceptance = accept(claimed, accuracies)
    verified = same and acceptance.accepted
    facts = verification_facts(verification) | {
        "fresh_seeds": seeds,
        **acceptance._asdict(),
        "verified": verified,
    }
    if verified and not dry_run:
        _mark(target, records, "verified", facts, verification)
    lines = [_accuracies(verification), _means(acceptance, seeds), _outcome(same, acceptance)]
    _print(facts, lines, as_json)
    raise SystemExit(0 if verified else 1)


def _fresh_seeds(seeds: list[int] | None, records: "Sequence[Record]") -> list[int]:
    """Return seeds that none of these records has: the user's or random ones. Raises UserError."""
    from paibench.benchmark.execution.acceptance import FRESH_SEEDS

    used = {int(record.spec.get("seed", 0)) for record in records}
    if seeds is None:  # not predictable, so that no author can tune for them
        # Above all used seeds, and below the limit of a seed.
        return sorted(secrets.SystemRandom().sample(range(max(used) + 1, 2**31), FRESH_SEEDS))
    if len(set(seeds)) < len(seeds) or used & set(seeds):
        raise UserError(f"--seed {seeds}: fresh seeds must differ from {sorted(used)}, each once")
    return seeds


def _fresh_accuracies(record: "Record", seeds: list[int], settings: "RunSettings") -> list[float]:
    """Return the accuracies of the run with other seeds, from a temporary store."""
    from paibench.benchmark.execution.attempt import attempt
    from paibench.benchmark.spec import Spec
    from paibench.benchmark.store.store import Store

    accuracies = []
    # An empty store: nothing in it comes from the author, such as a cached stage of a search.
    with tempfile.TemporaryDirectory(prefix="paibench-verify-") as folder:
        fresh = Store.open(Path(folder) / "store")
        for seed in seeds:
            spec = Spec.of(**record.spec | {"seed": seed})
            attempt(spec, fresh, settings)
            accuracy = fresh.read_record(spec.key)["accuracy"]
            # A run that diverged has no accuracy, so that there is no mean to compare.
            if accuracy is None:
                raise SystemExit(f"paibench: seed {seed} diverged now; the claim is not verified")
            accuracies.append(accuracy)
    return accuracies


# -- marks and messages ----------------------------------------------------------------------------


def _mark(
    store: "Store",
    records: "Sequence[Record]",
    level: "Level",
    facts: dict[str, Any],
    verification: "Verification",
) -> None:
    """Write a mark of this level, with the environment that reproduced the result."""
    from paibench.leaderboard.submission.verification_level import Mark, write_mark

    environment = verification.repeated.environment
    for record in records:
        mark = Mark.now(
            # Readers of a mark see if the code that reproduced the result had uncommitted changes.
            *(store, record.key, level, facts | {"dirty": environment.dirty}),
            paibench=environment.paibench,
            commit=environment.commit,
            device=environment.device,
            torch=environment.torch,
        )
        write_mark(store, mark)


def _accuracies(verification: "Verification") -> str:
    recorded, repeated = verification.recorded, verification.repeated
    if verification.difference is None:
        return f"{recorded.key}  {verification.verdict}"
    return (
        f"{recorded.key}  {verification.verdict}\n"
        f"  accuracy {repeated.accuracy:.4f} now, {recorded.accuracy:.4f} then; the interval is "
        f"{100 * verification.interval:.2f} points, from {verification.seeds} seeds"
    )


def _means(acceptance: "Acceptance", seeds: list[int]) -> str:
    return (
        f"  mean {acceptance.measured:.4f} of the fresh seeds {', '.join(map(str, seeds))}, "
        f"{acceptance.claimed:.4f} was claimed; {100 * acceptance.allowed:.2f} points are allowed"
    )


def _outcome(same: bool, acceptance: "Acceptance") -> str:
    from paibench.benchmark.execution.acceptance import FRESH_SEEDS

    # This reason comes first, because too few seeds prove nothing.
    if acceptance.n < FRESH_SEEDS:
        return f"not verified: {FRESH_SEEDS} fresh seeds are needed"
    if not same:
        return "not verified: the same seed gives a different result"
    return "verified" if acceptance.accepted else "not verified: the means differ too much"


def _print(facts: dict[str, Any], lines: list[str], as_json: bool) -> None:
    if as_json:
        o.echo_json(facts)
    else:
        typer.echo("\n".join(lines))
