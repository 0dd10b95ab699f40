"""The key of a spec: the same for the same run however it is written, different for any other."""

import importlib
import json
import random
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paibench.benchmark.spec import DEFAULTS, Named, Spec, recipe_of, short_repr
from paibench.methods.core.registry import Kind, UserError, find, get, names
from paibench.methods.core.signature import describe

GOLDEN = Path(__file__).parents[1] / "golden"
KINDS: tuple[Kind, ...] = ("datasets", "models", "methods")
BASE: dict[str, Any] = {
    "dataset": "digits",
    "model": "lenet-300-100",
    "recipe": "lite",
    "method": "snip",
    "density": 0.1,
}

named = {
    "dataset": st.sampled_from(["digits", "mnist", {"name": "digits", "validation": 0.125}]),
    "model": st.sampled_from(["conv-2", {"name": "resnet-20", "width": 0.5, "affine": False}]),
    "recipe": st.sampled_from(["lite", {"name": "lite", "epochs": 3, "lr": 1.0}]),
    "method": st.sampled_from(["random", {"name": "snip", "per_class": 5, "abs": "batch"}]),
}
specs = st.fixed_dictionaries(
    {
        **named,
        "density": st.floats(min_value=1e-9, max_value=1.0),
        "seed": st.integers(0, 2**31 - 1),
        "init": st.sampled_from(["kaiming_normal", "signed_constant"]),
        "control": st.sampled_from(["none", "shuffle"]),
    }
)


def same_written_otherwise(plain: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """Return the same values in another order of keys, with whole floats as integers."""
    items = list(plain.items())
    chance.shuffle(items)
    return {
        key: same_written_otherwise(value, chance)
        if isinstance(value, dict)
        else int(value)
        if isinstance(value, float) and value.is_integer()
        else value
        for key, value in items
    }


def refusal(**changes: Any) -> str:
    """Return the error for a spec with these changes; None removes a field."""
    plain = {key: value for key, value in (BASE | changes).items() if value is not None}
    with pytest.raises(UserError) as caught:
        Spec.of(**plain)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 400
    return message


@pytest.mark.parametrize(
    "golden", json.loads((GOLDEN / "keys.json").read_text()), ids=lambda golden: golden["key"][:8]
)
def test_golden_keys(golden: dict[str, Any]) -> None:
    """Keys never change, because records are named by them."""
    assert Spec.of(**golden["spec"]).key == golden["key"]


def test_golden_defaults() -> None:
    """A default never changes its value, for it is not in the key.

    New behaviour is a new option, whose default is then pinned in tests/golden/defaults.json.
    """
    now = {
        kind: {
            name: {key: option.default for key, option in found.options.items()}
            for name in names(kind)
            if (found := describe(find(name, kind))).options
        }
        for kind in KINDS
    }
    recipes = {name: asdict(get(name, "recipes")) for name in names("recipes")}
    assert json.loads((GOLDEN / "defaults.json").read_text()) == json.loads(
        json.dumps({**now, "recipes": recipes})
    )


def test_the_key_is_the_same_in_another_process() -> None:
    """The key depends neither on hash randomization nor on earlier work of the process."""
    code = f"from paibench.benchmark.spec import Spec; print(Spec.of(**{BASE!r}).key)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONHASHSEED": "7"}
    )
    assert done.stdout == f"{Spec.of(**BASE).key}\n"


@settings(derandomize=True, max_examples=200, deadline=None)
@given(plain=specs, chance=st.randoms(use_true_random=False))
def test_the_same_written_otherwise_has_the_same_key(
    plain: dict[str, Any], chance: random.Random
) -> None:
    """The key depends neither on the order of keys nor on the spelling of whole numbers."""
    spec = Spec.of(**plain)
    assert Spec.of(**same_written_otherwise(plain, chance)).key == spec.key
    assert Spec.model_validate(json.loads(json.dumps(spec.canonical))) == spec


