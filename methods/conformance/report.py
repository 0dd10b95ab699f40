"""The names of the cases, the result of one case, and the report of a method."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

CASES: dict[str, str] = {
    "options": "options are keyword-only, of plain types, and their defaults say nothing new",
    "covers": "the mask covers exactly the prunable weights, by name and shape",
    "count": "exactly round(density * N) weights are kept, at six densities from all to one",
    "finite": "every score is a finite number",
    "same-seed": "the same seed gives the same mask, bit for bit",
    "seed": "what is drawn comes from task.generator, and something decides the mask",
    "again": "a search leaves nothing behind that changes the next one",
    "untouched": "network, data and all that is global are as before",
    "batch-norm": "a network with batch norms, a skip, grouped and depthwise convolutions",
    "tied": "a network that uses one weight twice",
    "bias-free": "a network without biases",
    "transformer": "a block of self-attention",
    "float64": "a network in double precision",
    "cost": "examples that pass forward and backward are counted",
    "memo": "a search that was killed at any stage resumes to the same mask",
    "better": "the mask is not clearly worse than a random one where half of the network is dead",
    "gpu": "the same on a GPU",
}

OTHER = {"sandbox": "a search in the sandbox of this machine finds the same mask, twice"}
"""Cases that the harness adds, see `paibench check-method`."""

Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Result:
    """How a case went; a failed one says what was expected and what came, a skipped one why."""

    case: str
    outcome: Outcome
    expected: str = ""
    came: str = ""
    seconds: float = 0.0

    @property
    def plain(self) -> dict[str, Any]:
        """The result as JSON values."""
        return asdict(self)

    @property
    def words(self) -> str:
        """What is to be said of it besides its outcome."""
        return f"expected {self.expected}; came {self.came}" if self.expected else self.came


@dataclass(frozen=True)
class Report:
    """All results of one method, and where and with what they were obtained."""

    method: str
    results: Sequence[Result]
    about: dict[str, str]

    @property
    def conforms(self) -> bool:
        """Whether no case failed."""
        return all(result.outcome != "failed" for result in self.results)

    @property
    def verdict(self) -> str:
        """How many cases went how, in words."""
        outcomes = [result.outcome for result in self.results]
        kinds: tuple[Outcome, ...] = ("passed", "failed", "skipped")
        counts = [f"{outcomes.count(kind)} {kind}" for kind in kinds if kind in outcomes]
        return f"{self.method} {'conforms' if self.conforms else 'does not conform'}: " + ", ".join(
            counts
        )

    def to_json(self) -> str:
        """The report as a JSON text."""
        plain = {
            "method": self.method,
            "conforms": self.conforms,
            **self.about,
            "cases": [result.plain | {"states": states(result)} for result in self.results],
        }
        return json.dumps(plain, indent=2) + "\n"

    def to_markdown(self) -> str:
        """The report as a table for a pull request."""
        lines = [f"# {_cell(self.verdict)}", ""]
        lines += [f"- {name}: {_cell(value)}" for name, value in self.about.items()]
        lines += ["", "| case | states | outcome |", "| --- | --- | --- |"]
        for result in self.results:
            said = f"**{result.outcome}**" if result.outcome == "failed" else result.outcome
            said += f": {_cell(result.words)}" if result.words else ""
            lines.append(f"| {result.case} | {_cell(states(result))} | {said} |")
        return "\n".join(lines) + "\n"


def states(result: Result) -> str:
    """The fact that a case states."""
    return CASES.get(result.case) or OTHER[result.case]


def _cell(text: str) -> str:
    """A text as it may stand in a cell of Markdown, whoever wrote it."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    for sign in "\\|`*_<>[]":
        plain = plain.replace(sign, f"\\{sign}")
    return plain
