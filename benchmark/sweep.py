"""A sweep is many specs, written as a TOML file: a product of lists, zips, includes, excludes."""

import hashlib
import itertools
import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paibench.benchmark.spec import Spec
from paibench.methods.registry import UserError, did_you_mean

MAX_BYTES = 1 << 20
MAX_RUNS = 20_000

_SECTIONS = {"name", "max_runs", "product", "zip", "include", "exclude"}
_FIELDS = set(Spec.model_fields)

Cell = dict[str, Any]


@dataclass(frozen=True)
class Sweep:
    """A named list of specs without duplicates, in the order in which they are best run."""

    name: str
    specs: tuple[Spec, ...]

    @property
    def id(self) -> str:
        """40 hexadecimal digits that name this list of runs."""
        text = json.dumps([self.name, sorted(spec.key for spec in self.specs)])
        return hashlib.sha256(text.encode()).hexdigest()[:40]

    def plain(self) -> dict[str, Any]:
        """The sweep as JSON values, every run by key."""
        return {"name": self.name, "runs": {spec.key: spec.canonical for spec in self.specs}}


def read(path: Path) -> Sweep:
    """The sweep that a file describes.

    Raises UserError in one line with the file, the key and the value that is wrong.
    """
    try:
        return expand(_parse(path), default_name=path.stem)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _parse(path: Path) -> dict[str, Any]:
    try:
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            raise UserError(f"is larger than {MAX_BYTES >> 20} MiB; a sweep is a short TOML file")
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError("there is no such file") from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except RecursionError:
        raise UserError("is nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError says line and column
        raise UserError(f"is not TOML: {' '.join(str(error).split())[:200]}") from error


def expand(plain: Mapping[str, Any], default_name: str = "sweep") -> Sweep:
    """The sweep that the parsed file describes; duplicates are refused.

    Raises UserError with the key and the value that is wrong.
    """
    for section in plain:
        if section not in _SECTIONS:
            raise UserError(f"{section}: unknown key; {did_you_mean(section, _SECTIONS)}")
    name = plain.get("name", default_name)
    if not isinstance(name, str) or not name.replace("-", "a").replace("_", "a").isalnum():
        raise UserError(f"name: {name!r:.80} is no name; use letters, digits, '-' and '_'")
    limit = plain.get("max_runs", MAX_RUNS)
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise UserError(f"max_runs: {limit!r:.80} is no positive whole number")
    base = _section("product", plain.get("product", {}))
    zipped = _section("zip", plain.get("zip", {}))
    blocks = [("product", base, zipped)]
    for number, extra in enumerate(_tables("include", plain.get("include", []))):
        blocks.append((f"include[{number}]", {**base, **_section("include", extra)}, {}))
    if not plain.get("product") and not zipped and len(blocks) > 1:
        del blocks[0]
    if (count := sum(_count(axes, pairs) for _, axes, pairs in blocks)) > limit:
        raise UserError(f"max_runs: the sweep has {count} runs, the limit is {limit}")
    excluded = [_section("exclude", one) for one in _tables("exclude", plain.get("exclude", []))]
    specs: dict[str, Spec] = {}
    for place, axes, pairs in blocks:
        for cell in _cells(axes, pairs):
            if any(_matches(cell, pattern) for pattern in excluded):
                continue
            spec = _spec(place, cell)
            if spec.key in specs:
                raise UserError(f"{place}: the run '{spec}' is asked for twice; remove one")
            specs[spec.key] = spec
    if not specs:
        raise UserError("product: the sweep has no runs; every list needs a value")
    return Sweep(name, tuple(sorted(specs.values(), key=_running_order)))


def _section(place: str, table: Any) -> dict[str, list[Any]]:
    """A table of axes: each field of a spec with the list of its values."""
    if not isinstance(table, Mapping):
        raise UserError(f"{place}: {table!r:.80} is no table; write [{place}] and keys below it")
    axes = {}
    for key, values in table.items():
        if key not in _FIELDS:
            raise UserError(f"{place}.{key}: unknown key; {did_you_mean(key, _FIELDS)}")
        axes[key] = values if isinstance(values, list) else [values]
        if not axes[key]:
            raise UserError(f"{place}.{key}: [] is empty, so the product has no runs")
    return axes


def _tables(place: str, tables: Any) -> list[Any]:
    if not isinstance(tables, list):
        raise UserError(f"{place}: {tables!r:.80} is no list; write [[{place}]] above each table")
    return tables


def _count(axes: Mapping[str, list[Any]], pairs: Mapping[str, list[Any]]) -> int:
    lengths = {key: len(values) for key, values in pairs.items()}
    if len(set(lengths.values())) > 1:
        raise UserError(f"zip: its lists differ in length: {lengths}")
    return math.prod(map(len, axes.values())) * next(iter(lengths.values()), 1)


def _cells(axes: Mapping[str, list[Any]], pairs: Mapping[str, list[Any]]) -> Iterator[Cell]:
    together = [dict(zip(pairs, row, strict=True)) for row in zip(*pairs.values(), strict=True)]
    for row in together or [{}]:
        for values in itertools.product(*axes.values()):
            yield dict(zip(axes, values, strict=True)) | row


def _matches(cell: Cell, pattern: Mapping[str, list[Any]]) -> bool:
    return all(
        any(cell.get(key) == value or _name(cell.get(key)) == value for value in values)
        for key, values in pattern.items()
    )


def _name(value: Any) -> Any:
    return value.get("name") if isinstance(value, Mapping) else value


def _spec(place: str, cell: Cell) -> Spec:
    try:
        return Spec.of(**cell)
    except UserError as error:
        raise UserError(f"{place}.{error}") from error


def _running_order(spec: Spec) -> tuple[str, ...]:
    """Runs that share stages come one after the other, the densest first."""
    plain = {**spec.canonical, "density": 0}
    return (str(spec.seed), json.dumps(plain, sort_keys=True), f"{2 - spec.density:.12f}")