@settings(derandomize=True, max_examples=200, deadline=None)
@given(first=specs, second=specs)
def test_another_run_has_another_key(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Two specs have one key exactly when all their values are equal."""
    assert (Spec.of(**first).key == Spec.of(**second).key) == (first == second)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dataset", "mnist"),
        ("model", {"name": "lenet-300-100", "width": 0.5}),
        ("recipe", {"name": "lite", "lr": 0.1}),
        ("method", {"name": "snip", "per_class": 11}),
        ("density", 0.1 + 1e-16),
        ("seed", 1),
        ("init", "native"),
        ("control", "invert"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_field_is_in_the_key(field: str, value: object) -> None:
    """Changing any one field gives another key."""
    assert Spec.of(**BASE | {field: value}).key != Spec.of(**BASE).key


@pytest.mark.parametrize(
    "explicit",
    [
        {"seed": 0, "init": "kaiming_normal", "control": "none"},
        {"method": {"name": "snip", "per_class": 10, "mode": "train"}},
        {"model": {"name": "lenet-300-100", "width": 1}},
        {"dataset": {"name": "digits", "examples": None, "validation": 0}},
        {"dataset": {"name": "digits", "validation": -0.0}},
        {"recipe": {"name": "lite", "epochs": 20, "lr": 0.05, "warmup": 0}},
    ],
    ids=["fields", "method", "model", "dataset", "negative zero", "recipe"],
)
def test_an_explicit_default_is_not_in_the_key(explicit: dict[str, Any]) -> None:
    """Options at their default leave the key as it is, a recipe's own settings too."""
    assert Spec.of(**BASE | explicit).key == Spec.of(**BASE).key


def test_density_one_is_the_default() -> None:
    """The dense run has one key, whether its density is left out, 1 or 1.0."""
    plain = {key: BASE[key] for key in ("dataset", "model", "recipe")} | {"method": "dense"}
    assert {Spec.of(**plain, **more).key for more in ({}, {"density": 1}, {"density": 1.0})} == {
        Spec.of(**plain).key
    }


def test_defaults_are_the_fields_defaults() -> None:
    """The canonical form leaves out exactly the defaults of the fields."""
    fields = {name: field.default for name, field in Spec.model_fields.items()}
    assert {name: fields[name] for name in DEFAULTS} == DEFAULTS
    assert all(fields[name] not in DEFAULTS.values() for name in fields.keys() - DEFAULTS.keys())


def test_text_has_one_spelling() -> None:
    """The two Unicode forms of an accented letter are one value."""
    composed, combining = ({"name": "imagefolder", "path": p} for p in ("caf\xe9", "cafe\u0301"))
    assert Spec.of(**BASE | {"dataset": composed}) == Spec.of(**BASE | {"dataset": combining})


def test_in_words() -> None:
    """The text of a spec has everything that is not a default."""
    spec = Spec.of(**BASE | {"method": {"name": "snip", "per_class": 5}, "control": "shuffle"})
    assert str(spec) == "snip(per_class=5) shuffle at 0.1, lenet-300-100 on digits, seed 0"


def test_any_timm_model_goes_through() -> None:
    """A timm model's options are timm's own, checked when it is built; their values are plain."""
    spec = Spec.of(**BASE | {"model": {"name": "timm:vit_tiny_patch16_224", "depth": 2}})
    assert spec.model.options == {"depth": 2}
    assert Spec.of(
        **BASE | {"model": {"name": "timm:test_resnet", "allow_unprunable": False}}
    ).model == (Named(name="timm:test_resnet"))
    assert "allow_unprunable takes bool" in refusal(
        model={"name": "timm:test_resnet", "allow_unprunable": 3}
    )
    assert refusal(model={"name": "timm:test_resnet", "depth": [2]}).startswith(
        "model: option depth takes"
    )


def test_a_recipe_is_changed_by_the_spec() -> None:
    """The recipe of a run is the named one with the changes of the spec."""
    recipe = recipe_of(Named.model_validate({"name": "conv", "epochs": 7, "nesterov": True}))
    assert (recipe.epochs, recipe.nesterov, recipe.lr) == (7, True, get("conv", "recipes").lr)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "snipp"}, "unknown method 'snipp'; did you mean snip?"),
        ({"model": "resnet20"}, "unknown model 'resnet20'; did you mean resnet-20 or"),
        ({"dataset": "cifar_10"}, "unknown data set 'cifar_10'; did you mean cifar10"),
        ({"recipe": "light"}, "unknown recipe 'light'; did you mean lite?"),
        ({"method": {"name": "snip", "perclass": 1}}, "method snip has no option 'perclass'; did"),
        ({"model": {"name": "conv-2", "with": 1}}, "model conv-2 has no option 'with'; did you me"),
        ({"recipe": {"name": "lite", "epoch": 1}}, "recipe lite has no option 'epoch'; did you m"),
        ({"dataset": {"name": "digits", "n": 1}}, "data set digits has no option 'n'; known: exam"),
        ({"method": {"name": "snip", "per_class": 1.5}}, "method snip: option per_class takes int"),
        ({"method": {"name": "snip", "per_class": True}}, "method snip: option per_class takes in"),
        ({"recipe": {"name": "lite", "drops": 1}}, "recipe lite has no option 'drops'"),
        ({"recipe": {"name": "lite", "epochs": 0}}, "recipe lite: option epochs takes int in ["),
        (
            {"recipe": {"name": "lite", "momentum": 0, "nesterov": True}},
            "recipe lite(momentum=0.0, nesterov=True): nesterov = True needs a momentum above 0",
        ),
        (
            {"recipe": {"name": "lite", "warmup": 20}},
            "recipe lite(warmup=20): warmup = 20 leaves none of 20 epochs",
        ),
        ({"model": "timm:resnet18x"}, "model timm:resnet18x: timm has no network 'resnet18x'; did"),
        (
            {"model": {"name": "timm:resnet18", "widht": 1}},
            "model timm:resnet18 has no option 'widht'; known: ",
        ),
        (
            {"model": {"name": "timm:resnet18", "num_classes": 3}},
            "model timm:resnet18 has no option 'num_classes'; known: aa_layer",
        ),
        ({"methud": "snip"}, "methud: unknown key; did you mean method?"),
        ({"recipe": None}, "recipe: is missing; add it"),
        ({"method": {"per_class": 5}}, "method.name: is missing; add it"),
        ({"method": 5}, "method: Input should be a valid dictionary or instance of Named, not 5"),
        ({"method": {"name": 5}}, "method.name: Input should be a valid string, not 5"),
        ({"method": {"name": "snip", "options": 5}}, "method snip has no option 'options'"),
        ({"density": 0}, "density: 0 is outside (0, 1]; give the fraction of weights kept"),
        ({"density": -1}, "density: -1 is outside (0, 1]"),
        ({"density": 1.5}, "density: 1.5 is outside (0, 1]"),
        ({"density": float("nan")}, "density: nan is outside (0, 1]"),
        ({"density": float("inf")}, "density: inf is outside (0, 1]"),
        ({"density": 16**5000}, "density: <int, too long to print> is outside (0, 1]"),
        ({"density": True}, "density: Input should be a valid number, not True"),
        ({"density": "0.1"}, "density: Input should be a valid number, not '0.1'"),
        ({"seed": True}, "seed: Input should be a valid integer, not True"),
        ({"seed": 1.0}, "seed: Input should be a valid integer, not 1.0"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0, not -1"),
        ({"seed": 16**5000}, "seed: Input should be less than 2147483648, not <int, too"),
        ({"control": "shufle"}, "control: Input should be 'none', 'shuffle', 'reinit' or 'invert'"),
        ({"init": "he"}, "init: Input should be 'kaiming_normal', "),
        ({"method": "dense"}, "method dense keeps every weight: density 0.1 must be 1"),
    ],
    ids=lambda value: "" if isinstance(value, str) else short_repr(value)[1:45],
)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    """Each error is one line with the field, the value and what to give instead."""
    assert refusal(**changes).startswith(message)


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_has_a_range(kind: Kind) -> None:
    """Each number that our methods, models and data sets take is refused outside of its range."""
    field = {"datasets": "dataset", "models": "model", "methods": "method"}[kind]
    for name in names(kind):
        for key, option in describe(find(name, kind)).options.items():
            if {"int", "float"} & set(option.types):
                interval = option.interval
                assert interval, f"{name}: {key} declares no range"
                for value in (interval.low - 1, interval.high + 1):
                    if abs(value) < float("inf"):
                        number = int(value) if "int" in option.types else value
                        said = refusal(**{field: {"name": name, key: number}})
                        assert f"option {key} takes {option.describe()}, not {number!r}" in said


