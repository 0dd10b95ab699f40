"""A sweep file: the runs that it expands to, and the error for every mistake."""

import itertools
import os
import threading
import time
import tomllib
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paibench.benchmark.spec import Spec
from paibench.benchmark.sweeps.sweep import Sweep, expand, read
from paibench.benchmark.sweeps.toml_file import MAX_BYTES
from paibench.leaderboard.stats.floors import FLOORS
from paibench.methods.core.registry import UserError

SWEEPS = Path(__file__).parents[3] / "sweeps"
COMMON: dict[str, Any] = {"dataset": "digits", "model": "lenet-300-100", "recipe": "lite"}
BASE = COMMON | {"method": "snip", "density": 0.1}
PRODUCT = """
[product]
dataset = "digits"
model = "lenet-300-100"
recipe = "lite"
method = ["snip", "random"]
density = [0.1, 0.2]
seed = [0, 1]
"""
EIGHT_LISTS = "[product]\n" + "".join(
    f"{key} = [{', '.join(['0'] * 14)}]\n" for key in sorted(Spec.model_fields)
)


def cells(sweep: Sweep) -> list[tuple[str, float, int]]:
    return [(spec.method.name, spec.density, spec.seed) for spec in sweep.specs]


def refusal(**sections: Any) -> str:
    """Return the error for a sweep with these sections."""
    with pytest.raises(UserError) as caught:
        expand(sections)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


@settings(derandomize=True, max_examples=50, deadline=None)
@given(
    methods=st.sets(st.sampled_from(["snip", "random", "grasp", "imp"]), min_size=1),
    densities=st.sets(st.sampled_from([0.5, 0.2, 0.1]), min_size=1),
    seeds=st.sets(st.integers(0, 20), min_size=1, max_size=4),
)
def test_a_product_has_every_combination_once(
    methods: set[str], densities: set[float], seeds: set[int]
) -> None:
    """A product of lists is the runs of every combination, whatever the order of the lists."""
    lists: dict[str, list[Any]] = {
        "method": list(methods),
        "density": list(densities),
        "seed": list(seeds),
    }
    sweep = expand({"product": COMMON | lists})
    assert sorted(cells(sweep)) == sorted(itertools.product(methods, densities, seeds))
    shuffled = {key: values[::-1] for key, values in reversed(lists.items())}
    assert expand({"product": shuffled | COMMON}) == sweep


def test_runs_that_share_stages_stand_together_densest_first() -> None:
    """Seeds in their order, within a seed the methods, within a method falling densities."""
    lists = {"method": ["imp", "snip"], "density": [0.1, 0.5, 0.2], "seed": [10, 2]}
    assert cells(expand({"product": COMMON | lists})) == [
        (method, density, seed)
        for seed in (2, 10)
        for method in ("imp", "snip")
        for density in (0.5, 0.2, 0.1)
    ]


def test_zipped_lists_go_along_together() -> None:
    """The lists of [zip] advance together, in product with the others."""
    sweep = expand(
        {
            "product": COMMON | {"seed": [0, 1]},
            "zip": {"method": ["snip", "random"], "density": [0.1, 0.2]},
        }
    )
    assert cells(sweep) == [
        ("random", 0.2, 0),
        ("snip", 0.1, 0),
        ("random", 0.2, 1),
        ("snip", 0.1, 1),
    ]


def test_an_include_adds_runs_to_the_product() -> None:
    """Each [[include]] is the product with some of its lists replaced."""
    dense = {"method": "dense", "density": 1}
    sweep = expand({"product": BASE | {"seed": [0, 1]}, "include": [dense]})
    assert cells(sweep) == [("dense", 1, 0), ("snip", 0.1, 0), ("dense", 1, 1), ("snip", 0.1, 1)]
    assert len(expand({"include": [BASE, COMMON | dense]}).specs) == 2


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ({"method": "snip"}, {("random", 0.1, 0), ("random", 1, 0)}),
        (
            {"method": "snip", "density": [0.1]},
            {("snip", 1, 0), ("random", 0.1, 0), ("random", 1, 0)},
        ),
        ({"density": 1}, {("snip", 0.1, 0), ("random", 0.1, 0)}),
        ({"density": 0.1, "seed": 0, "control": "none"}, {("snip", 1, 0), ("random", 1, 0)}),
    ],
    ids=["name", "and", "whole number", "defaults"],
)
def test_excluded_runs_are_left_out(
    pattern: dict[str, Any], left: set[tuple[str, float, int]]
) -> None:
    """A run is left out when every key of a pattern has its value, defaults included.

    A bare name stands for the name with whatever options.
    """
    methods = [{"name": "snip", "per_class": 5}, "random"]
    product = COMMON | {"method": methods, "density": [0.1, 1.0]}
    assert set(cells(expand({"product": product, "exclude": [pattern]}))) == left


