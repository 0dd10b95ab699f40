"""A spec says what is to be run: plain values, checked, with a key that names the result."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_serializer,
    model_validator,
)

from paibench.methods.recipe import Recipe
from paibench.methods.registry import Kind, UserError, did_you_mean, find
from paibench.methods.signature import Option, Value, checked, describe

Control = Literal["none", "shuffle", "reinit", "invert"]
Init = Literal["kaiming_normal", "kaiming_uniform", "signed_constant", "xavier_normal", "native"]

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.:-]{0,63}")
_DEFAULTS = {"density": 1.0, "seed": 0, "init": "kaiming_normal", "control": "none"}


class Named(BaseModel):
    """A registered name with options: `"snip"` or `{"name": "snip", "per_class": 5}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    options: dict[str, Value] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_plain(cls, plain: Any) -> Any:
        if isinstance(plain, str):
            return {"name": plain}
        if isinstance(plain, dict) and "options" not in plain:
            options = {key: value for key, value in plain.items() if key != "name"}
            return {"options": options} | ({"name": plain["name"]} if "name" in plain else {})
        return plain

    @field_validator("name")
    @classmethod
    def _name_rule(cls, name: str) -> str:
        if not _NAME.fullmatch(name) or ".." in name:
            raise ValueError(f"{name[:80]!r} is no name: letters, digits, '_', '-', '.' and ':'")
        return name

    @model_serializer
    def _to_plain(self) -> str | dict[str, Value]:
        return {"name": self.name, **self.options} if self.options else self.name

    def __str__(self) -> str:
        shown = ", ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name}({shown})" if shown else self.name


class Spec(BaseModel):
    """One run, as plain values. Make it with `Spec.of`, which checks names and options."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    dataset: Named
    model: Named
    recipe: Named
    method: Named
    density: float = 1.0
    seed: int = Field(default=0, ge=0, lt=2**31)
    init: Init = "kaiming_normal"
    control: Control = "none"

    @field_validator("density", mode="before")
    @classmethod
    def _density_range(cls, density: Any) -> Any:
        if isinstance(density, int | float) and not isinstance(density, bool):
            if not (math.isfinite(density) and 0 < density <= 1):
                raise ValueError(
                    f"{density!r} is outside (0, 1]; give the fraction of weights kept"
                )
            return float(density)
        return density

    @classmethod
    def of(cls, **plain: Any) -> "Spec":
        """A checked spec: every name known, every option of its type, defaults left out.

        Raises UserError in one line that names the field, the value and what to do.
        """
        try:
            spec = cls.model_validate(plain)
        except ValueError as error:
            raise UserError(_explain(error, cls.model_fields)) from error
        named = {kind: _checked(kind, getattr(spec, field)) for field, kind in _KINDS.items()}
        if spec.method.name == "dense" and spec.density != 1:
            raise UserError(f"method dense keeps every weight: density {spec.density!r} must be 1")
        return spec.model_copy(update={field: named[kind] for field, kind in _KINDS.items()})

    @property
    def canonical(self) -> dict[str, Any]:
        """The spec as plain values with defaults left out: what the key is made of."""
        plain = self.model_dump(mode="json")
        return {key: value for key, value in plain.items() if value != _DEFAULTS.get(key)}

    @property
    def key(self) -> str:
        """40 hexadecimal digits that name this run wherever it is done."""
        text = json.dumps(self.canonical, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode("ascii")).hexdigest()[:40]

    def __str__(self) -> str:
        control = "" if self.control == "none" else f" {self.control}"
        where = f"{self.model} on {self.dataset}"
        return f"{self.method}{control} at {self.density:g}, {where}, seed {self.seed}"


_KINDS: dict[str, Kind] = {
    "dataset": "datasets",
    "model": "models",
    "recipe": "recipes",
    "method": "methods",
}


@cache
def recipe_options() -> dict[str, Option]:
    """The fields of a recipe that a spec may change, as options."""
    found = {}
    for field in fields(Recipe):
        choices = get_args(field.type)
        if choices and all(isinstance(choice, str) for choice in choices):
            found[field.name] = Option((), choices, None)
        elif isinstance(field.type, type):
            found[field.name] = Option((field.type.__name__,), (), None)
    return found


def _checked(kind: Kind, named: Named) -> Named:
    if kind == "models" and named.name.startswith("timm:"):
        return named  # its options are timm's own; they are checked when it is built
    entry = find(named.name, kind)
    what = f"{'data set' if kind == 'datasets' else kind.removesuffix('s')} {named.name}"
    options = recipe_options() if kind == "recipes" else describe(entry).options
    return Named(name=named.name, options=checked(what, options, named.options))


def recipe_of(named: Named) -> Recipe:
    """The recipe behind a name, with the changes that the spec makes to it."""
    recipe: Recipe = find(named.name, "recipes").load()
    return replace(recipe, **named.options)  # type: ignore[arg-type]


def _explain(error: ValueError, known: Mapping[str, object]) -> str:
    """The first complaint of pydantic as one line with the field, the value and the mend."""
    first = error.errors()[0] if hasattr(error, "errors") else {"msg": str(error)}
    place = ".".join(str(part) for part in first.get("loc", ())) or "spec"
    if first.get("type") == "extra_forbidden":
        return f"{place}: unknown key; {did_you_mean(place, known)}"
    if first.get("type") == "missing":
        return f"{place}: is missing"
    message = str(first["msg"]).removeprefix("Value error, ")
    given = first.get("input")
    shown = "" if repr(given)[:60] in message else f", not {given!r:.80}"
    return " ".join(f"{place}: {message}{shown}".split())
