"""Sweeps: many specs from one TOML file with products, zips, includes and excludes."""

import hashlib
import itertools
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paibench.benchmark.spec import DEFAULTS, Spec, short_repr
from paibench.benchmark.store.names import check_name
from paibench.benchmark.sweeps import toml_file
from paibench.methods.core.registry import UserError, did_you_mean

MAX_RUNS = 20_000

_SECTIONS = {"name", "max_runs", "product", "zip", "include", "exclude"}
_FIELDS = set(Spec.model_fields)

Cell = dict[str, Any]
Axes = dict[str, list[Any]]


@dataclass(frozen=True)
class Sweep:
    """A named list of specs without duplicates, in the order in which they should be run."""

    name: str
    specs: tuple[Spec, ...]

    @property
    def id(self) -> str:
        """40 hexadecimal digits that name this set of runs."""
        # sorted, because the order of the runs does not change which runs they are
        text = json.dumps([self.name, sorted(spec.key for spec in self.specs)])
        return hashlib.sha256(text.encode()).hexdigest()[:40]

    def plain(self) -> dict[str, Any]:
        """Return the sweep as JSON values, its runs by key."""
        return {"name": self.name, "runs": {spec.key: spec.canonical for spec in self.specs}}


def read(path: Path) -> Sweep:
    """Return the sweep that a file describes.

    Raises UserError in one line with the file, the key and the wrong value.
    """
    plain = toml_file.read(path, "a sweep")
    try:
        return expand(plain, default_name=path.stem)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def quickstart(methods: Sequence[str] = ()) -> Sweep:
    """Return the sweep of `paibench quickstart`, limited to these methods and dense.

    Without methods, all methods of the suite are in it.
    """
    plain = toml_file.read(Path(__file__).with_name("quickstart.toml"), "a sweep")
    product = plain["product"]
    if methods:
        product["method"] = [name for name in methods if name != "dense"]
    if not product["method"]:  # dense alone: its include inherits the axes of the product
        del product["method"]
        plain["include"] = [product | table for table in plain["include"]]
        del plain["product"]
    return expand(plain)


def expand(plain: Mapping[str, Any], default_name: str = "sweep") -> Sweep:
    """Return the sweep that the content of a file describes; duplicate runs are an error.

    Raises UserError with the key and the wrong value.
    """
    for section in plain:
        if section not in _SECTIONS:
            raise UserError(f"{section[:80]}: unknown key; {did_you_mean(section, _SECTIONS)}")
    name = plain.get("name", default_name)
    if not isinstance(name, str):
        raise UserError(f"name: {short_repr(name)} is not a text")
    check_name(name, "name:")
    blocks, excluded = _blocks(plain), _excluded(plain)
    limit = plain.get("max_runs", MAX_RUNS)
    # bool is a subclass of int, so `max_runs = true` needs a check of its own
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise UserError(f"max_runs: {short_repr(limit)} is not a positive whole number")
    # counted before any run is made, because a product may have billions
    if (count := sum(block.count() for block in blocks)) > limit:
        raise UserError(f"max_runs: the sweep has {count} runs, the limit is {limit}")
    return Sweep(name, tuple(sorted(_specs(blocks, excluded), key=_running_order)))


def _specs(blocks: Iterable["_Block"], excluded: Sequence[Axes]) -> Collection[Spec]:
    specs: dict[str, Spec] = {}
    unused = set(range(len(excluded)))
    for block in blocks:
        for cell in block.cells():
            if hits := {n for n, pattern in enumerate(excluded) if _matches(cell, pattern)}:
                unused -= hits
                continue
            spec = _spec(block.section, cell)
            # equal specs have equal keys, so another object there comes from another cell
            if spec is not specs.setdefault(spec.key, spec):
                raise UserError(f"{block.section}: the run '{spec}' occurs twice; remove one")
    # an exclude that matches no run is most likely misspelt
    if unused:
        raise UserError(f"exclude[{min(unused)}]: matches no run; correct it or remove it")
    if not specs:
        raise UserError("exclude: leaves no runs; exclude less")
    return specs.values()