def test_what_is_excluded_need_not_be_possible() -> None:
    """Combinations that no run can have are taken out of a product by [[exclude]]."""
    product = COMMON | {"method": ["dense", "snip"], "density": [1, 0.1]}
    assert refusal(product=product).startswith("product: method dense keeps every weight")
    excluded = [{"method": "dense", "density": 0.1}]
    assert len(expand({"product": product, "exclude": excluded}).specs) == 3


def test_a_sweep_is_named_by_its_runs() -> None:
    """The id depends on the name and the set of runs, not on how they are written down."""
    first = expand({"name": "a", "product": BASE | {"seed": [0, 1]}})
    again = expand({"name": "a", "product": BASE, "include": [{"seed": 1}]})
    assert first.id == again.id
    assert len({first.id, expand({"name": "b", "product": BASE | {"seed": [0, 1]}}).id}) == 2
    assert first.plain() == {"name": "a", "runs": {s.key: s.canonical for s in first.specs}}


def test_a_file_is_named_after_itself(tmp_path: Path) -> None:
    """A sweep without a name has that of its file; a byte order mark does not matter."""
    path = tmp_path / "my-sweep.toml"
    path.write_text(PRODUCT, encoding="utf-8-sig")
    assert read(path) == expand(tomllib.loads(PRODUCT), "my-sweep")
    assert read(path).name == "my-sweep"


