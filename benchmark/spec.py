"""The specification of one run: plain values, checked, with a key that names the result."""

import hashlib
import json
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_serializer,
    model_validator,
)

from paibench.methods.core.registry import (
    SINGULAR,
    TIMM,
    Entry,
    Kind,
    UserError,
    did_you_mean,
    find,
    is_name,
    origin,
)
from paibench.methods.core.signature import ANY, Option, Value, checked, describe
from paibench.methods.core.text import in_words, one_line
from paibench.methods.training.recipe import Recipe, settings

Control = Literal["none", "shuffle", "reinit", "invert"]
Init = Literal["kaiming_normal", "kaiming_uniform", "signed_constant", "xavier_normal", "native"]

SETTING = ("dataset", "model", "recipe", "init")
"""The fields that must be equal before the results of two runs are compared."""

MODEL_OPTIONS = {"allow_unprunable": Option(("bool",), (), False)}
"""The options that every model takes from the harness."""

DEFAULTS = {"density": 1.0, "seed": 0, "init": "kaiming_normal", "control": "none"}

_CACHE_SIZE = 4096
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


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
    def _check_name(cls, name: str) -> str:
        if not is_name(name):
            raise ValueError(
                f"{name[:80]!r} is not a name; use letters, digits, '_', '-', '.' and ':'"
            )
        return name

    @field_validator("options", mode="before")
    @classmethod
    def _normalize_options(cls, options: dict[str, Any]) -> dict[str, Value]:
        return {key: _normalize(key, options[key]) for key in sorted(options)}

    @model_serializer
    def to_plain(self) -> str | dict[str, Value]:
        """Return the shortest JSON form: the name alone if there are no options."""
        return {"name": self.name, **self.options} if self.options else self.name

    @property
    def _identity(self) -> tuple[object, ...]:
        # the types belong to it, because True == 1 == 1.0 but their keys differ
        return self.name, *((key, type(value), value) for key, value in self.options.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Named) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def __str__(self) -> str:
        options = ", ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name}({options})" if options else self.name


class Spec(BaseModel):
    """One run, as plain values. Create it with `Spec.of`, which checks names and options."""

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
    def _check_density(cls, density: Any) -> Any:
        if isinstance(density, int | float) and not isinstance(density, bool):
            if not 0 < density <= 1:
                raise ValueError(
                    f"{short_repr(density)} is outside (0, 1]; give the fraction of weights kept"
                )
            return float(density)
        return density

    @classmethod
    def of(cls, **plain: Any) -> "Spec":
        """Return a checked spec: every name is known, every option valid, defaults left out.

        Raises UserError in one line that names the field, the value and the remedy.
        """
        try:
            spec = cls.model_validate(plain)
        except ValueError as error:
            raise UserError(_explain(error, cls.model_fields)) from error
        named = {field: _check(kind, getattr(spec, field)) for field, kind in KINDS.items()}
        if spec.method.name == "dense" and spec.density != 1:
            raise UserError(f"method dense keeps every weight: density {spec.density!r} must be 1")
        return spec.model_copy(update=named)

    @classmethod
    def read(cls, plain: Any) -> "Spec":
        """Return the spec of a record; its names need not be registered here."""
        try:
            named = {field: _cached_name(plain[field]) for field in KINDS}
        except (LookupError, TypeError, ValueError, RecursionError):
            return cls.model_validate(plain)  # raises the error that names the field
        return cls.model_validate({**plain, **named})

    @property
    def canonical(self) -> dict[str, Any]:
        """The spec as plain values without defaults, from which the key is computed."""
        return {
            name: value.to_plain() if isinstance(value, Named) else value
            for name, value in vars(self).items()
            # a field that is added later does not change existing keys, as long as it has a default
            if value != DEFAULTS.get(name)
        }

    @property
    def canonical_json(self) -> str:
        """`canonical` as JSON text, equal for equal specs."""
        return _ENCODER.encode(self.canonical)

    @property
    def key(self) -> str:
        """40 hexadecimal digits that name this run on every machine."""
        return hashlib.sha256(self.canonical_json.encode("ascii")).hexdigest()[:40]

    @property
    def setting(self) -> tuple[str, ...]:
        """The fields of `SETTING` as text."""
        return tuple(str(getattr(self, field)) for field in SETTING)

    def __str__(self) -> str:
        control = "" if self.control == "none" else f" {self.control}"
        where = f"{self.model} on {self.dataset}"
        return f"{self.method}{control} at {self.density:g}, {where}, seed {self.seed}"


KINDS: dict[str, Kind] = {
    "dataset": "datasets",
    "model": "models",
    "recipe": "recipes",
    "method": "methods",
}
"""The fields that are registered names, and the kind of each."""


def recipe_of(named: Named) -> Recipe:
    """Return the recipe of that name with the options of the spec applied to it.

    Raises UserError if an option is out of range.
    """
    recipe = load_recipe(named.name)
    try:
        return replace(recipe, **named.options)  # type: ignore[arg-type]
    except UserError as error:
        raise UserError(f"recipe {named}: {str(error).removeprefix('recipe: ')}") from None


def read_option(kind: Kind, name: str, key: str, text: str) -> Value:
    """Return the value of an option that a command line gives as text, by its declared type.

    The type is guessed if nobody declares it: for the models of timm, and for an unknown option,
    which `Spec.of` refuses. Raises UserError for an unknown name.
    """
    known = MODEL_OPTIONS if _is_timm(kind, name) else _options(kind, find(name, kind))
    return known.get(key, ANY).read(text)


