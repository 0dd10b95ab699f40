"""A spec says what is to be run: plain values, checked, with a key that names the result."""

import hashlib
import json
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_serializer,
    model_validator,
)

from paibench.methods.core.registry import Entry, Kind, UserError, did_you_mean, find
from paibench.methods.core.signature import Option, Value, checked, describe
from paibench.methods.training.recipe import Recipe

Control = Literal["none", "shuffle", "reinit", "invert"]
Init = Literal["kaiming_normal", "kaiming_uniform", "signed_constant", "xavier_normal", "native"]

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.:-]{0,63}")
_MANY = 4096
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
DEFAULTS = {"density": 1.0, "seed": 0, "init": "kaiming_normal", "control": "none"}


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
        if isinstance(plain, dict) and not isinstance(plain.get("options"), dict):
            options = {key: value for key, value in plain.items() if key != "name"}
            return {"options": options} | ({"name": plain["name"]} if "name" in plain else {})
        return plain

    @field_validator("name")
    @classmethod
    def _name_rule(cls, name: str) -> str:
        if not _NAME.fullmatch(name) or ".." in name:
            raise ValueError(f"{name[:80]!r} is no name: letters, digits, '_', '-', '.' and ':'")
        return name

    @field_validator("options", mode="before")
    @classmethod
    def _one_spelling(cls, options: dict[str, Any]) -> dict[str, Value]:
        return {key: _plain(key, options[key]) for key in sorted(options)}

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
            if not 0 < density <= 1:
                raise ValueError(
                    f"{short_repr(density)} is outside (0, 1]; give the fraction of weights kept"
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
        named = {field: _known(kind, getattr(spec, field)) for field, kind in _KINDS.items()}
        if spec.method.name == "dense" and spec.density != 1:
            raise UserError(f"method dense keeps every weight: density {spec.density!r} must be 1")
        return spec.model_copy(update=named)

    @classmethod
    def read(cls, plain: Any) -> "Spec":
        """The spec of a record: `model_validate`, with names that were met before known again."""
        try:
            met = {field: _met(plain[field]) for field in _KINDS}
        except (LookupError, TypeError, ValueError, RecursionError):
            return cls.model_validate(plain)
        return cls.model_validate({**plain, **met})

    @property
    def canonical(self) -> dict[str, Any]:
        """The spec as plain values with defaults left out: what the key is made of."""
        return {
            name: value._to_plain() if isinstance(value, Named) else value
            for name, value in vars(self).items()
            if value != DEFAULTS.get(name)
        }

    @property
    def key(self) -> str:
        """40 hexadecimal digits that name this run wherever it is done."""
        text = _ENCODER.encode(self.canonical)
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


def recipe_of(named: Named) -> Recipe:
    """The recipe behind a name, with the changes that the spec makes to it.

    Raises UserError when a change is out of range.
    """
    recipe = _recipe(find(named.name, "recipes"))
    try:
        return replace(recipe, **named.options)  # type: ignore[arg-type]
    except UserError as error:
        raise UserError(f"recipe {named}: {str(error).removeprefix('recipe: ')}") from None


def short_repr(value: object) -> str:
    """A value as a message shows it: on one line, at most 80 characters, whatever it is."""
    try:
        return repr(value)[:80]
    except (ValueError, RecursionError):  # thousands of digits, nesting without end
        return f"<{type(value).__name__}, too long to print>"


_MET: dict[str, Named] = {}


def _met(plain: Any) -> Named:
    """A name from plain values, the same object each time. Raises ValueError where it is none."""
    text = repr(plain)  # tells 1 from 1.0 and True
    named = _MET.get(text)
    if named is None:
        named = Named.model_validate(plain)
        if len(_MET) < _MANY and len(text) < 1000:
            _MET[text] = named
    return named


def _plain(key: str, value: Any) -> Value:
    """The value of an option in its one spelling. Raises ValueError where it has none."""
    if not (key.isidentifier() and key.isascii()) or key == "name":
        raise ValueError(f"{short_repr(key)} is no name of an option")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value + 0.0  # -0.0 is 0.0
    if isinstance(value, str) and value.isprintable() and len(value) <= 1000:
        return unicodedata.normalize("NFC", value)
    takes = {
        int: "a whole number of at most 64 bits",
        float: "a finite number",
        str: "a printable text of at most 1,000 characters",
    }.get(type(value), "one plain value")
    raise ValueError(f"option {key} takes {takes}, not {short_repr(value)}")


def _recipe(entry: Entry) -> Recipe:
    recipe = entry.load()
    if not isinstance(recipe, Recipe):
        raise UserError(f"recipe {entry.name}: {entry.value} is no Recipe")
    return recipe


def _recipe_options(recipe: Recipe) -> dict[str, Option]:
    """The plain fields of a recipe, which a spec may change, as options."""
    found = {}
    for field in fields(recipe):
        default, choices = getattr(recipe, field.name), get_args(field.type)
        if choices and all(isinstance(choice, str) for choice in choices):
            found[field.name] = Option((), choices, default)
        elif isinstance(field.type, type):
            found[field.name] = Option((field.type.__name__,), (), default)
    return found


def _known(kind: Kind, named: Named) -> Named:
    """The same with its options checked. Raises UserError for what is not known."""
    if kind == "models" and named.name.startswith("timm:"):
        return named  # its options are timm's own; they are checked when it is built
    return _checked(kind, find(named.name, kind), named.model_dump_json())


@lru_cache(maxsize=_MANY)  # a sweep says the same names thousands of times
def _checked(kind: Kind, entry: Entry, text: str) -> Named:
    named = Named.model_validate_json(text)
    what = f"{'data set' if kind == 'datasets' else kind.removesuffix('s')} {named.name}"
    if kind != "recipes":
        return Named(name=named.name, options=checked(what, describe(entry).options, named.options))
    options = _recipe_options(_recipe(entry))
    found = Named(name=named.name, options=checked(what, options, named.options))
    recipe_of(found)  # its ranges
    return found


def _explain(error: ValueError, known: Mapping[str, object]) -> str:
    """The first complaint of pydantic as one line with the field, the value and the mend."""
    first = error.errors()[0] if hasattr(error, "errors") else {"msg": str(error)}
    parts = [str(part) for part in first.get("loc", ()) if part != "options"]
    place = ".".join(parts) or "spec"
    if first.get("type") == "extra_forbidden":
        return f"{place}: unknown key; {did_you_mean(place, known)}"
    if first.get("type") == "missing":
        return f"{place}: is missing; say which"
    message = str(first["msg"]).removeprefix("Value error, ")
    given = "" if first.get("type") == "value_error" else f", not {short_repr(first.get('input'))}"
    return " ".join(f"{place}: {message}{given}".split())
