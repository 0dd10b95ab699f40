"""The command on the page of a run is the one that does this run again."""

import shlex
from collections.abc import Callable
from typing import Any

import pytest

from paibench.benchmark.record import Record
from paibench.benchmark.spec import Spec
from paibench.commands import options
from paibench.leaderboard.frame.load import row_of, tabulate
from paibench.leaderboard.site.runs import command

RecordFactory = Callable[..., Record]
FLAGS = {"method": "method", "dataset": "data", "model": "model", "recipe": "recipe"}


def row(factory: RecordFactory, **fields: Any) -> dict[Any, Any]:
    """The row of a record in the frame."""
    (found,) = tabulate([row_of(factory(**fields))]).to_dict("records")
    return found


def spec_of(line: str, density: float, seed: int) -> Spec:
    """The spec that `paibench run` makes of a command line."""
    words = shlex.split(line)[2:]
    said: dict[str, list[str]] = {}
    for flag, value in zip(words[::2], words[1::2], strict=True):
        said.setdefault(flag.removeprefix("--"), []).append(value)
    named = {
        field: options.named(said[field][0], said.get(f"{flag}-option", []), f"--{flag}-option")
        for field, flag in FLAGS.items()
    }
    others = {name: said[name][0] for name in ("init", "control") if name in said}
    return Spec.of(**named, **others, density=density, seed=seed)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"method": {"name": "snip", "per_class": 5, "abs": "batch"}},
        {"model": {"name": "resnet-20", "width": 0.5}, "dataset": "cifar10"},
        {"recipe": {"name": "lenet-mnist", "epochs": 10, "momentum": 0.9, "schedule": "cosine"}},
        {"init": "signed_constant", "control": "reinit", "seed": 7, "density": 0.0123},
        {"method": "dense", "density": 1.0},
    ],
    ids=["plain", "method options", "model option", "recipe options", "others", "dense"],
)
def test_the_command_makes_the_same_spec(
    record_factory: RecordFactory, fields: dict[str, Any]
) -> None:
    """Read back as `paibench run` reads it, it has the key of the run."""
    run = row(record_factory, **fields)
    line = command(run)
    assert line is not None
    assert spec_of(line, run["density_asked"], run["seed"]).key == run["key"]


@pytest.mark.parametrize(
    "change",
    [
        {"method_label": "snip(per_class=6)"},
        {"method_label": "snip("},
        {"model": "<script>"},
        {"key": "0" * 40},
        {"density_asked": float("nan")},
    ],
    ids=["another option", "half a label", "no name", "another key", "no density"],
)
def test_what_does_not_fit_its_key_has_no_command(
    record_factory: RecordFactory, change: dict[str, Any]
) -> None:
    """A wrong command is worse than none."""
    assert command(row(record_factory) | change) is None


@pytest.mark.parametrize("text", ["5", "true", "None", "1e3", "nan"])
def test_text_that_looks_like_another_value_cannot_be_typed(
    record_factory: RecordFactory, text: str
) -> None:
    """The command line would read it as a number or a word of its own."""
    assert command(row(record_factory, dataset={"name": "imagefolder", "path": text})) is None


def test_text_is_quoted_for_the_shell(record_factory: RecordFactory) -> None:
    """Nothing in an option is anything but one word."""
    line = command(row(record_factory, dataset={"name": "imagefolder", "path": "a b; rm $HOME'"}))
    assert line is not None
    assert "path=a b; rm $HOME'" in shlex.split(line)


def test_a_file_of_its_author_is_named_as_such(record_factory: RecordFactory) -> None:
    """The name of a function in a file is made from the file, which the reader has to have."""
    line = command(row(record_factory, method="local:mine.0123456789ab"))
    assert line is not None
    assert "--method path/to/file.py:function" in line