def short_repr(value: object) -> str:
    """Return the repr of any value for a message: one line of at most 80 characters."""
    try:
        return repr(value)[:80]
    except (ValueError, RecursionError):  # an integer of thousands of digits, endless nesting
        return f"<{type(value).__name__}, too long to print>"


_NAMES: dict[str, Named] = {}


def _cached_name(plain: Any) -> Named:
    """Validate a name, or return it from the cache. Raises ValueError if it is not valid.

    100,000 records hold a few dozen different names, and validation is most of the work of reading.
    """
    text = repr(plain)  # differs for 1, 1.0 and True
    named = _NAMES.get(text)
    if named is None:
        named = Named.model_validate(plain)
        if len(_NAMES) < _CACHE_SIZE and len(text) < 1000:
            _NAMES[text] = named
    return named


def _normalize(key: str, value: Any) -> Value:
    """Return an option's value in its only spelling, so that equal specs have equal keys.

    Raises ValueError if it has none.
    """
    if not (key.isidentifier() and key.isascii()) or key == "name":
        raise ValueError(f"{short_repr(key)} is not the name of an option")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value + 0.0  # turns -0.0 into 0.0
    if isinstance(value, str) and value.isprintable() and len(value) <= 1000:
        # the two Unicode forms of é look alike and would hash differently
        return unicodedata.normalize("NFC", value)
    takes = {
        int: "a whole number of at most 64 bits",
        float: "a finite number",
        str: "a printable text of at most 1,000 characters",
    }.get(type(value), "one plain value")
    raise ValueError(f"option {key} takes {takes}, not {short_repr(value)}")


def load_recipe(name: str) -> Recipe:
    """Return the recipe of a name.

    Raises UserError in one line if it is unknown or broken, whatever its module raises.
    """
    entry = find(name, "recipes")
    try:
        recipe = entry.load()
        if isinstance(recipe, Recipe):
            Recipe.__post_init__(recipe)  # a subclass may leave out the checks
            return recipe
        reason = f"it is a {type(recipe).__name__}, not a Recipe"
    except UserError as error:
        reason = one_line(str(error))
    except (Exception, SystemExit, GeneratorExit) as error:
        reason = in_words(error)
    raise UserError(f"recipe {name} ({origin(entry)}) is broken: {reason}")


def _is_timm(kind: Kind, name: str) -> bool:
    return kind == "models" and name.startswith("timm:")


def _options(kind: Kind, entry: Entry) -> Mapping[str, Option]:
    """Return the declared options of a registered name."""
    if kind == "recipes":
        recipe = load_recipe(entry.name)
        return {
            setting: replace(option, default=getattr(recipe, setting))
            for setting, option in settings().items()
        }
    return {**describe(entry).options, **(MODEL_OPTIONS if kind == "models" else {})}


def _check(kind: Kind, named: Named) -> Named:
    """Return the name with checked options. Raises UserError for an unknown name or option."""
    if _is_timm(kind, named.name):
        return _check_timm(named)
    return _check_options(kind, find(named.name, kind), named)


@lru_cache(maxsize=_CACHE_SIZE)  # the import of timm takes seconds, and some networks are built
def _check_timm(named: Named) -> Named:
    """Return a network of timm with checked options.

    Raises UserError if timm has no such network, or the network no such option.
    """
    try:
        known = TIMM.load()(named.name.removeprefix("timm:"))
    except (ValueError, ImportError) as error:
        raise UserError(f"model {named.name}: {one_line(str(error))}") from error
    # the types of its options are known to timm alone
    theirs = {key: value for key, value in named.options.items() if key in known}
    ours = {key: value for key, value in named.options.items() if key in MODEL_OPTIONS}
    if unknown := sorted(named.options.keys() - theirs.keys() - ours.keys()):
        hint = did_you_mean(unknown[0], [*known, *MODEL_OPTIONS])
        raise UserError(f"model {named.name} has no option {unknown[0][:80]!r}; {hint}")
    checked_ours = checked(f"model {named.name}", MODEL_OPTIONS, ours)
    return Named(name=named.name, options={**theirs, **checked_ours})


@lru_cache(maxsize=_CACHE_SIZE)  # a sweep repeats the same few names thousands of times
def _check_options(kind: Kind, entry: Entry, named: Named) -> Named:
    what = f"{SINGULAR[kind]} {named.name}"
    options = checked(what, _options(kind, entry), named.options)
    result = Named(name=named.name, options=options)
    if kind == "recipes":
        recipe_of(result)  # checks the ranges
    return result


def _explain(error: ValueError, fields: Mapping[str, object]) -> str:
    """Return pydantic's first complaint as one line with the field, the value and the remedy."""
    first = error.errors()[0] if hasattr(error, "errors") else {"msg": str(error)}
    parts = [str(part) for part in first.get("loc", ()) if part != "options"]
    field = ".".join(parts) or "spec"
    if first.get("type") == "extra_forbidden":
        return f"{field}: unknown key; {did_you_mean(field, fields)}"
    if first.get("type") == "missing":
        return f"{field}: is missing; add it"
    message = str(first["msg"]).removeprefix("Value error, ")
    value = "" if first.get("type") == "value_error" else f", not {short_repr(first.get('input'))}"
    return " ".join(f"{field}: {message}{value}".split())
