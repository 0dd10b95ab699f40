"""Any store gives a site in which text stays text and only valid records are counted."""

import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paibench.benchmark.record import Record
from paibench.benchmark.spec import Spec
from paibench.benchmark.store.checksummed_json import Corrupt, decode, encode
from paibench.benchmark.store.names import is_key
from paibench.benchmark.store.store import Store
from paibench.leaderboard.board import compute
from paibench.leaderboard.frame.load import load
from paibench.leaderboard.site.build import SiteBuilt, build_site

GOLDEN = Path(__file__).parents[2] / "golden" / "store"
RECORDS = [decode(path.read_bytes()) for path in sorted(GOLDEN.glob("runs/*/*.json"))]
HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    '" onmouseover="alert(3)',
    "<img src=x onerror=alert(4)>",
    "javascript:alert(5)",
    "{{ 7 * 7 }}{% raw %}",
    "=HYPERLINK('https://example.org')",
    " -2+3",
    "\t@SUM(A1)",
    "\u202egnp.exe\u2066\x00\x1b[31m",
    "../../../../etc/passwd",
    "/dev/zero",
    "",
]

values = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(max_size=12),
    st.sampled_from([0, -1, 2**63, 2**63 - 1, 10**400, 1e308, -0.0, 0.5, 1.5, True, None]),
    st.sampled_from([[], {}, ["x"], {"name": "<b>"}, [[1]], [None], "9" * 5000, "x" * 100_000]),
)
wild = ["NaN", "Infinity", "-Infinity", "1e999", '"\\ud800"', "[" * 3000, '{"a":1,"a":2}', ""]
fields = st.sampled_from(sorted({*Record.model_fields, "schema"} - {"schema_number"}))
asked = st.sampled_from(sorted(Spec.model_fields))
named = st.sampled_from(["dataset", "model", "recipe", "method"])
hostile = st.sampled_from(HOSTILE)
texts = st.sampled_from(["reason", "data_name", "mask_file", "curve_file"])
"""Fields of a record, of the spec in it, of those the ones with options, and of free text."""

# The kind of a change, the field and the new value; see `spoiled`.
changes = st.one_of(
    st.tuples(st.just("without"), fields, st.none()),
    st.tuples(st.just("set"), fields, values),
    st.tuples(st.just("ask"), asked, values),
    st.tuples(st.just("ask and fit"), asked, values),
    st.tuples(st.just("option"), named, hostile),
    st.tuples(st.just("text"), texts, hostile),
    st.tuples(st.just("lost"), st.just("reason"), hostile),
    st.tuples(st.just("made"), st.sampled_from(["host", "device", "plugin", "torch"]), hostile),
    st.tuples(st.just("literal"), fields, st.sampled_from(wild)),
    st.tuples(st.just("unsealed"), fields, values),
    st.tuples(st.just("cut"), fields, st.integers(0, 3000)),
    st.tuples(st.sampled_from(["misnamed", "of another"]), fields, st.none()),
)
WORST = [
    *(("lost", "reason", text) for text in HOSTILE[:6]),
    *(("option", name, text) for name in ("dataset", "method") for text in HOSTILE[:5]),
    *(("made", "device", text) for text in HOSTILE[6:10]),
    *(("text", name, HOSTILE[-3]) for name in ("mask_file", "curve_file")),
    *((how, "key", None) for how in ("misnamed", "of another")),
]
"""Changes that are always tried: text that is shown, and keys that do not match."""


def fitting(plain: dict[str, Any]) -> dict[str, Any]:
    """Return a record with the key of its spec, if the spec is valid."""
    try:
        spec = Spec.model_validate(plain["spec"])
        return plain | {"key": spec.key, "spec": spec.canonical}
    except (ValueError, ArithmeticError, KeyError):
        return plain