@pytest.mark.parametrize(
    "name",
    ["../x", "a/b", "..", "a..b", "", "a\0b", "a\nb", "-x", ".x", "a" * 300, "\x1b[31mx", "a b"]
    + ["\u202ex", "sn\u0456p", "timm:../x"],
    ids=lambda name: ascii(name)[1:16],
)
@pytest.mark.parametrize("field", ["dataset", "model", "recipe", "method"])
def test_hostile_names(field: str, name: str) -> None:
    """One rule for every name keeps paths, control characters, homoglyphs and lengths out."""
    assert refusal(**{field: name}).startswith(f"{field}.name: {name[:80]!r} is not a name; ")


@pytest.mark.parametrize(
    ("value", "takes"),
    [
        ([1, 5], "one plain value, not [1, 5]"),
        ({"a": 1}, "one plain value, not {'a': 1}"),
        (float("nan"), "a finite number, not nan"),
        (float("-inf"), "a finite number, not -inf"),
        (2**63, "a whole number of at most 64 bits, not 9223372036854775808"),
        (16**5000, "a whole number of at most 64 bits, not <int, too long to print>"),
        ("a\nb", "a printable text of at most 1,000 characters, not 'a\\nb'"),
        ("\u202ex", "a printable text of at most 1,000 characters, not '\\u202ex'"),
        ("\udcff", "a printable text of at most 1,000 characters, not '\\udcff'"),
        ("x" * 1001, f"a printable text of at most 1,000 characters, not '{'x' * 79}"),
    ],
    ids=["list", "table", "nan", "inf", "64 bits", "digits", "newline", "bidi", "half", "long"],
)
def test_hostile_values(value: object, takes: str) -> None:
    """An option is a plain value that has one spelling, or it is refused before anything else."""
    given = {"name": "snip", "per_class": value}
    assert refusal(method=given) == f"method: option per_class takes {takes}"


