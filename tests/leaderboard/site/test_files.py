"""The other files of a site: figures, masks, and the removal of stale files."""

import json
import os
import re
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from factories import make_record

from paibench.benchmark.record import Record
from paibench.benchmark.store.names import new_attempt_id
from paibench.benchmark.store.store import Store
from paibench.leaderboard.board import Board, compute
from paibench.leaderboard.frame.load import Frame, load, tabulate
from paibench.leaderboard.frame.rows import row_of
from paibench.leaderboard.site import runs
from paibench.leaderboard.site.build import SiteBuilt, build_site
from paibench.leaderboard.site.pages import pictures
from paibench.leaderboard.stats.summary import summarize, tracks

RecordFactory = Callable[..., Record]
StoreFactory = Callable[[Iterable[Record]], Path]
SVG = b'<?xml version="1.0"?>\n<svg width="360pt" height="244pt" viewBox="0 0 360 244"></svg>'


def frame_of(*records: Record) -> Frame:
    return Frame(tabulate(map(row_of, records)))


# -- figures -----------------------------------------------------------------------------------


def test_figures_are_shown_and_offered(tmp_path: Path, record_factory: RecordFactory) -> None:
    """The page shows the SVG with a description and its size, and links to every format."""
    frame = frame_of(record_factory(seed=0), record_factory(seed=1))
    ((track, _),) = tracks(summarize(frame.runs))
    files = {f"accuracy-{track.slug}.{kind}": kind.encode() for kind in ("png", "pdf")}
    files |= {f"accuracy-{track.slug}.svg": SVG, f"odd-{track.slug}.pdf": b"pdf"}
    built = build_site(compute(frame), tmp_path, figures={track: files}.__getitem__)
    page = (tmp_path / "track" / f"{track.slug}.html").read_text(encoding="utf-8")
    # without scripts, the first stands in the place of the chart
    still, image = re.findall(r"<img [^>]*>", page)
    assert f'src="../figures/accuracy-{track.slug}.svg"' in still
    assert f'src="../figures/accuracy-{track.slug}.svg"' in image
    assert 'alt="Accuracy against sparsity, lenet-300-100 on digits. ' in image
    assert 'width="480" height="325" loading="lazy"' in image
    for name, data in files.items():
        assert f'href="../figures/{name}" download' in page
        assert (tmp_path / "figures" / name).read_bytes() == data
        assert tmp_path / "figures" / name in built.paths


def test_a_track_without_figures_has_no_section(
    tmp_path: Path, record_factory: RecordFactory
) -> None:
    """Without figures, the page has no heading for them."""
    build_site(compute(frame_of(record_factory())), tmp_path)
    (page,) = (tmp_path / "track").glob("*.html")
    assert "Figures for papers" not in page.read_text(encoding="utf-8")


def test_the_order_of_figures() -> None:
    """The figure of accuracy comes first, unknown figures last."""
    names = ["zzz-a.svg", "cost-a.svg", "accuracy-a.svg", "untrained-a.png"]
    found = pictures(dict.fromkeys(names, b""), "a")
    assert [each.shown for each in found] == [names[2], names[3], names[1], names[0]]


@pytest.mark.parametrize("name", ["../a.svg", "a/b.svg", "a.html", ".svg", "a.svg\n", "a b.svg"])
def test_a_figure_with_an_unsafe_name_is_refused(name: str) -> None:
    """A path and the name of another kind of file are refused."""
    with pytest.raises(ValueError, match="is not the name of a figure"):
        pictures({name: b""}, "a")


# -- masks -------------------------------------------------------------------------------------


def with_mask(store: Store, record: Record, data: bytes, name: str | None = None) -> Record:
    """Publish a record with its mask, optionally under another name in the record."""
    full = store.publish_file(record.key, "mask.safetensors", data)
    whole = Record.read(record.plain() | {"mask_file": name or full})
    store.publish_record(record.key, whole.plain(), new_attempt_id())
    return whole