class Shapes(HTMLParser):
    """The elements of a page, each with the name of each of its attributes; and its links."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: set[tuple[str, str]] = set()
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {(tag, name) for name, _ in [("", None), *attrs]}
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]


def spoiled(plain: dict[str, Any], change: tuple[str, str, Any]) -> tuple[str, bytes]:
    """Return the name and the bytes of a record with one change."""
    how, name, value = change
    changed, asked = dict(plain), dict(plain["spec"])
    if how == "without":
        changed.pop(name, None)  # older records lack the newest fields
    elif how in ("set", "unsealed", "text"):
        changed[name] = value
    elif how == "lost":
        changed |= {"status": "diverged", "accuracy": None, "reason": value}
    elif how == "made":
        changed["environment"] = changed["environment"] | {name: value}
    elif how in ("ask", "ask and fit"):
        changed["spec"] = asked | {name: value}
    elif how == "option":
        changed["spec"] = asked | {name: {"name": "snip", "a": value}}
    elif how == "of another":
        changed["spec"] = asked | {"seed": 1_000_000}
    if how in ("ask and fit", "option"):
        changed = fitting(changed)
    try:
        data = encode(changed)
    except (ValueError, TypeError):  # a value that JSON cannot express stays without a checksum
        data = json.dumps(changed).encode()
    if how == "unsealed":
        data = json.dumps(changed).encode()
    if how == "literal":
        start = json.dumps(name)
        data = data.replace(f"{start}:null".encode(), f"{start}:{value}".encode())
    stem = str(changed.get("key", plain["key"]))
    if how == "misnamed":
        stem = f"{'0' * 38}ff"
    stem = stem if is_key(stem) else plain["key"]
    return stem, data[:value] if how == "cut" else data


def is_valid(path: Path) -> bool:
    """Return whether a file is a valid record under its key, which the site has to count."""
    try:
        plain = decode(path.read_bytes())
        record = Record.read(plain)
        matches = Spec.model_validate(record.spec).key == record.key == path.stem
        return matches and path.stat().st_size <= 2**20 and 1 <= plain["schema"] <= 2
    except (Corrupt, ValueError, ArithmeticError, KeyError):
        return False


def counted(built: SiteBuilt) -> int:
    """Return the number of runs with a record on the start page."""
    (index,) = [page for path, page in pages(built).items() if path.name == "index.html"]
    match = re.search(r"[\d,]+ runs on \d+ tracks?: (.*?)\.</p>", index)
    assert match
    outcomes = dict(part.split(" ")[::-1] for part in match[1].split(", "))
    return sum(int(outcomes.get(name, 0)) for name in ("done", "diverged", "failed", "skipped"))


def pages(built: SiteBuilt) -> dict[Path, str]:
    return {p: p.read_text(encoding="utf-8") for p in built.paths if p.suffix == ".html"}


def check_text(built: SiteBuilt, known: set[tuple[str, str]]) -> None:
    """Check that elements come from templates, scripts are data, and no cell is a formula."""
    for path, page in pages(built).items():
        seen = Shapes(page)
        assert seen.found - known == set(), path
        assert [link for link in seen.links if ":" in link and link != "data:,"] == []
        for data in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.S):
            json.loads(data)
    for path in built.paths:
        if "data/runs/" in path.as_posix():
            script = path.read_text("ascii")
            json.loads(
                script.removeprefix("paibenchRuns(").removesuffix(");\n"), parse_constant=int
            )
        if path.suffix == ".csv":
            for row in csv.reader(io.StringIO(path.read_text("utf-8"))):
                formulas = [cell for cell in row if re.match(r"[=+\-@\t\r]", cell)]
                assert all(re.fullmatch(r"-?[\d.e-]+", cell) for cell in formulas)


def put(store: Path, stem: str, data: bytes) -> None:
    path = store / "runs" / stem[:2] / f"{stem}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def empty(folder: Path) -> Path:
    """Return a store without records."""
    (folder / "runs").mkdir(parents=True)
    shutil.copy(GOLDEN / "bench.json", folder)
    return folder


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    """The elements of a harmless site that has everything a site can have."""
    store = empty(tmp_path_factory.mktemp("known") / "store")
    lost = {"status": "diverged", "accuracy": None, "reason": "it grew without end"}
    for plain in RECORDS:
        asked: list[dict[str, Any]] = [{}, {"dataset": "fashion_mnist"}, {"control": "shuffle"}]
        for more in asked:
            changed = fitting(plain | {"spec": plain["spec"] | more})
            put(store, changed["key"], encode(changed))
        scored = plain | {"native_accuracy": 0.5, "native_density": 0.5}
        changed = fitting(scored | {"spec": plain["spec"] | {"method": "a.package:method"}})
        put(store, changed["key"], encode(changed))
        changed = fitting(plain | lost | {"spec": plain["spec"] | {"method": "grasp"}})
        put(store, changed["key"], encode(changed))
    put(store, "00broken", b"broken")
    built = build_site(compute(load(store), [Store.read(store)]), store.parent / "site")
    assert "Across tracks" in (store.parent / "site" / "index.html").read_text()
    return set().union(*(Shapes(page).found for page in pages(built).values()))


def check_site(
    changed: list[tuple[str, str, Any]],
    start: int,
    known: set[tuple[str, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Check that changed records add only text, and that the site counts exactly the valid ones."""
    folder = tmp_path_factory.mktemp("fuzz")
    store = empty(folder / "store")
    order = [*RECORDS[start:], *RECORDS[:start]]
    for plain in order[len(changed) :][:8]:
        put(store, plain["key"], encode(plain))
    for plain, change in zip(order, changed, strict=False):
        put(store, *spoiled(plain, change))
    built = build_site(compute(load(store), [Store.read(store)]), folder / "site")
    valid = [path for path in store.glob("runs/*/*.json") if is_valid(path)]
    assert changed != WORST or len(valid) == len(WORST) - 2 + 8
    assert counted(built) == len(valid) >= 8
    check_text(built, known)
    shutil.rmtree(folder)


def test_the_worst_records(
    known: set[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Records with hostile text in each place, and under the keys of others."""
    check_site(WORST, 0, known, tmp_path_factory)


@pytest.mark.slow
@settings(max_examples=40, derandomize=True, deadline=None, database=None)
@given(changed=st.lists(changes, min_size=4, max_size=10), start=st.integers(0, len(RECORDS) - 1))
def test_a_bad_record_is_never_counted(
    changed: list[tuple[str, str, Any]],
    start: int,
    known: set[tuple[str, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Any changed records."""
    check_site(changed, start, known, tmp_path_factory)