@pytest.mark.parametrize("key", ["", "a b", "a\n", "\u202e", "\xe9"], ids=ascii)
def test_hostile_options(key: str) -> None:
    """The name of an option is an identifier."""
    assert (
        refusal(method={"name": "snip", key: 1}) == f"method: {key!r} is not the name of an option"
    )


def test_nesting_without_end() -> None:
    """A value that cannot even be printed is refused by its type."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    message = refusal(method={"name": "snip", "per_class": deep})
    while deep:  # taken apart by hand: freeing it all at once overruns the stack in some Pythons
        deep = deep.pop()
    assert message.endswith("takes one plain value, not <list, too long to print>")


def test_an_entry_point_that_is_not_a_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error for a recipe entry point that is something else names the plugin."""
    module = importlib.import_module("paibench.benchmark.recipes")
    monkeypatch.setattr(module, "smoke", {"epochs": 1})
    assert refusal(recipe={"name": "smoke", "batch": 3}) == (
        "recipe smoke (paibench: paibench.benchmark.recipes:smoke) is broken: "
        "it is a dict, not a Recipe"
    )


@settings(derandomize=True, max_examples=100)
@given(st.recursive(st.integers() | st.text(), lambda inner: st.lists(inner) | st.tuples(inner)))
def test_short_repr_is_short_and_printable(value: object) -> None:
    """The text is at most 80 printable characters for any value."""
    assert len(short_repr(value)) <= 80
    assert short_repr(value).isprintable()