def script_of(built: SiteBuilt, key: str) -> str:
    (script,) = [path for path in built.paths if path.as_posix().endswith(f"runs/{key[:2]}.js")]
    return script.read_text()


def test_a_mask_is_offered_with_its_sha256(tmp_path: Path, record_factory: RecordFactory) -> None:
    """The site has the bytes of the mask under the key of the run, from either store."""
    first, second = Store.open(tmp_path / "first"), Store.open(tmp_path / "second")
    one = with_mask(first, record_factory(seed=0), b"one")
    two = with_mask(second, record_factory(seed=1), b"two")
    frames = [load(store.root) for store in (first, second)]
    runs = tabulate([row_of(one), row_of(two)])
    assert sum(len(frame.runs) for frame in frames) == len(runs)
    built = build_site(compute(Frame(runs), [first, second]), tmp_path / "site")
    for record, data in ((one, b"one"), (two, b"two")):
        assert (tmp_path / "site" / "masks" / f"{record.key}.safetensors").read_bytes() == data
        assert f'"mask_offered":"{sha256(data).hexdigest()}"' in script_of(built, record.key)
    assert not any("mask" in line for line in built.left_out)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"_LARGEST": 2 * 2**20}, "no mask to download for 1 run: larger than 2 MiB"),
        ({"_TOTAL": 2**20}, "all masks together would have more than 1 MiB"),
        ({"_MASK_RUNS": 0}, "no masks to download: the site has more than 0 runs"),
    ],
    ids=["one is large", "all are large", "many runs"],
)
def test_large_masks_are_left_out(
    tmp_path: Path,
    record_factory: RecordFactory,
    monkeypatch: pytest.MonkeyPatch,
    limits: dict[str, int],
    reason: str,
) -> None:
    """A mask beyond a limit gives no file and no digest, but a line with the reason."""
    store = Store.open(tmp_path / "store")
    record = with_mask(store, record_factory(), b"0" * (2 * 2**20 + 1))
    for name, value in limits.items():
        monkeypatch.setattr(runs, name, value)
    built = build_site(compute(load(store.root), [store]), tmp_path / "site")
    assert any(reason in line for line in built.left_out)
    assert not (tmp_path / "site" / "masks").exists()
    assert '"mask_offered"' not in script_of(built, record.key)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mask-0123456789abcdef.safetensors", "not in the store"),
        ("../../../store.json", "cannot be trusted"),
        ("/etc/passwd", "cannot be trusted"),
        ("", "cannot be trusted"),
        ("x\x00y", "cannot be trusted"),
    ],
)
def test_a_file_name_cannot_leave_the_folder_of_its_run(
    tmp_path: Path, record_factory: RecordFactory, name: str, reason: str
) -> None:
    """A file that a record names is read from the folder of its run, or not at all."""
    store = Store.open(tmp_path / "store")
    plain = record_factory().plain() | {"mask_file": name, "curve_file": name}
    store.publish_record(plain["key"], plain, new_attempt_id())
    built = build_site(compute(load(store.root), [store]), tmp_path / "site")
    assert any(f"1 run: {'' if reason[0] == 'n' else 'the file in the store '}{reason}" in line
               for line in built.left_out)  # fmt: skip
    assert not (tmp_path / "site" / "masks").exists()


def test_broken_and_linked_masks_are_not_offered(
    tmp_path: Path, record_factory: RecordFactory
) -> None:
    """Bytes with another hash and a link out of the store are not offered."""
    store = Store.open(tmp_path / "store")
    for seed in range(2):
        record = with_mask(store, record_factory(seed=seed), b"mask")
        assert record.mask_file
        path = store.run_folder(record.key) / record.mask_file
        path.unlink()
        if seed:
            path.write_bytes(b"sham")
        else:
            (tmp_path / "elsewhere").write_bytes(b"mask")
            path.symlink_to(tmp_path / "elsewhere")
    built = build_site(compute(load(store.root), [store]), tmp_path / "site")
    assert (
        "no mask to download for 2 runs: the file in the store cannot be trusted" in built.left_out
    )


