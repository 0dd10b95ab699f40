"""The methods shown are cited: our own by their papers, others by distribution and version."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paibench.benchmark.record import Record
from paibench.leaderboard.frame.citations import Plugin, cite, cite_runs, papers
from paibench.leaderboard.frame.known import KNOWN
from paibench.leaderboard.frame.load import tabulate
from paibench.leaderboard.frame.rows import row_of
from paibench.methods.core.registry import is_own, names

RecordFactory = Callable[..., Record]
MANUAL = (Path(__file__).parents[3] / "docs" / "methods.md").read_text(encoding="utf-8")


def keys(bibtex: str) -> list[str]:
    return re.findall(r"^@\w+\{([^,]+),$", bibtex, flags=re.M)


def test_every_method_of_ours_has_its_papers() -> None:
    """All but the reference, which nobody invented; no paper is of no method."""
    assert set(KNOWN) == {name for name in names("methods") if is_own(name)}
    assert {name for name, known in KNOWN.items() if not known.papers} == {"dense"}
    assert set().union(*(known.papers for known in KNOWN.values())) == set(papers())


@pytest.mark.parametrize("name", sorted(set(KNOWN) - {"dense"}))
def test_papers_are_those_of_the_manual(name: str) -> None:
    """Title, year and first author stand in the section of the method."""
    section = re.split(r"^## ", MANUAL.split(f"\n## {name}\n")[1], maxsplit=1, flags=re.M)[0]
    for key in KNOWN[name].papers:
        fields = dict(re.findall(r"(\w+) = \{+(.*?)\}+,", papers()[key]))
        assert fields["title"].rstrip("?") in section and fields["year"] in section, key
        assert fields["author"].partition(",")[0] in section, key


def test_keys_never_change() -> None:
    """Papers that cite a leaderboard keep their keys."""
    assert keys(cite(KNOWN)) == [
        "alizadeh2022prospect",
        "arora2025concrete",
        "dejorge2021progressive",
        "evci2020rigging",
        "frankle2019lottery",
        "frankle2020linear",
        "han2015learning",
        "iurada2024finding",
        "lee2019snip",
        "patil2021phew",
        "ramanujan2020hidden",
        "renda2020comparing",
        "sreenivasan2022rare",
        "tanaka2020pruning",
        "wang2020picking",
        "wang2023ntksap",
        "xiang2025dpai",
        "you2020drawing",
        "zhou2019deconstructing",
    ]


def test_an_entry() -> None:
    """Fields of a conference paper; the title keeps its capitals."""
    assert cite(["snip", "snip"]) == (
        "@inproceedings{lee2019snip,\n"
        "  author = {Lee, Namhoon and Ajanthan, Thalaiyasingam and Torr, Philip H. S.},\n"
        "  title = {{SNIP: Single-shot Network Pruning based on Connection Sensitivity}},\n"
        "  booktitle = {International Conference on Learning Representations},\n"
        "  year = {2019},\n"
        "  eprint = {1810.02340},\n"
        "  archiveprefix = {arXiv},\n"
        "}\n"
    )


def test_a_plugin_is_cited_by_distribution_and_version(
    record_factory: RecordFactory,
) -> None:
    """All versions that occur; what has nothing to cite is a comment."""
    runs = [
        record_factory(method="kron", seed=seed, environment={"plugin": "p", "plugin_version": v})
        for seed, v in enumerate(("2.0", "1.0"))
    ]
    found = cite_runs(tabulate(map(row_of, [*runs, record_factory(method="dense", density=1.0)])))
    assert found == (
        "% dense: nothing to cite\n\n"
        "@misc{paibench-kron,\n"
        "  title = {{kron}: a method for paibench},\n"
        "  howpublished = {Plugin p, version 1.0, 2.0},\n"
        "}\n"
    )


def test_a_plugin_with_a_name_of_ours_is_not_our_paper() -> None:
    """Another's snip is another's."""
    assert keys(cite(["snip"], {"snip": Plugin("p", "1")})) == ["paibench-snip"]


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_hostile_names_stay_in_their_entry(name: str, distribution: str, version: str) -> None:
    """One entry, every brace balanced, a key that BibTeX takes."""
    found = cite([f"x{name}"], {f"x{name}": Plugin(distribution, version)})
    assert found.count("@misc{") == 1 and len(found.splitlines()) == 4
    depth = 0
    for mark in found:
        depth += (mark == "{") - (mark == "}")
        assert depth >= 0
    assert depth == 0
    assert re.fullmatch(r"paibench-[A-Za-z0-9_.:-]+", keys(found)[0])
