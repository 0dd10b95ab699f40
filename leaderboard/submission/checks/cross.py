"""Submitted records held against each other: equal starts, equal data, all seeds, no copies."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from paibench.benchmark.record import Record
from paibench.benchmark.spec import Spec
from paibench.leaderboard.submission.findings import Fault, Severity, shown
from paibench.leaderboard.submission.open import Submitted

FLOOR = ("dense", "random")


@dataclass(frozen=True)
class Run:
    """A record with the name of its file; `new` where it is not published already."""

    file: str
    submitted: Submitted
    new: bool

    @property
    def record(self) -> Record:
        return self.submitted.record

    @property
    def spec(self) -> Spec:
        return self.submitted.spec


Named = tuple[Run, Fault]


def together(runs: Sequence[Run], complete: bool = True) -> Iterator[Named]:
    """The faults of new runs that show beside others alone.

    Where the runs are not all that were submitted, since some could not be read, nothing is said
    of what is missing.
    """
    yield from _initial(runs)
    yield from _layers(runs)
    yield from _data(runs)
    yield from _copied(runs)
    yield from _same_mask(runs)
    if complete:
        yield from _seeds(runs)


def _network(run: Run) -> Hashable:
    """What the network depends on: the model, and the images whatever their number."""
    options = run.spec.dataset.options.items()
    images = tuple(option for option in options if option[0] not in ("examples", "validation"))
    return run.spec.dataset.name, images, str(run.spec.model)


def _place(run: Run) -> Hashable:
    where = run.record.environment
    return where.device, where.torch, where.cuda


def _initial(runs: Sequence[Run]) -> Iterator[Named]:
    """Machines of other kinds may draw other last bits: between them it is a warning."""
    begun = (run for run in runs if run.record.initial_sha256 is not None)
    groups = _groups(begun, lambda run: (_network(run), run.spec.init, run.spec.seed))
    for alike in groups.values():
        for run, due in _odd(alike, lambda run: run.record.initial_sha256):
            equals = [other for other in alike if other.record.initial_sha256 == due]
            same_place = not equals or _place(run) in set(map(_place, equals))
            severity: Severity = "error" if same_place else "warning"
            came = shown(run.record.initial_sha256)
            yield run, Fault("initial", shown(due or "one value"), came, severity)


def _layers(runs: Sequence[Run]) -> Iterator[Named]:
    def layers(run: Run) -> Hashable:
        record = run.record
        sizes = tuple(zip(record.layer_names, record.layer_sizes, strict=True))
        return sizes, record.multiply_adds_dense

    found = (run for run in runs if run.record.layer_names)
    for alike in _groups(found, _network).values():
        for run, due in _odd(alike, layers):
            yield run, Fault("layers", shown(due or "one value"), shown(layers(run)))


def _data(runs: Sequence[Run]) -> Iterator[Named]:
    fixed = (run for run in runs if "validation" not in run.spec.dataset.options)
    for alike in _groups(fixed, lambda run: str(run.spec.dataset)).values():
        for run, due in _odd(alike, lambda run: run.record.data_fingerprint):
            came = shown(run.record.data_fingerprint)
            yield run, Fault("data", shown(due or "one value"), came)


def _copied(runs: Sequence[Run]) -> Iterator[Named]:
    """Two seeds with the same end."""
    done = [run for run in runs if _is_alive(run.record)]
    ends: tuple[tuple[str, Callable[[Run], Hashable]], ...] = (
        ("trained_sha256", lambda run: run.record.trained_sha256),
        (
            "accuracy and losses",
            lambda run: (
                _network(run),
                run.record.accuracy,
                run.record.loss,
                run.record.train_loss,
            ),
        ),
    )
    told = set()
    for what, end in ends:
        for alike in _groups(done, end).values():
            if len({run.spec.seed for run in alike}) < 2:
                continue
            for run in alike:
                other = next(o for o in alike if o.spec.seed != run.spec.seed)
                if run.new and run.file not in told:
                    told.add(run.file)
                    came = f"those of seed {other.spec.seed}, {other.file}"
                    yield run, Fault("copied", f"{what} of its own", shown(came))


def _is_alive(record: Record) -> bool:
    """Whether a run has an end of its own: without a path to the output, many may end alike."""
    ended = record.status == "done" and record.trained_sha256 is not None
    return ended and not record.collapsed and record.density_effective != 0


def _same_mask(runs: Sequence[Run]) -> Iterator[Named]:
    """Of other methods, not of one with other options, which may make no difference."""
    pruned = (run for run in runs if run.record.mask_sha256 and run.spec.density < 1)
    for alike in _groups(pruned, lambda run: run.record.mask_sha256).values():
        for run in alike:
            others = [o for o in alike if o.spec.method.name != run.spec.method.name]
            if run.new and others:
                came = f"that of {others[0].spec.method}, {others[0].file}"
                yield run, Fault("same-mask", "a mask of its own", shown(came), "warning")


def _seeds(runs: Sequence[Run]) -> Iterator[Named]:
    """Each cell with a new run has the seeds of the track, from 0 on, as its floor has."""
    for track in _groups(runs, _track).values():
        cells = _groups(track, _cell)
        judged = {cell: alike for cell, alike in cells.items() if any(run.new for run in alike)}
        if not judged:
            continue
        floor = {cell: alike for cell, alike in cells.items() if _is_floor(alike[0])}
        due = set(range(1 + max(r.spec.seed for a in (judged | floor).values() for r in a)))
        for cell, alike in (judged | floor).items():
            seeds = {run.spec.seed for run in alike}
            if lacking := sorted(due - seeds):
                run = next((run for run in alike if run.new), alike[0])
                expected = f"seeds 0 to {max(due)} of {run.spec.method} at {run.spec.density:g}"
                yield run, Fault("seeds", shown(expected), shown(f"without {lacking}"))
            elif len(due) == 1 and cell in judged:
                yield alike[0], Fault("seeds", "two seeds or more", "one seed", "warning")
        yield from _floor(cells, judged)


def _floor(
    cells: Mapping[Hashable, Sequence[Run]], judged: Mapping[Hashable, Sequence[Run]]
) -> Iterator[Named]:
    there = {_asked(alike[0]) for alike in cells.values() if _is_floor(alike[0])}
    told = set()
    for alike in judged.values():
        density = alike[0].spec.density
        due: list[tuple[str, float]] = [("dense", 1.0)]
        due += [("random", density)] if density < 1 else []
        for needed in due:
            if needed not in there and needed not in told:
                told.add(needed)
                yield alike[0], Fault("floor", f"{needed[0]} at density {needed[1]:g}", "none")


def _asked(run: Run) -> tuple[str, float]:
    return run.spec.method.name, run.spec.density


def _is_floor(run: Run) -> bool:
    plain = not run.spec.method.options and run.spec.control == "none"
    return plain and run.spec.method.name in FLOOR


def _track(run: Run) -> Hashable:
    spec = run.spec
    return str(spec.dataset), str(spec.model), str(spec.recipe), spec.init


def _cell(run: Run) -> Hashable:
    return json.dumps(run.spec.model_copy(update={"seed": 0}).canonical, sort_keys=True)


def _groups(
    runs: "Sequence[Run] | Iterator[Run]", by: Callable[[Run], Hashable]
) -> Mapping[Hashable, list[Run]]:
    found: dict[Hashable, list[Run]] = defaultdict(list)
    for run in runs:
        found[by(run)].append(run)
    return found


def _odd(runs: Sequence[Run], value: Callable[[Run], Hashable]) -> Iterator[tuple[Run, Hashable]]:
    """The new runs whose value is not that of the others, with that; None where there is no such.

    What is published is right; without it, what most have.
    """
    seen = Counter(map(value, runs))
    if len(seen) < 2:
        return
    known = Counter(value(run) for run in runs if not run.new) or seen
    (due, most), *others = known.most_common(2)
    if others and others[0][1] == most:
        due = None
    for run in runs:
        if run.new and value(run) != due:
            yield run, due
