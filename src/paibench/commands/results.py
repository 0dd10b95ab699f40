"""Publication of results: validate and merge records, check and verify them by new runs."""

import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
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
    salt: Annotated[
        str | None, typer.Option(help="The text that fresh seeds come from; by default random.")
    ] = None,
    fresh: Annotated[int, typer.Option(min=5, help="The number of fresh seeds.")] = 5,
    data: o.Data = None,
    device: o.RecordedDevice = None,
    threads: o.RecordedThreads = None,
    trusted: o.Trusted = False,
    search_limit: o.SearchLimit = None,
    dry_run: o.DryRun = False,
    as_json: o.Json = False,
) -> None:
    """Run all seeds of a cell again, then fresh seeds, and mark the cell as verified.

    Exit status 0 if the masks are the same and the fresh mean is not too low, 1 if not.
    """
    from paibench.benchmark.execution.acceptance import accept, fresh_seeds
    from paibench.benchmark.execution.attempt import Failed
    from paibench.benchmark.execution.verify import of_seeds
    from paibench.benchmark.execution.verify import verify as repeat
    from paibench.benchmark.steps.environment import now
    from paibench.benchmark.steps.passed import hides_cost
    from paibench.benchmark.store.store import Store

    target = Store.read(store)
    record, _ = find_record(run, [store])
    _require_same_record(run, record, target)
    records = of_seeds(record, target)
    settings = recorded_settings(record, device, threads, data)
    settings = replace(settings, trusted=trusted, search_seconds=search_limit)
    salt = secrets.token_hex(8) if salt is None else salt
    used = {int(each.spec.get("seed", 0)) for each in records}
    seeds = fresh_seeds(_digests(target, records), salt, fresh, used)
    facts: dict[str, Any] = {"salt": salt, "fresh_seeds": seeds, "when": now()}
    log = _Log(target, records, dry_run)
    log.write(facts | {"outcome": "started"})
    try:
        verifications = [repeat(each, settings, target) for each in records]
        accuracies = _fresh_accuracies(record.spec, seeds, settings)
        floors = _floor_accuracies(record, seeds, settings)
    except Failed as failed:
        log.write(facts | {"outcome": f"failed: {failed}"})
        raise SystemExit(f"paibench: the run failed now ({failed.cause}): {failed}") from failed
    # A run that diverged has no accuracy, so that there is no mean to compare.
    if None in accuracies:
        log.write(facts | {"outcome": "a fresh seed diverged"})
        raise SystemExit("paibench: a fresh seed diverged now; the claim is not verified")
    same = all(map(_is_same, verifications))
    claimed = [each.accuracy for each in records if each.accuracy is not None]
    acceptance = accept(claimed, [each for each in accuracies if each is not None])
    costly = any(hides_cost(each.recorded.notes, each.repeated.notes) for each in verifications)
    verified = same and acceptance.accepted and not costly
    outcome = _outcome(same, costly, acceptance)
    (verification,) = [each for each in verifications if each.recorded.key == record.key]
    facts = verification_facts(verification) | facts | acceptance._asdict()
    facts |= {"floors": floors, "verified": verified}
    facts["tries"] = log.write(facts | {"outcome": outcome})
    if verified and not dry_run:
        _mark(target, records, "verified", facts, verification)
    lines = [*map(_accuracies, verifications), _means(acceptance, seeds), _floors(floors), outcome]
    _print(facts, [line for line in lines if line], as_json)
    raise SystemExit(0 if verified else 1)


def _is_same(verification: "Verification") -> bool:
    """Return whether a run that was done again found the same mask and a result as good."""
    from paibench.benchmark.execution.acceptance import same_mask

    equal = verification.recorded.mask_sha256 == verification.repeated.mask_sha256
    elsewhere = bool(verification.environment_differences)
    return verification.verdict != "different" and same_mask(
        equal, elsewhere, verification.moved_fraction
    )


def _digests(store: "Store", records: Sequence["Record"]) -> list[str]:
    """Return the sha256 of the files of these records."""
    from paibench.benchmark.store.atomic import read

    return [sha256(read(store.record_path(record.key))).hexdigest() for record in records]


def _fresh_accuracies(
    fields: Mapping[str, Any], seeds: Sequence[int], settings: "RunSettings"
) -> list[float | None]:
    """Return the accuracies of a spec with other seeds, from a temporary store."""
    from paibench.benchmark.execution.attempt import attempt
    from paibench.benchmark.spec import Spec
    from paibench.benchmark.store.store import Store

    # An empty store: nothing in it comes from the author, such as a cached stage of a search.
    with tempfile.TemporaryDirectory(prefix="paibench-verify-") as folder:
        fresh = Store.open(Path(folder) / "store")
        specs = [Spec.of(**{**fields, "seed": seed}) for seed in seeds]
        for spec in specs:
            attempt(spec, fresh, settings)
        return [fresh.read_record(spec.key)["accuracy"] for spec in specs]


def _floor_accuracies(
    record: "Record", seeds: Sequence[int], settings: "RunSettings"
) -> dict[str, float | None]:
    """Return the mean accuracy of each random floor with the fresh seeds; None if one diverged."""
    from statistics import fmean

    from paibench.benchmark.record import RANDOM_FLOORS
    from paibench.benchmark.spec import Spec

    if Spec.of(**record.spec).method.name in ("dense", "random"):
        return {}
    options: tuple[dict[str, str], ...] = ({}, {"layers": "erk"})
    means: dict[str, float | None] = {}
    for label, chosen in zip(RANDOM_FLOORS, options, strict=True):
        fields = record.spec | {"method": {"name": "random", **chosen}, "control": "none"}
        accuracies = _fresh_accuracies(fields, seeds, settings)
        finished = [each for each in accuracies if each is not None]
        means[label] = fmean(finished) if len(finished) == len(accuracies) else None
    return means


class _Log:
    """The entry of this try in the log of each of the records, unless this is a dry run."""

    def __init__(self, store: "Store", records: Sequence["Record"], dry_run: bool) -> None:
        self._store, self._dry_run = store, dry_run
        self._numbers: dict[str, int | None] = {record.key: None for record in records}

    def write(self, facts: dict[str, Any]) -> int:
        """Write what is known of the try; return the largest number of tries of a record."""
        from paibench.leaderboard.submission.verification_level import log_try

        if self._dry_run:
            return 0
        numbers = {
            key: log_try(self._store, key, facts, number) for key, number in self._numbers.items()
        }
        self._numbers.update(numbers)
        return max(numbers.values())


# -- marks and messages ----------------------------------------------------------------------------


def _mark(
    store: "Store",
    records: Sequence["Record"],
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
        f"  mean {acceptance.measured:.4f} of the fresh seeds {', '.join(map(str, seeds))}; "
        f"{acceptance.claimed:.4f} was claimed, of which {100 * acceptance.allowed:.2f} points may "
        "be missing"
    )


def _outcome(same: bool, costly: bool, acceptance: "Acceptance") -> str:
    if not same:
        return "not verified: the same seed gives a different result"
    if costly:
        return "not verified: the search passes more examples than it counts"
    return "verified" if acceptance.accepted else "not verified: the fresh mean is too low"


def _floors(floors: dict[str, float | None]) -> str:
    means = [
        f"{label} {'diverged' if mean is None else f'{mean:.4f}'}" for label, mean in floors.items()
    ]
    return f"  the floors with these seeds: {', '.join(means)}" if means else ""


def _print(facts: dict[str, Any], lines: list[str], as_json: bool) -> None:
    if as_json:
        o.echo_json(facts)
    else:
        typer.echo("\n".join(lines))