def test_a_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    """A sweep that a program writes needs no file: `paibench plan <(program)`."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=(PRODUCT,))
    writer.start()
    assert len(read(path).specs) == 8
    writer.join()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "product: has no keys; write a [product] table with the runs"),
        (b" \n\t\n", "product: has no keys; write a [product] table with the runs"),
        (b"# nothing\n", "product: has no keys; write a [product] table with the runs"),
        (b"[product]\n", "product: has no keys; write a [product] table with the runs"),
        (b"#" * (MAX_BYTES + 1), "is larger than 1 MiB; a sweep is a short TOML file"),
        (b"name = '\xff'", "is not UTF-8 text (byte 8); save it as UTF-8"),
        (PRODUCT.encode("utf-16"), "is not UTF-8 text (byte 0); save it as UTF-8"),
        (b"[product]\nmethod = = 1\n", "is not TOML: Invalid value (at line 2, column 10)"),
        (
            b"[product]\nseed = 0\nseed = 1\n",
            "is not TOML: Cannot overwrite a value (at line 3, co",
        ),
        (b"[product]\n[product]\n", "is not TOML: Cannot declare ('product',) twice (at line 2, "),
        (b"a = " + b"[" * 5000, "is nested too deeply; a sweep is a short TOML file"),
        (b"a = " + b"{a = " * 5000, "is nested too deeply; a sweep is a short TOML file"),
        (b"[product]\nseed = " + b"9" * 5000, "is not TOML: it contains a number of thousands "),
        (b"[product]\nseed = nan", "product: dataset: is missing; add it"),
        (PRODUCT.encode().replace(b"0.1", b"nan"), "product: density: nan is outside (0, 1]"),
        (PRODUCT.encode().replace(b"0.1", b"-inf"), "product: density: -inf is outside (0, 1]"),
        (PRODUCT.encode().replace(b"0.1", b"1e999"), "product: density: inf is outside (0, 1]"),
        (PRODUCT.encode().replace(b"[0, 1]", b"true"), "product: seed: Input should be a valid i"),
        (PRODUCT.encode().replace(b"0.1", b"0x" + b"f" * 5000), "product: density: <int, too long"),
        (b"name = 0x" + b"f" * 5000, "name: <int, too long to print> is not a text"),
        (PRODUCT.encode() + b"init." + b"a." * 5000 + b"a = 1", "product: init: Input should be "),
    ],
    ids=["empty", "blank", "comment", "no keys", "large", "latin-1", "utf-16", "syntax", "twice"]
    + ["table twice", "nested lists", "nested tables", "digits", "missing", "nan", "inf", "1e999"]
    + ["bool", "hexadecimal", "hexadecimal name", "dotted"],
)
def test_bad_files(tmp_path: Path, data: bytes, message: str) -> None:
    """The error is one line with the name of the file, the position and the remedy."""
    path = tmp_path / "sweep.toml"
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no.toml", "does not exist; check the path"),
        (".", "cannot be read: Is a directory; name a TOML file"),
        ("file/x.toml", "cannot be read: Not a directory; name a TOML file"),
        ("a" * 300, "cannot be read: File name too long; name a TOML file"),
        ("/dev/zero", "is larger than 1 MiB; a sweep is a short TOML file"),
    ],
    ids=["missing", "folder", "below a file", "long", "endless"],
)
def test_no_file(tmp_path: Path, path: str, message: str) -> None:
    """A path that is not a file is named in the error."""
    (tmp_path / "file").touch()
    with pytest.raises(UserError) as caught:
        read(tmp_path / path)
    assert str(caught.value) == f"{tmp_path / path}: {message}"


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"produkt": BASE}, "produkt: unknown key; did you mean product?"),
        ({"product": BASE | {"sed": 1}}, "product.sed: unknown key; did you mean seed?"),
        ({"zip": {"sed": [1]}}, "zip.sed: unknown key; did you mean seed?"),
        ({"include": [{}, {"sed": 1}]}, "include[1].sed: unknown key; did you mean seed?"),
        ({"product": BASE, "exclude": [{"sed": 1}]}, "exclude[0].sed: unknown key; did you mean s"),
        ({"product": {"x" * 300: 1}}, f"product.{'x' * 80}: unknown key; known: "),
        ({"product": [BASE]}, "product: [{'dataset': 'digits'"),
        ({"product": 3}, "product: 3 is not a table; write [product] and keys below it"),
        ({"include": BASE}, "include: {'dataset': 'digits'"),
        ({"include": ["x"]}, "include[0]: 'x' is not a table; write [include[0]]"),
        ({"product": BASE, "exclude": 1}, "exclude: 1 is not a list; write [[exclude]] above each"),
        ({"product": BASE | {"seed": []}}, "product.seed: [] is empty, so there are no runs; giv"),
        ({"product": BASE | {"seed": [0, 0]}}, "product: the run 'snip at 0.1, lenet-300-100 on "),
        ({"product": BASE | {"density": [1, 1.0]}}, "product: the run 'snip at 1, lenet-300-100 "),
        ({"product": BASE, "include": [{"seed": 0}]}, "include[0]: the run 'snip at 0.1, lenet-3"),
        ({"product": BASE | {"method": "snipp"}}, "product: unknown method 'snipp'; did you mean "),
        ({"product": BASE | {"method": {"name": "snip", "per_clas": 1}}}, "product: method snip h"),
        ({"product": BASE | {"method": [["snip"]]}}, "product: method: Input should be a valid di"),
        ({"product": BASE | {"density": "0.1"}}, "product: density: Input should be a valid numb"),
        ({"product": BASE, "zip": {"seed": [1], "init": ["native"] * 2}}, "zip: its lists differ"),
        ({"product": BASE, "zip": {"density": [0.5]}}, "zip.density: is in product as well;"),
        ({"product": BASE, "exclude": [{}]}, "exclude[0]: is empty; add what to leave out"),
        ({"product": BASE, "exclude": [{"method": "snipp"}]}, "exclude[0]: matches no run; corre"),
        ({"product": BASE, "exclude": [{"method": "snip"}]}, "exclude: leaves no runs; exclude l"),
        ({"product": BASE, "max_runs": 0}, "max_runs: 0 is not a positive whole number"),
        ({"product": BASE, "max_runs": True}, "max_runs: True is not a positive whole number"),
        ({"product": BASE, "max_runs": 2.0}, "max_runs: 2.0 is not a positive whole number"),
        ({"product": BASE | {"seed": [0, 1]}, "max_runs": 1}, "max_runs: the sweep has 2 runs, th"),
        ({"product": BASE, "name": 3}, "name: 3 is not a text"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_refusals(sections: dict[str, Any], message: str) -> None:
    """Each error names the section, the value and what to write instead."""
    assert refusal(**sections).startswith(message)


@pytest.mark.parametrize(
    "name",
    ["", "a/b", "..", "a..b", "a\0b", "a\nb", "-x", ".x", "a" * 300, "\x1b[31mx", "\u202ex"]
    + ["sn\u0456p", "My Sweep"],
    ids=lambda name: ascii(name)[1:16],
)
def test_hostile_names(name: str) -> None:
    """A sweep's name is a folder's name: one rule keeps everything else out."""
    assert refusal(name=name, product=BASE).startswith(f"name: {name[:80]!r} cannot be used; take ")


def test_a_billion_runs_are_counted_not_built(tmp_path: Path) -> None:
    """Eight lists of fourteen are refused by their count alone, in a second and without memory."""
    path = tmp_path / "explosion.toml"
    path.write_text(EIGHT_LISTS)
    tracemalloc.start()
    clock = time.process_time()
    with pytest.raises(
        UserError, match=f"max_runs: the sweep has {14**8} runs, the limit is 20000"
    ):
        read(path)
    seconds, (_, peak) = time.process_time() - clock, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 1
    assert peak < 10 * 2**20


@pytest.mark.parametrize("path", sorted(SWEEPS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_ready_sweeps_can_be_read(path: Path) -> None:
    """Every sweep file that comes with the suite expands, and has the random floors and dense."""
    sweep = read(path)
    rows = {str(spec.method) for spec in sweep.specs}
    # that of the families of timm asks what can be scored, and compares nothing
    assert rows >= {*FLOORS, "dense"} or sweep.name == "timm-families"
