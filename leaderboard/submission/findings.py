"""The findings of validation: one per fault, from checks that each have a name and a fix."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "note"]
# The worst first, because reports have this order.
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class Check(NamedTuple):
    """What a check requires of a submission, and what its author can do if it fails."""

    requires: str
    fix: str


_RESTORE = "restore the record that the run wrote"
_RERUN = "run it again with this version of paibench"
_OWN_MASK = "submit the mask that this run found"

# The table of checks in docs/publishing.md is this one, and a test compares the two.
CHECKS: Mapping[str, Check] = {
    "file": Check(
        "every file is a regular file, not larger than its kind may be",
        "replace it by the file that `paibench export` writes",
    ),
    "unknown": Check(
        "the store contains only files that belong to published results",
        "remove the file; `paibench export` copies only what is published",
    ),
    "seal": Check(
        "a record is canonical JSON, and its checksum (the field `seal`) is correct",
        _RESTORE,
    ),
    "schema": Check(
        "a record has the fields of the published schema, and a finished run has all of them",
        "restore the record, or run it again with this version of paibench",
    ),
    "name": Check(
        "the file name of a record is its key",
        "name the file after the key of its record",
    ),
    "spec": Check(
        "a spec names options that exist, in canonical form, without defaults",
        "submit the spec as `paibench run` writes it",
    ),
    "key": Check(
        "the key of a record is the key of its spec",
        "run the changed spec; never edit a record",
    ),
    "protocol": Check("the protocol is the current one", _RERUN),
    "range": Check(
        "every number is possible: accuracies are counts over the examples, times are not negative",
        _RESTORE,
    ),
    "date": Check(
        "a run ends after it starts, and not in the future",
        "set the clock of the machine and run it again",
    ),
    "time": Check(
        "training and evaluation take no more seconds than the run, unless it was continued",
        "say in the pull request that the run was stopped and continued, or run it again",
    ),
    "text": Check(
        "text is printable and short, and is neither markup nor a formula",
        "run it again with plain names of host, device and plugin",
    ),
    "count": Check(
        "the mask keeps `round(density * N)` of N weights, and all counts agree",
        _RESTORE,
    ),
    "best": Check(
        "the best accuracy is the highest of the curve, at its earliest epoch",
        _RESTORE,
    ),
    "curve": Check(
        "the curve exists, has one point per epoch, and ends with the values of the record",
        "submit the curve that the run wrote, with `paibench export`",
    ),
    "predictions": Check(
        "the file of predictions exists, has one bit per example, and as many ones as the accuracy "
        "says",
        "submit the predictions that the run wrote, with `paibench export`",
    ),
    "mask-file": Check(
        "the mask exists, and its bytes match its name and its own digest",
        "submit the mask that the run wrote, with `paibench export --masks`",
    ),
    "mask-sha256": Check("the sha256 of the mask is the one in the record", _OWN_MASK),
    "mask-layers": Check("the mask has the layers and sizes that the record states", _OWN_MASK),
    "mask-kept": Check(
        "the mask keeps as many weights in every layer as the record states", _OWN_MASK
    ),
    "plugin": Check(
        "a third party's method has a distribution, a version, an origin and a digest",
        "install the method as a distribution and run it again",
    ),
    "code": Check(
        "the code is a released version, from a commit without changes, with a torch and a Python "
        "that it supports",
        "run it from a commit",
    ),
    "cost": Check(
        "the examples that a third party's search counted explain its seconds",
        "count what the search passes through networks (`task.batches`, `task.fit`, `task.count`)",
    ),
    # Methods are compared in pairs, which needs equal starts, layers and data.
    "initial": Check(
        "runs of one data set, model, init and seed start from equal weights, and our own models "
        "from those that are known",
        _RERUN,
    ),
    "layers": Check("runs of one data set and model have equal layers", _RERUN),
    "data": Check(
        "runs on one data set use equal data, and on our own data sets the published data and "
        "numbers of examples",
        "use the data that `paibench prepare` checks",
    ),
    "seeds": Check(
        "the cells of a submission have the same seeds 0 to k - 1; k is at least 5, or the number "
        "of seeds of `dense` and `random` if they have fewer; these have at least as many",
        "run the missing seeds; none may be left out",
    ),
    "closed": Check(
        "published cells get no new seeds, and published tracks no new rows of the random floors "
        "or of `dense`",
        "open an issue; only maintainers add to a published cell, with `--maintainer`",
    ),
    "baselines": Check(
        "every track has `dense`, and `random` at each density of a method, none of which diverged",
        "run `dense` and `random` too, with the same seeds; a recipe at which they diverge ranks "
        "nobody",
    ),
    # Different seeds do not give equal weights, unless the mask disconnects the network.
    "copied": Check(
        "no two seeds have equal trained weights, or equal losses and accuracies",
        "run every seed",
    ),
    "same-mask": Check(
        "no two methods, no two seeds and no two rows of a method find the same mask",
        "find out whether one was given the mask of the other, or an option makes no difference",
    ),
    "duplicate": Check("a run is published once", "remove one of the two records"),
    "sweep": Check(
        "a sweep file is named after its list of runs, and every run after its key",
        "restore the file that `paibench sweep` wrote",
    ),
    "missing": Check(
        "every run of a submitted sweep has a record",
        "finish the sweep, or explain the gap in the pull request",
    ),
    "changed": Check(
        "published files are unchanged, byte for byte",
        "restore the file; report a new result for an old spec as an issue",
    ),
    "removed": Check("no published file is missing", "restore the file"),
    "mark": Check(
        "a submission contains no marks",
        "remove the folder `marks`; only maintainers add marks",
    ),
}


class Fault(NamedTuple):
    """A failed check, before its file is known."""

    check: str
    expected: str
    actual: str
    severity: Severity = "error"


@dataclass(frozen=True)
class Finding:
    """A failed check of one file: what was expected, what is there, and how to fix it."""

    severity: Severity
    file: str
    key: str | None
    check: str
    expected: str
    actual: str
    fix: str


def finding(file: str, key: str | None, fault: Fault) -> Finding:
    """Return the finding for a fault of a file."""
    check, expected, actual, severity = fault
    return Finding(severity, file, key, check, expected, actual, CHECKS[check].fix)


def shorten(value: object) -> str:
    """Return any value of a record as text of at most 80 characters."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, or deep nesting
        return f"a {type(value).__name__} that is too long to print"
    # The text may come from a hostile record; a finding quotes no more of it than it needs.
    return text if len(text) <= 80 else f"{text[:79]}…"
