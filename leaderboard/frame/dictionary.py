"""The page of the manual that says what each column of the frame of runs is."""

from collections.abc import Iterator

from paibench.leaderboard.frame.columns import ASKED, DERIVED, ENVIRONMENT, GIVEN, Column

_INTRODUCTION = """\
# The frame of runs

What `paibench.leaderboard.load` gives: a pandas frame with a row per run.

```python
from paibench.leaderboard import load

runs = load("results/mnist-lenet")
runs.groupby(["method_label", "density_asked"])["accuracy"].agg(["mean", "std", "count"])
```

Runs that failed, and runs that a sweep of the store asks for and nobody has done, are rows too: \
`status` says which, and what they did not give is empty. Group by `dataset`, `model`, `recipe`, \
`init`, `split` and `protocol` before you average, and mind `control`. Accuracies are fractions; \
the columns that end in `_percent` are for display. The Parquet file of a leaderboard has the same \
columns, each with its meaning as the `description` of the field.

This page is made from the code: `python -c \
"from paibench.leaderboard.frame.dictionary import page; print(page(), end='')" > docs/frame.md`.
"""

_TYPES = {
    "str": "text",
    "int64": "whole number",
    "Int64": "whole number or empty",
    "float64": "number or empty",
    "boolean": "true, false or empty",
    "object": "list",
}
_PARTS = {
    "What was asked for": (ASKED, "From the spec, so every row has it."),
    "What came of it": (GIVEN, "Empty where a run gave no record, or its record does not say."),
    "Where it was made": (ENVIRONMENT, "From the environment of the record."),
    "Computed for display and comparison": (DERIVED, "From the other columns."),
}


def page() -> str:
    """The text of docs/frame.md."""
    return "\n".join([_INTRODUCTION, *_sections()])


def _sections() -> Iterator[str]:
    for title, (columns, words) in _PARTS.items():
        yield f"## {title}\n\n{words}\n\n| column | dtype | holds | meaning |\n|---|---|---|---|"
        yield "\n".join(_row(name, column) for name, column in columns.items()) + "\n"


def _row(name: str, column: Column) -> str:
    meaning = column.meaning.replace("|", "\\|")
    return f"| `{name}` | `{column.dtype}` | {_TYPES[column.dtype]} | {meaning} |"
