"""The command on the page of a run repeats this run."""

import shlex
from collections.abc import Callable
from typing import Any

import pytest

from paibench.benchmark.record import Record
from paibench.benchmark.spec import KINDS, Spec
from paibench.commands import options
from paibench.leaderboard.site.runs import command

RecordFactory = Callable[..., Record]
FLAGS = {"method": "method", "dataset": "data", "model": "model", "recipe": "recipe"}


def spec_of(line: str, density: float, seed: int) -> Spec:
    """Return the spec that `paibench run` makes from a command line."""
    words = shlex.split(line)[2:]
    options_of: dict[str, list[str]] = {}
    for flag, value in zip(words[::2], words[1::2], strict=True):
        options_of.setdefault(flag.removeprefix("--"), []).append(value)
    named = {
        field: options.named(
            KINDS[field], options_of[field][0], options_of.get(f"{flag}-option", [])
        )
        for field, flag in FLAGS.items()
    }
    others = {name: options_of[name][0] for name in ("init", "control") if name in options_of}
    return Spec.of(**named, **others, density=density, seed=seed)


def of_folder(factory: RecordFactory, path: str) -> Spec:
    return Spec.read(factory(dataset={"name": "imagefolder", "path": path}).spec)


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
    """The spec that `paibench run` reads from the command has the key of the run."""
    spec = Spec.read(record_factory(**fields).spec)
    line = command(spec)
    assert line is not None
    assert spec_of(line, spec.density, spec.seed).key == spec.key


LIKE_ANOTHER = pytest.mark.parametrize("text", ["5", "true", "None", "1e3", "nan"])


@LIKE_ANOTHER
def test_text_that_looks_like_another_value_is_read_back(
    record_factory: RecordFactory, text: str
) -> None:
    """The command gives the option as it is, because a path is always text."""
    spec = of_folder(record_factory, text)
    line = command(spec)
    assert line is not None
    assert spec_of(line, spec.density, spec.seed).key == spec.key


@LIKE_ANOTHER
@pytest.mark.parametrize(
    "fields",
    [{"model": {"name": "timm:resnet18"}}, {"dataset": {"name": "not-installed-here"}}],
    ids=["timm", "plugin"],
)
def test_text_of_an_unknown_type_that_looks_like_another_value_cannot_be_typed(
    record_factory: RecordFactory, fields: dict[str, dict[str, str]], text: str
) -> None:
    """Without a declared type it would be read as a number or a constant, so it has no command."""
    [(field, name)] = fields.items()
    assert command(Spec.read(record_factory(**{field: name | {"kind": text}}).spec)) is None
    assert command(Spec.read(record_factory(**{field: name | {"kind": "x"}}).spec)) is not None


def test_text_is_quoted_for_the_shell(record_factory: RecordFactory) -> None:
    """An option with spaces and quotes stays one word."""
    line = command(of_folder(record_factory, "a b; rm $HOME'"))
    assert line is not None
    assert "path=a b; rm $HOME'" in shlex.split(line)


def test_a_method_in_a_file_has_a_placeholder(record_factory: RecordFactory) -> None:
    """The command has a placeholder for a local file, which only its author has."""
    line = command(Spec.read(record_factory(method="local:mine.0123456789ab").spec))
    assert line is not None
    assert "--method path/to/file.py:function" in line
