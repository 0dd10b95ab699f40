"""Compare submitted records with each other: equal starts, equal data, all seeds, no copies."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from paibench.benchmark.record import FEWEST_SEEDS, RANDOM_FLOORS, Record
from paibench.benchmark.spec import Spec
from paibench.leaderboard.submission.findings import Fault, Severity, shorten
from paibench.leaderboard.submission.open import Submitted, owns

BASELINES = ("dense", "random")
FLOORS = ("dense", *RANDOM_FLOORS)
"""The methods that every other one is compared with."""


@dataclass(frozen=True)
class Run:
    """A record with the name of its file; `new` unless it is published already."""

    file: str
    submitted: Submitted
    new: bool

    @property
    def record(self) -> Record:
        return self.submitted.record

    @property
    def spec(self) -> Spec:
        return self.submitted.spec


RunFault = tuple[Run, Fault]


def cross_check(
    runs: Sequence[Run], complete: bool = True, maintainer: bool = False
) -> Iterator[RunFault]:
    """Find the faults of new runs that show only beside other runs.

    Missing seeds and baselines are reported only if the runs are `complete`: a record that could
    not be read may be the one that seems to be missing. A `maintainer` may add to published cells.
    """
    if not maintainer:
        yield from _closed(runs)
    yield from _initial_weights(runs)
    yield from _layers(runs)
    yield from _data(runs)
    yield from _copied(runs)
    yield from _same_mask(runs)
    if complete:
        yield from _seeds(runs)


def _network(run: Run) -> Hashable:
    """What the network depends on: the model and the shape of the data, not how much there is."""
    options = run.spec.dataset.options.items()
    images = tuple(option for option in options if option[0] not in ("examples", "validation"))
    return run.spec.dataset.name, images, str(run.spec.model)


def _machine(run: Run) -> Hashable:
    environment = run.record.environment
    return environment.device, environment.torch, environment.cuda


def _initial_weights(runs: Sequence[Run]) -> Iterator[RunFault]:
    """Machines of different kinds may draw different last bits, which is only a warning."""
    initialized = (run for run in runs if run.record.initial_sha256 is not None)
    groups = _group_by(initialized, lambda run: (_network(run), run.spec.init, run.spec.seed))
    for group in groups.values():
        # Paired comparisons between methods are valid only if their starts are equal.
        for run, due in _outliers(group, lambda run: run.record.initial_sha256):
            others = [other for other in group if other.record.initial_sha256 == due]
            same_machine = not others or _machine(run) in set(map(_machine, others))
            severity: Severity = "error" if same_machine else "warning"
            actual = shorten(run.record.initial_sha256)
            yield run, Fault("initial", shorten(due or "one value"), actual, severity)


def _layers(runs: Sequence[Run]) -> Iterator[RunFault]:
    def layers(run: Run) -> Hashable:
        record = run.record
        sizes = tuple(zip(record.layer_names, record.layer_sizes, strict=True))
        return sizes, record.multiply_adds_dense

    for group in _group_by((run for run in runs if run.record.layer_names), _network).values():
        for run, due in _outliers(group, layers):
            yield run, Fault("layers", shorten(due or "one value"), shorten(layers(run)))


def _data(runs: Sequence[Run]) -> Iterator[RunFault]:
    # A validation split is drawn by the seed, so its data differ rightly.
    fixed = (run for run in runs if "validation" not in run.spec.dataset.options)
    for group in _group_by(fixed, lambda run: str(run.spec.dataset)).values():
        for run, due in _outliers(group, lambda run: run.record.data_fingerprint):
            actual = shorten(run.record.data_fingerprint)
            yield run, Fault("data", shorten(due or "one value"), actual)


def _copied(runs: Sequence[Run]) -> Iterator[RunFault]:
    """Find two seeds with the same trained weights, or the same accuracy and losses."""
    results: dict[str, Callable[[Run], Hashable]] = {
        "trained_sha256": lambda run: run.record.trained_sha256,
        "accuracy and losses": lambda run: (
            _network(run),
            run.record.accuracy,
            run.record.loss,
            run.record.train_loss,
        ),
    }
    done = [run for run in runs if _has_own_result(run.record)]
    reported = set()
    for what, result in results.items():
        for group in _group_by(done, result).values():
            # With one seed, two methods that find the same mask rightly end with equal weights.
            if len({run.spec.seed for run in group}) < 2:
                continue
            for run in group:
                other = next(o for o in group if o.spec.seed != run.spec.seed)
                if run.new and run.file not in reported:
                    reported.add(run.file)
                    actual = f"those of seed {other.spec.seed}, {other.file}"
                    yield run, Fault("copied", f"different {what}", shorten(actual))


def _has_own_result(record: Record) -> bool:
    """Return whether a run cannot end like another: networks without a path to the output may."""
    trained = record.status == "done" and record.trained_sha256 is not None
    return trained and not record.collapsed and record.density_effective != 0


def _same_mask(runs: Sequence[Run]) -> Iterator[RunFault]:
    """Find two methods, two seeds or two rows of a third party's method with one mask."""
    # A mask of no weights is the same for everybody.
    pruned = (
        run for run in runs if run.record.mask_sha256 and run.record.kept and run.spec.density < 1
    )
    for group in _group_by(pruned, lambda run: run.record.mask_sha256).values():
        for run in group:
            other = next((other for other in group if _differ(run, other)), None)
            if run.new and other:
                actual = f"that of {other.spec.method}, seed {other.spec.seed}, {other.file}"
                yield run, Fault("same-mask", "a mask of its own", shorten(actual), "warning")