@dataclass(frozen=True)
class _Block:
    """A product of axes, and zipped axes whose lists advance together.

    `section` is the table of the file, for messages.
    """

    section: str
    axes: Axes
    zipped: Axes

    def count(self) -> int:
        # without zipped axes there is one row, which is empty
        return math.prod(map(len, self.axes.values())) * len(next(iter(self.zipped.values()), [0]))

    def cells(self) -> Iterator[Cell]:
        rows = zip(*self.zipped.values(), strict=True)
        together = [dict(zip(self.zipped, row, strict=True)) for row in rows]
        for row in together or [{}]:
            for values in itertools.product(*self.axes.values()):
                yield dict(zip(self.axes, values, strict=True)) | row


def _blocks(plain: Mapping[str, Any]) -> list[_Block]:
    base = _section("product", plain.get("product", {}))
    zipped = _section("zip", plain.get("zip", {}))
    if both := sorted(base.keys() & zipped.keys()):
        raise UserError(f"zip.{both[0]}: is in product as well; remove one")
    lengths = {key: len(values) for key, values in zipped.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"zip: its lists differ in length: {lengths}; make them equal")
    includes = [
        # an include repeats only the axes that differ from the product
        _Block(section, {**base, **_section(section, table)}, {})
        for section, table in _tables("include", plain.get("include", []))
    ]
    if not (base or zipped or includes):
        raise UserError("product: has no keys; write a [product] table with the runs")
    return [_Block("product", base, zipped), *includes] if base or zipped else includes


def _excluded(plain: Mapping[str, Any]) -> list[Axes]:
    tables = _tables("exclude", plain.get("exclude", []))
    patterns = [_section(section, table) for section, table in tables]
    if {} in patterns:
        raise UserError(f"exclude[{patterns.index({})}]: is empty; add what to leave out")
    return patterns


def _section(section: str, table: Any) -> Axes:
    """Return a table of axes: each field of a spec with the list of its values."""
    if not isinstance(table, Mapping):
        raise UserError(
            f"{section}: {short_repr(table)} is not a table; write [{section}] and keys below it"
        )
    axes = {}
    for key, values in table.items():
        if key not in _FIELDS:
            raise UserError(f"{section}.{key[:80]}: unknown key; {did_you_mean(key, _FIELDS)}")
        axes[key] = values if isinstance(values, list) else [values]
        if not axes[key]:
            raise UserError(f"{section}.{key}: [] is empty, so there are no runs; give a value")
    return axes


def _tables(section: str, tables: Any) -> list[tuple[str, Any]]:
    if not isinstance(tables, list):
        raise UserError(
            f"{section}: {short_repr(tables)} is not a list; write [[{section}]] above each table"
        )
    return [(f"{section}[{number}]", table) for number, table in enumerate(tables)]


def _matches(cell: Cell, pattern: Axes) -> bool:
    """Return whether each field has one of the values; a name matches it with any options."""
    return all(
        any(actual == value or _name(actual) == value for value in values)
        for actual, values in ((cell.get(key, DEFAULTS.get(key)), pattern[key]) for key in pattern)
    )


def _name(value: Any) -> Any:
    return value.get("name") if isinstance(value, Mapping) else value


def _spec(section: str, cell: Cell) -> Spec:
    try:
        return Spec.of(**cell)
    except UserError as error:
        raise UserError(f"{section}: {error}") from error


def _running_order(spec: Spec) -> tuple[int, str, float]:
    """Return the sort key that puts runs with shared stages together, the densest first.

    An iterative method reaches its sparse levels through the dense ones, so these come first.
    """
    plain = {key: value for key, value in spec.canonical.items() if key != "density"}
    return spec.seed, json.dumps(plain, sort_keys=True), -spec.density
