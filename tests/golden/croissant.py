"""Makes results/croissant.json again: `python tests/golden/croissant.py`, from the top.

The file describes the published records for machines (mlcommons.org/croissant). Its fields are
those that are one value and that records of every schema have, since readers expect all of them.
"""

import json
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import mlcroissant as mlc

from paibench.benchmark.record import Record
from paibench.leaderboard.frame.columns import COLUMNS

FILE = Path(__file__).parents[2] / "results" / "croissant.json"
LATER = ("parameters", "ties", "channels", "channels_kept", "predictions_file")
TYPES = {str: mlc.DataType.TEXT, int: mlc.DataType.INTEGER, float: mlc.DataType.FLOAT,
         bool: mlc.DataType.BOOL}  # fmt: skip


def kind(annotation: Any) -> Any:
    """Return the type of a field that is one value, or None for a list or an object."""
    for part in (annotation, *get_args(annotation)):
        if part in TYPES:
            return TYPES[part]
        for inner in get_args(part):
            if inner in TYPES:
                return TYPES[inner]
            if isinstance(inner, str):  # one of several words
                return mlc.DataType.TEXT
    return None


def fields() -> dict[str, Any]:
    """Return the type of each field of the description."""
    kinds = {
        each.alias or name: kind(each.annotation)
        for name, each in Record.model_fields.items()
        if not str(each.annotation).startswith(("list", "dict"))
    }
    return {name: found for name, found in kinds.items() if found and name not in LATER}


def latest() -> datetime:
    """Return the day of the last published run."""
    records = FILE.parent.glob("*/runs/*/*.json")
    finished = max(json.loads(path.read_text())["environment"]["finished"] for path in records)
    return datetime.fromisoformat(finished[:10])


def metadata() -> Any:
    """Return the description of the published records."""
    records = mlc.FileSet(
        id="records",
        name="records",
        description="One JSON file per run; docs/record.schema.json of paibench is its schema.",
        encoding_formats=["application/json"],
        includes=["*/runs/*/*.json"],
    )
    runs = mlc.RecordSet(
        id="runs",
        name="runs",
        description="One run: a method at a density with a seed, trained and evaluated.",
        fields=[
            mlc.Field(
                id=f"runs/{name}",
                name=name,
                description=COLUMNS[name].meaning if name in COLUMNS else name,
                data_types=found,
                source=mlc.Source(file_set="records", extract=mlc.Extract(json_path=f"$.{name}")),
            )
            for name, found in fields().items()
        ],
    )
    return mlc.Metadata(
        name="paibench-results",
        description=(
            "Results of mask finders for pruning at initialization: accuracy, density, cost and "
            "environment of each run, by paibench. Masks, curves and predictions stand beside the "
            "records."
        ),
        license=["https://creativecommons.org/licenses/by/4.0/"],
        creators=[mlc.Organization(name="The paibench developers")],
        distribution=[records],
        record_sets=[runs],
        conforms_to="http://mlcommons.org/croissant/1.0",
        version=version("paibench"),
        date_published=latest(),
        cite_as="paibench and its results: CITATION.cff; the papers of the methods: methods.bib",
    )


def text() -> str:
    """Return the file."""
    return json.dumps(metadata().to_json(), indent=1, default=str) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