def _differ(run: Run, other: Run) -> bool:
    """Return whether two runs should have different masks."""
    mine, theirs = run.spec, other.spec
    if mine.method.name != theirs.method.name or mine.seed != theirs.seed:
        return True
    # Options of ours are known to exist and to differ; some choose the weights and not the mask.
    return mine.method != theirs.method and not owns(mine, "method")


def _closed(runs: Sequence[Run]) -> Iterator[RunFault]:
    """Find new runs in published cells, and new rows of the floors on published tracks."""
    for track in _group_by(runs, _track).values():
        if all(run.new for run in track):
            continue
        for cell in _group_by(track, _cell).values():
            seeds = sorted(run.spec.seed for run in cell if not run.new)
            floor = str(cell[0].spec.method) in FLOORS and cell[0].spec.control == "none"
            # A stranger's seed would change the mean and the verdicts of somebody else.
            actual = f"seeds {seeds} are published" if seeds else "a row of the maintainers"
            expected = f"no new runs of {cell[0].spec.method} at {cell[0].spec.density:g}"
            if seeds or floor:
                for run in cell:
                    if run.new:
                        yield run, Fault("closed", shorten(expected), shorten(actual))


def _seeds(runs: Sequence[Run]) -> Iterator[RunFault]:
    """Find cells with a new run that lack a seed which other cells of the track have.

    `dense` and `random` may have more seeds than the methods, and need as many.
    """
    for track in _group_by(runs, _track).values():
        cells = _group_by(track, _cell)
        new_cells = {cell: group for cell, group in cells.items() if any(r.new for r in group)}
        if not new_cells:
            continue
        baselines = {cell: group for cell, group in cells.items() if _is_baseline(group[0])}
        methods = [group for cell, group in new_cells.items() if cell not in baselines]
        # Leaving out a bad seed improves a mean, so all cells must have the same seeds.
        judged = methods or list(new_cells.values())
        least = max((len(_seeds_of(group)) for group in baselines.values()), default=0)
        highest = max(run.spec.seed for group in judged for run in group)
        due = set(range(max(1 + highest, min(least, FEWEST_SEEDS))))
        for group in [*judged, *baselines.values()]:
            own = _seeds_of(group)
            if missing := sorted((due | set(range(max(own)))) - own):
                # An author can act on a new run, but not on a published one.
                run = next((run for run in group if run.new), group[0])
                expected = f"seeds 0 to {max(due)} of {run.spec.method} at {run.spec.density:g}"
                yield run, Fault("seeds", shorten(expected), shorten(f"without {missing}"))
            # One seed gives no interval, so its cell cannot be ranked.
            elif len(due) == 1 and group in methods:
                yield group[0], Fault("seeds", "two or more seeds", "one seed", "warning")
        yield from _missing_baselines(cells, new_cells)


def _seeds_of(group: Sequence[Run]) -> set[int]:
    return {run.spec.seed for run in group}


def _missing_baselines(
    cells: Mapping[Hashable, Sequence[Run]], new_cells: Mapping[Hashable, Sequence[Run]]
) -> Iterator[RunFault]:
    present = set()
    for group in filter(lambda group: _is_baseline(group[0]), cells.values()):
        spec = group[0].spec
        present.add((spec.method.name, spec.density))
        for run in group:
            # Without this seed the floor is too high or too low for everybody.
            if run.new and run.record.status == "diverged":
                expected = f"an accuracy of {spec.method.name} at {spec.density:g}"
                actual = f"seed {run.spec.seed} diverged"
                yield run, Fault("baselines", expected, actual, "warning")
    for group in new_cells.values():
        density = group[0].spec.density
        due = [("dense", 1.0), *([("random", density)] if density < 1 else [])]
        for needed in due:
            if needed not in present:
                present.add(needed)  # so that it is reported once
                expected = f"{needed[0]} at density {needed[1]:g}"
                yield group[0], Fault("baselines", expected, "none")


def _is_baseline(run: Run) -> bool:
    plain = not run.spec.method.options and run.spec.control == "none"
    return plain and run.spec.method.name in BASELINES


def _track(run: Run) -> Hashable:
    return run.spec.setting


def _cell(run: Run) -> Hashable:
    return json.dumps(run.spec.model_copy(update={"seed": 0}).canonical, sort_keys=True)


def _group_by(
    runs: Iterable[Run], value: Callable[[Run], Hashable]
) -> Mapping[Hashable, list[Run]]:
    groups: dict[Hashable, list[Run]] = defaultdict(list)
    for run in runs:
        groups[value(run)].append(run)
    return groups


def _outliers(
    runs: Sequence[Run], value: Callable[[Run], Hashable]
) -> Iterator[tuple[Run, Hashable]]:
    """Yield each new run whose value is not the expected one, with the expected value.

    Published runs give the expected value, or else the majority does; it is None in a tie.
    """
    all_values = Counter(map(value, runs))
    if len(all_values) < 2:
        return
    trusted = Counter(value(run) for run in runs if not run.new) or all_values
    (expected, most), *others = trusted.most_common(2)
    # In a tie nobody can say which value is right, so all new runs are reported.
    if others and others[0][1] == most:
        expected = None
    for run in runs:
        if run.new and value(run) != expected:
            yield run, expected
