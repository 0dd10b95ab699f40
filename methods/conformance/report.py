"""The names of the cases, the result of one case, and the report of a method."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

# cases run in this order
CASES: dict[str, str] = {
    "options": "options are keyword-only and of plain types; passing defaults changes nothing",
    "covers": "the mask covers exactly the prunable weights, by name and shape",
    "count": "exactly round(density * N) weights are kept, at six densities from 1 to 1 / N",
    "finite": "every score is a finite number",
    "same-seed": "the same seed gives the same mask, bit for bit",
    "seed": "random numbers and lots come from the seed, and the mask depends on it",
    "again": "a search does not influence later ones",
    "untouched": "network, data and global state are unchanged",
    "batch-norm": "a network with batch norms, a shortcut, grouped and depthwise convolutions",
    "tied": "a network that uses one weight twice",
    "bias-free": "a network without biases",
    "transformer": "a block of self-attention",
    "float64": "a network in double precision",
    "cost": "examples that pass forward and backward are counted",
    "memo": "a search that is killed at any stage resumes to the same mask",
    "better": "the mask is not clearly worse than a random one if half of the network is dead",
    "gpu": "two searches on a GPU give the same mask",
}

# the sandbox belongs to the harness, which this room must not import
OTHER = {"sandbox": "two searches in the sandbox of this machine give the same mask"}
"""Cases that the harness adds, see `paibench check-method`."""

Outcome = Literal["passed", "failed", "skipped"]


class CaseFailed(AssertionError):
    """A finder breaks the contract."""

    def __init__(self, expected: str, actual: str) -> None:
        super().__init__(f"expected {expected}; got {actual}")
        self.expected = expected
        self.actual = actual


class NotApplicable(Exception):
    """A case cannot run for this finder or on this machine."""


@dataclass(frozen=True)
class Result:
    """The outcome of a case; `actual` is also the reason of a skipped one."""

    case: str
    outcome: Outcome
    expected: str = ""
    actual: str = ""
    seconds: float = 0.0

    @property
    def plain(self) -> dict[str, Any]:
        """The result as JSON values."""
        return asdict(self)

    @property
    def details(self) -> str:
        """What was expected and what was found, or why the case was skipped."""
        if not self.expected:
            return self.actual
        return f"expected {self.expected}; got {self.actual}"


@dataclass(frozen=True)
class Report:
    """All results of one method, with the versions that they were obtained with."""

    method: str
    results: Sequence[Result]
    about: dict[str, str]

    @property
    def conforms(self) -> bool:
        """Whether no case failed."""
        # a skipped case, such as `gpu` on a machine without one, is no failure
        return all(result.outcome != "failed" for result in self.results)

    @property
    def verdict(self) -> str:
        """One line with the number of cases by outcome."""
        outcomes = [result.outcome for result in self.results]
        kinds: tuple[Outcome, ...] = ("passed", "failed", "skipped")
        counts = [f"{outcomes.count(kind)} {kind}" for kind in kinds if kind in outcomes]
        return f"{self.method} {'conforms' if self.conforms else 'does not conform'}: " + ", ".join(
            counts
        )

    def to_json(self) -> str:
        """Return the report as JSON."""
        plain = {
            "method": self.method,
            "conforms": self.conforms,
            **self.about,
            "cases": [result.plain | {"states": states(result)} for result in self.results],
        }
        return json.dumps(plain, indent=2) + "\n"

    def to_markdown(self) -> str:
        """Return the report as a Markdown table for a pull request."""
        lines = [f"# {_cell(self.verdict)}", ""]
        lines += [f"- {name}: {_cell(value)}" for name, value in self.about.items()]
        lines += ["", "| case | states | outcome |", "| --- | --- | --- |"]
        for result in self.results:
            text = f"**{result.outcome}**" if result.outcome == "failed" else result.outcome
            text += f": {_cell(result.details)}" if result.details else ""
            lines.append(f"| {result.case} | {_cell(states(result))} | {text} |")
        return "\n".join(lines) + "\n"


def states(result: Result) -> str:
    """Return the fact that a case states."""
    return CASES.get(result.case) or OTHER[result.case]


def _cell(text: str) -> str:
    """Escape a text of a third party for a cell of a Markdown table."""
    # a line break would end the row of the table
    plain = "".join(c if c.isprintable() else " " for c in text)
    # the backslash comes first, because it would otherwise escape the other escapes
    for sign in "\\|`*_<>[]":
        plain = plain.replace(sign, f"\\{sign}")
    return plain