# -- files of an earlier build ------------------------------------------------------------------


def paths_in(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def boards() -> tuple[Board, Board]:
    """A board of two tracks, and of one of them."""
    one = make_record(seed=1)
    large = frame_of(make_record(dataset="mnist", method="grasp"), one)
    return compute(large), compute(frame_of(one))


@pytest.fixture
def twice(tmp_path: Path, boards: tuple[Board, Board]) -> Callable[..., set[str]]:
    """A function that builds a site of two tracks, then of one, with a change between them.

    It returns the files of the second site.
    """

    def build(between: Callable[[Path], Any] = lambda out: None) -> set[str]:
        out = tmp_path / "site"
        build_site(boards[0], out)
        between(out)
        build_site(boards[1], out)
        return paths_in(out)

    return build


def test_stale_pages_are_removed(
    tmp_path: Path, boards: tuple[Board, Board], twice: Callable[..., set[str]]
) -> None:
    """A folder that is built again has the same files as a new one, byte for byte."""
    found = twice()
    build_site(boards[1], tmp_path / "new")
    assert found == paths_in(tmp_path / "new")
    one, other = (tmp_path / name / "data" / "manifest.json" for name in ("site", "new"))
    assert one.read_bytes() == other.read_bytes()
    listed = json.loads(one.read_text())["files"]
    assert listed.keys() | {"data/manifest.json"} == found
    assert all(
        sha256((tmp_path / "site" / n).read_bytes()).hexdigest() == listed[n] for n in listed
    )


def test_files_of_others_stay(twice: Callable[..., set[str]]) -> None:
    """Foreign files stay, and so do our files if somebody has changed them."""

    def change(out: Path) -> None:
        (out / "track" / "mine.html").write_text("mine")
        (out / "method" / "grasp.html").write_text("changed")

    assert {"track/mine.html", "method/grasp.html"} <= twice(change)


def test_a_link_is_not_followed(tmp_path: Path, twice: Callable[..., set[str]]) -> None:
    """If a folder or a file is replaced by a link, the target of the link does not change."""
    away = tmp_path / "away"
    away.mkdir()

    def link(out: Path) -> None:
        for path in (out / "track").iterdir():
            os.rename(path, away / path.name)
        page = out / "method" / "grasp.html"
        os.rename(page, away / "grasp.html")
        page.symlink_to(away / "grasp.html")
        (out / "track").rmdir()
        (out / "track").symlink_to(away, target_is_directory=True)

    before = twice(link)
    assert "method/grasp.html" in before
    assert len(paths_in(away)) == 3


@pytest.mark.parametrize(
    "manifest",
    [
        pytest.param("", marks=pytest.mark.slow),
        pytest.param("[]", marks=pytest.mark.slow),
        "{",
        pytest.param('{"files": 1}', marks=pytest.mark.slow),
        '{"files": {"../outside": "DIGEST", "/OUTSIDE": "DIGEST", "a/../../outside": "DIGEST"}}',
        '{"files": {"\\u0000": "x", "\\ud800": "x", "": "x", "track": "x", "track/": 5}}',
        '{"files": {".hidden": "DIGEST"}}',
    ],
    ids=["empty", "list", "half", "number", "outside", "odd names", "hidden"],
)
def test_a_forged_manifest_removes_nothing(
    tmp_path: Path, twice: Callable[..., set[str]], manifest: str
) -> None:
    """A manifest with paths outside its folder, or odd names, is ignored."""
    outside = tmp_path / "outside"
    outside.write_text("precious")
    digest = sha256(b"precious").hexdigest()

    def forge(out: Path) -> None:
        (out / ".hidden").write_text("precious")
        text = manifest.replace("/OUTSIDE", str(outside)).replace("DIGEST", digest)
        (out / "data" / "manifest.json").write_text(text)

    found = twice(forge)
    assert outside.read_text() == "precious"
    assert ".hidden" in found and "method/grasp.html" in found
