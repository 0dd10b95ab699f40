"""What validation says: one finding per fault, by checks that each have a name and a mend."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class Check(NamedTuple):
    """What a check holds a submission to, and what to do where it does not hold."""

    states: str
    mend: str


CHECKS: Mapping[str, Check] = {
    "file": Check(
        "every file is a plain file of at most the size that its kind may have",
        "put the file itself there, made by `paibench export`",
    ),
    "unknown": Check(
        "nothing lies there that is no part of published results",
        "remove it; `paibench export` copies only what is published",
    ),
    "seal": Check(
        "a record is canonical JSON whose seal fits",
        "restore the record that the run wrote",
    ),
    "schema": Check(
        "a record has the fields of the published schema, and all that a done run has",
        "restore the record, or make it with this version of paibench",
    ),
    "name": Check(
        "a record lies under its own key",
        "give the file the key of its record",
    ),
    "spec": Check(
        "a spec names options that exist, in its one spelling, defaults left out",
        "run the spec as `paibench run` writes it",
    ),
    "key": Check(
        "the key is that of the spec, computed again",
        "run the edited spec; a record is never edited",
    ),
    "protocol": Check(
        "the protocol is the one that is current",
        "run it again with this version of paibench",
    ),
    "range": Check(
        "every number is one that a run can give: accuracies are counts over the examples, "
        "times are not negative",
        "restore the record that the run wrote",
    ),
    "date": Check(
        "a run ends after it starts, and not in the future",
        "set the clock of the machine and run it again",
    ),
    "text": Check(
        "text is printable, short, and neither markup nor a formula",
        "run it where host, device and plugin have plain names",
    ),
    "count": Check(
        "the mask keeps `round(density * N)` of N weights, and the counts agree with each other",
        "restore the record that the run wrote",
    ),
    "best": Check(
        "the best accuracy is the highest of the curve, at its earliest epoch",
        "restore the record that the run wrote",
    ),
    "curve": Check(
        "the curve is there, has a point per epoch, and ends with what the record says",
        "submit the curve that the run wrote, with `paibench export`",
    ),
    "mask-file": Check(
        "the mask is there, and its bytes fit their name and their own digest",
        "submit the mask that the run wrote, with `paibench export --masks`",
    ),
    "mask-sha256": Check(
        "the mask's sha256, computed again, is that of the record",
        "submit the mask that this run found",
    ),
    "mask-layers": Check(
        "the mask has the layers and the sizes that the record says",
        "submit the mask that this run found",
    ),
    "mask-kept": Check(
        "the mask keeps in every layer as many weights as the record says",
        "submit the mask that this run found",
    ),
    "plugin": Check(
        "a method of a third party is named with its distribution, version, origin and digest",
        "install the method as a distribution and run it again",
    ),
    "code": Check(
        "the code is a version that is known, of a commit without changes",
        "run it from a commit",
    ),
    "initial": Check(
        "runs of one data set, model, init and seed start from equal weights",
        "run it again with this version of paibench",
    ),
    "layers": Check(
        "runs of one data set and model have equal layers",
        "run it again with this version of paibench",
    ),
    "data": Check(
        "runs on one data set saw equal data",
        "take the data that `paibench prepare` checks",
    ),
    "seeds": Check(
        "every cell of a track has the seeds 0 to k - 1, as many as `dense` and `random` have",
        "run the missing seeds; none may be left out",
    ),
    "floor": Check(
        "every track has `dense`, and `random` at each density of a method",
        "run `dense` and `random` too, on the same seeds",
    ),
    "copied": Check(
        "no two seeds have equal trained weights, or equal losses and accuracies",
        "run every seed",
    ),
    "same-mask": Check(
        "two methods do not find the same mask",
        "look into it: one of them may have been given the other's mask",
    ),
    "twice": Check(
        "a run is published once",
        "remove one of the two",
    ),
    "sweep": Check(
        "a sweep's file has the name of its list of runs, and every run its key",
        "restore the file that `paibench sweep` wrote",
    ),
    "missing": Check(
        "every run that a sweep of the submission asks for has a record",
        "finish the sweep, or say in the pull request why not",
    ),
    "changed": Check(
        "what is published already is the same byte for byte",
        "restore it; a new result for an old spec is an issue, not a submission",
    ),
    "removed": Check(
        "what is published already is still there",
        "restore it",
    ),
    "mark": Check(
        "a submission brings no marks",
        "remove the folder `marks`; maintainers add them",
    ),
}


class Fault(NamedTuple):
    """What is wrong in one record or file, before it is known which."""

    check: str
    expected: str
    came: str
    severity: Severity = "error"


@dataclass(frozen=True)
class Finding:
    """One fault: which file and run, by which check, what was expected, what came, what to do."""

    severity: Severity
    file: str
    key: str | None
    check: str
    expected: str
    came: str
    mend: str


def finding(file: str, key: str | None, fault: Fault) -> Finding:
    """A fault of a file, with its mend."""
    check, expected, came, severity = fault
    return Finding(severity, file, key, check, expected, came, CHECKS[check].mend)


def shown(value: object) -> str:
    """A value of a record as a finding shows it: at most 80 characters, whatever it is."""
    try:
        text = value if isinstance(value, str) else repr(value)
    except (ValueError, RecursionError):  # thousands of digits, nesting without end
        return f"a {type(value).__name__} too long to print"
    return text if len(text) <= 80 else f"{text[:79]}…"
