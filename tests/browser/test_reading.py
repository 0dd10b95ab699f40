"""Readers open the site from its folder, without a network, on a desktop and on a phone."""

import csv
import io
import re
from collections.abc import Callable
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

Visits = Callable[..., Any]
SIZES = ["desktop", "phone"]
THEMES = ["light", "dark"]
POINTS = "[...document.querySelectorAll('#chart .layer_2_marks path')]"


def names(page: "Page", board: str) -> list[str]:
    """Return the names of the visible rows of a table, from the top."""
    rows = page.locator(f"#{board} tbody tr:visible th")
    return [name.strip() for name in rows.all_inner_texts()]


def column(page: "Page", board: str, key: str) -> list[float]:
    """Return the numbers of a column, from the top."""
    return page.evaluate(  # type: ignore[no-any-return]
        """([board, key]) => {
            const table = document.querySelector(`#${board} table`);
            const at = [...table.tHead.rows[0].cells].findIndex((c) => c.dataset.col === key);
            return [...table.tBodies[0].rows].map((row) => row.cells[at].dataset.v)
                .filter((v) => v !== undefined).map(Number);
        }""",
        [board, key],
    )


def until(page: "Page", fact: str) -> None:
    """Wait until an expression is true; `wait_for_function` would evaluate it within the page."""
    for _ in range(100):
        if page.evaluate(fact):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"it never became true: {fact}")


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES)
def test_no_page_is_wider_than_the_window(
    rich_site: Path, visit: Visits, size: str, theme: str
) -> None:
    """Wide tables scroll within their region, and the console has no messages."""
    reader = visit(rich_site, size, theme)
    for name, address in reader.addresses.items():
        page = reader.open(address)
        page.wait_for_selector("main table")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), name
        reader.screenshot(f"{name}-{size}-{theme}")


@pytest.mark.parametrize("size", SIZES)
def test_a_way_through_the_published_records(results_site: Path, visit: Visits, size: str) -> None:
    """Links lead from the ranking to a track, to a method and to a run."""
    page = visit(results_site, size).open("index.html")
    page.click("text=Full results of lenet-300-100 on mnist")
    page.wait_for_selector("#chart[data-drawn=yes]")
    page.click("#ranked >> text=synflow")
    assert page.inner_text("h1") == "synflow"
    page.click("a[href*='run.html#'] >> nth=0")
    page.wait_for_selector("svg.curve")
    assert re.match("synflow at .* sparsity, seed 0", page.inner_text("h1"))
    said = page.inner_text("pre")
    assert said.startswith("paibench run --method synflow --dataset mnist")
    assert "fc1.weight" in page.inner_text("#run")
    assert re.search("mask-[0-9a-f]{16}.safetensors", page.inner_text("#run"))


@pytest.mark.parametrize("size", SIZES)
def test_sorting_by_a_click_and_by_a_key(results_site: Path, visit: Visits, size: str) -> None:
    """A head sorts its column, tells screen readers, reverses the order, and restores it."""
    page = visit(results_site, size).open_track()
    before = names(page, "ranked")
    head = page.locator("#ranked th[data-col='d0.1']")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    falling = column(page, "ranked", "d0.1")
    assert falling == sorted(falling, reverse=True) and len(falling) > 5
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(page, "ranked", "d0.1") == falling[::-1]
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") is None
    assert names(page, "ranked") == before


@pytest.mark.parametrize("size", SIZES)
def test_a_view_is_in_the_address(rich_site: Path, visit: Visits, size: str) -> None:
    """A link restores search, class, columns and order for another reader."""
    reader = visit(rich_site, size)
    page = reader.open_track()
    page.fill("#tools input[type=search]", "sn")
    page.select_option("#tools select", "controls")
    page.click("#tools summary")
    page.uncheck("#tools input[value=area]")
    page.click("#tools summary")
    page.click("#controls th[data-col='d0.5'] button")
    shown = names(page, "controls")
    assert sorted(shown) == ["snip, invert", "snip, reinit", "snip, shuffle"]
    address = page.url
    assert all(part in address for part in ("q=sn", "class=controls", "hide=", "sort=controls"))
    other = visit(rich_site, size).open(address.removeprefix(f"file://{rich_site}/"))
    assert names(other, "controls") == shown
    assert other.input_value("#tools input[type=search]") == "sn"
    assert not other.is_visible("#ranked")
    assert not other.is_visible("#controls th[data-col=area]")
    other.click("#tools >> text=Reset")
    assert other.is_visible("#ranked th[data-col=area]")
    assert "#" not in other.url


def test_the_start_page_is_searched(rich_site: Path, visit: Visits) -> None:
    """One word filters the tables of all tracks, and the address keeps the view."""
    page = visit(rich_site).open("index.html")
    page.fill("#tools input[type=search]", "synflow")
    shown = page.locator("#tracks tbody tr:visible th").all_inner_texts()
    assert shown == ["synflow", "synflow"]
    assert page.url.endswith("index.html#q=synflow")


@pytest.mark.parametrize("size", SIZES)
def test_saving_the_view(rich_site: Path, visit: Visits, size: str) -> None:
    """The CSV has the visible rows and columns, plain numbers, and no formula."""
    page = visit(rich_site, size).open_track()
    page.fill("#tools input[type=search]", "snip")
    page.select_option("#tools select", "ranked")
    with page.expect_download() as waited:
        page.click("text=Download as CSV")
    name = waited.value.suggested_filename
    assert name.endswith(".csv") and name.startswith("digits-lenet-300-100")
    text = Path(waited.value.path()).read_text(encoding="utf-8-sig")
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["method"] == "snip"
    assert float(row["50 %"]) == pytest.approx(71.0, abs=2)
    assert row["50 % n"] == "3" and float(row["50 % low"]) < float(row["50 % high"])
    assert "search, s" not in row
    assert not [cell for cell in re.findall(r'"([^"]*)"', text) if re.match(r"[=+\-@\t\r]", cell)]


@pytest.mark.parametrize("size", SIZES)
def test_the_theme_is_kept(rich_site: Path, visit: Visits, size: str) -> None:
    """The theme of the system holds until the reader chooses one, then on every page."""
    reader = visit(rich_site, size)
    page = reader.open_track()
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.click("#theme")
    dark = page.evaluate(paper)
    assert dark != light and page.inner_text("#theme") == "Light theme"
    assert reader.open("index.html").evaluate(paper) == dark
    assert visit(rich_site, size, "dark").open("index.html").evaluate(paper) == dark


def test_the_chart_is_interactive(rich_site: Path, visit: Visits) -> None:
    """A tooltip has mean, interval and n; the legend highlights; the class filters."""
    page = visit(rich_site).open_track()
    points = page.locator("#chart .mark-symbol.role-mark path")
    everything = points.count()
    assert everything > 20
    points.nth(3).hover(force=True)
    tip = page.locator("#vg-tooltip-element")
    tip.wait_for(state="visible")
    assert re.search(r"accuracy\W+\d+\.\d+ % \(\d", tip.inner_text())
    assert re.search(r"n\W+3", tip.inner_text())
    page.select_option("#tools select", "controls")
    until(page, f"{POINTS}.length === 9")
    page.click("#tools >> text=Reset")
    page.fill("#tools input[type=search]", "synflow")
    until(page, f"{POINTS}.length === 3")


def test_lines_are_chosen_in_the_legend(rich_site: Path, visit: Visits) -> None:
    """Eight lines have a colour; a click in the legend makes others grey, and a link keeps it."""
    reader = visit(rich_site)
    page = reader.open_track()
    grey = f"new Set({POINTS}.map((mark) => mark.getAttribute('fill'))).size"
    before = page.evaluate(grey)
    assert before >= 5
    page.locator("#chart .role-legend-symbol path").nth(2).click(force=True)
    until(page, f"{grey} < {before}")
    until(page, "location.hash.includes('lines=')")
    other = visit(rich_site).open(page.url.removeprefix(f"file://{rich_site}/"))
    assert other.evaluate(grey) == page.evaluate(grey) < before
    other.click("#tools >> text=Reset")
    until(other, f"{grey} === {before}")
    assert "#" not in other.url


def test_lines_differ_without_their_colour(results_site: Path, visit: Visits) -> None:
    """Each line of the chart has a shape of its own, but for one that shares that of random."""
    page = visit(results_site).open_track()
    looks = page.evaluate(
        """() => [...document.querySelectorAll('#chart .role-legend-symbol path')]
            .map((mark) => [mark.getAttribute('d'), mark.getAttribute('fill')])"""
    )
    assert len(looks) == 10
    assert len({shape for shape, _ in looks}) == 9  # only edge-popup shares that of random


def test_labels_at_the_ends_of_lines(results_site: Path, visit: Visits) -> None:
    """On a desktop the best lines have their names at their ends, apart from each other."""
    page = visit(results_site).open_track()
    texts = page.locator("#chart .layer_5_marks text")
    boxes = [texts.nth(at).bounding_box() for at in range(texts.count())]
    assert {"dense", "imp"} <= set(texts.all_text_contents())
    tops = sorted(box["y"] for box in boxes if box)
    assert min(below - above for above, below in pairwise(tops)) > 10
    phone = visit(results_site, "phone").open_track()
    assert phone.locator("#chart .layer_5_marks text").count() == 0


def test_the_chart_is_enlarged(results_site: Path, visit: Visits) -> None:
    """The chart shows the range of most means, and a switch the whole range, with a link to it."""
    page = visit(results_site).open_track()
    axis = "[...document.querySelectorAll('#chart .role-axis-label text')].map(t => t.textContent)"
    assert "20" not in page.evaluate(axis)
    page.check("#whole input")
    until(page, f"({axis}).includes('20')")
    assert page.url.endswith("#range=all")
    other = visit(results_site).open(page.url.removeprefix(f"file://{results_site}/"))
    until(other, f"({axis}).includes('20')")
    assert other.is_checked("#whole input")


@pytest.mark.parametrize("size", SIZES)
def test_the_first_screen_has_the_result(results_site: Path, visit: Visits, size: str) -> None:
    """The result in words and the chart begin on the first screen of the start page."""
    page = visit(results_site, size).open("index.html")
    height = page.evaluate("window.innerHeight")
    words, chart = (page.locator(name).bounding_box() for name in (".result", "#chart"))
    assert words and chart
    assert words["y"] + words["height"] < height and chart["y"] < height - 100
    if size == "desktop":
        page.set_viewport_size({"width": 1440, "height": 900})
        region = "document.querySelector('#tracks .scroll')"
        assert page.evaluate(f"{region}.scrollWidth <= {region}.clientWidth")


@pytest.mark.parametrize("size", SIZES)
def test_the_first_screen_of_many_tracks(wide_site: Path, visit: Visits, size: str) -> None:
    """With seven tracks and sixteen methods, the comparison begins on the first screen."""
    reader = visit(wide_site, size)
    page = reader.open("index.html")
    if size == "desktop":
        page.set_viewport_size({"width": 1440, "height": 900})
        region = "document.querySelector('#rank-sets .scroll')"
        assert page.evaluate(f"{region}.scrollWidth <= {region}.clientWidth")
    rows = page.locator("#rank-sets tbody tr")
    assert rows.count() == 18 and page.locator("#rank-sets thead th").count() == 8
    box = rows.nth(2).bounding_box()
    assert box and box["y"] + box["height"] < page.evaluate("window.innerHeight")
    assert "has the best mean rank over 7 tracks" in page.inner_text("#across .result")
    reader.screenshot(f"wide-{size}")


def test_classes_of_methods(results_site: Path, visit: Visits) -> None:
    """A tab shows the methods whose search uses the same, with the references beside them."""
    page = visit(results_site).open_track()
    page.click("#tools [data-uses='learned mask']")
    assert names(page, "ranked") == ["dense", "random", "zhou", "gem_miner", "edge_popup"]
    assert page.get_attribute("#tools [data-uses='learned mask']", "aria-pressed") == "true"
    lines = "new Set([...document.querySelectorAll('#chart .layer_0_marks path')]).size"
    until(page, f"{lines} === 5")
    assert page.url.endswith("#uses=learned+mask")
    page.click("#tools [data-uses='']")
    assert len(names(page, "ranked")) == 10 and "#" not in page.url


def test_sparse_columns_come_first_on_a_phone(results_site: Path, visit: Visits) -> None:
    """A phone shows the columns of a table from the sparsest, a desktop from the densest."""
    heads = "[...document.querySelectorAll('#ranked th[data-col^=d0]')].map(h => h.dataset.col)"
    desktop = visit(results_site).open_track().evaluate(heads)
    phone = visit(results_site, "phone").open_track()
    assert phone.evaluate(heads) == desktop[::-1] and desktop[0] == "d0.5"
    column_of = "[...document.querySelectorAll('#ranked tbody tr')].map(r => r.cells[1].dataset.v)"
    assert [float(v) for v in phone.evaluate(column_of) if v] == column(phone, "ranked", "d0.01")


@pytest.mark.parametrize("form", ["Markdown", "LaTeX"])
def test_copying_a_view(results_site: Path, visit: Visits, form: str) -> None:
    """What is copied has the visible rows and columns of the visible tables."""
    reader = visit(results_site)
    reader.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = reader.open_track()
    page.fill("#tools input[type=search]", "gem_miner")
    page.select_option("#tools select", "ranked")
    page.click(f"text=Copy as {form}")
    until(
        page,
        "[...document.querySelectorAll('#tools button')].some(b => b.textContent === 'Copied')",
    )
    text = page.evaluate("navigator.clipboard.readText()")
    assert r"gem\_miner" in text and "synflow" not in text
    rows = [line for line in text.splitlines() if "gem" in line]
    separator = " | " if form == "Markdown" else " & "
    heads = page.locator("#ranked thead th:visible").count()
    assert len(rows) == 1 and len(rows[0].split(separator)) == heads
    assert "98.3 ± 0.4" in rows[0] if form == "Markdown" else r"98.3 $\pm$ 0.4" in rows[0]


def test_saving_keeps_words(results_site: Path, visit: Visits) -> None:
    """A value such as "at least 99 %" is saved with its words."""
    page = visit(results_site).open_track()
    page.fill("#tools input[type=search]", "imp")
    page.select_option("#tools select", "ranked")
    with page.expect_download() as waited:
        page.click("text=Download as CSV")
    text = Path(waited.value.path()).read_text(encoding="utf-8-sig")
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["critical sparsity"].startswith("at least 99 %")


def test_print_cuts_nothing(results_site: Path, visit: Visits) -> None:
    """On landscape paper no table is wider than the page."""
    page = visit(results_site).open_track()
    page.set_viewport_size({"width": 1045, "height": 718})  # A4 with margins of 1 cm
    page.emulate_media(media="print")
    wide = """[...document.querySelectorAll('.board table, #chart svg')]
        .filter((each) => each.getBoundingClientRect().right > window.innerWidth + 1).length"""
    assert page.evaluate(wide) == 0
    assert not page.is_visible("#tools")


def test_a_picture_without_scripts(results_site: Path, browser: Any) -> None:
    """Without JavaScript, the figure stands in the place of the chart."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"file://{min((results_site / 'track').glob('*.html'))}")
    assert page.is_visible("#chart-part noscript img")
    assert page.evaluate("document.querySelector('noscript img').naturalWidth") > 100
    context.close()


def test_hostile_text_runs_nothing(rich_site: Path, visit: Visits) -> None:
    """A name with markup is shown as text on each kind of page."""
    reader = visit(rich_site)
    for address in (*reader.addresses.values(), "method/grasp.html"):
        page = reader.open(address)
        page.wait_for_timeout(200)
        assert page.title() != "caught"
        assert page.locator("img[src=x]").count() == 0
    assert "<img src=x" in page.inner_text("main")


@pytest.mark.parametrize(
    "key", ["", "0" * 40, "xyz", "../../secret", "0" * 39 + "<"], ids=["none", *"abcd"]
)
def test_an_unknown_run(rich_site: Path, visit: Visits, key: str) -> None:
    """The page says that the run is unknown, and loads nothing for an invalid key."""
    page = visit(rich_site).open(f"run.html#{key}")
    words = page.inner_text("#run")
    assert "No run of this site" in words or "Add the key of a run" in words


def test_a_run_is_found_by_the_beginning_of_its_key(rich_site: Path, visit: Visits) -> None:
    """The beginning of a key is enough; the address then has the whole key."""
    reader = visit(rich_site)
    whole = reader.addresses["run"]
    page = reader.open(whole[:-28])
    page.wait_for_selector("main table")
    assert page.url.endswith(whole)


def test_tables_work_without_scripts(rich_site: Path, browser: Any) -> None:
    """Without JavaScript, a reader still has every table."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"file://{min((rich_site / 'track').glob('*.html'))}")
    assert page.locator("#ranked tbody tr").count() >= 4
    assert page.is_visible("#controls") and page.is_visible("#differences")
    assert not page.is_visible("#tools")
    context.close()


def test_the_skip_link_is_first(rich_site: Path, visit: Visits) -> None:
    """Pressing Tab and Enter skips the navigation."""
    page = visit(rich_site).open("index.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", THEMES)
def test_published_figures_stand_beside(
    results_site: Path, visit: Visits, size: str, theme: str
) -> None:
    """The table and the tooltips of hollow markers have source and protocol."""
    reader = visit(results_site, size, theme)
    page = reader.open_track()
    page.locator("#published").scroll_into_view_if_needed()
    rows = page.locator("#published tbody tr")
    assert rows.count() == 3
    assert "Lee 2019 Table 1" in rows.nth(1).inner_text()
    assert page.locator("#published [data-r]").count() == 0
    hollow = page.locator("#chart .layer_7_marks path")
    assert hollow.count() == 3
    assert {hollow.nth(at).get_attribute("fill") for at in range(3)} == {"transparent"}
    hollow.nth(1).hover(force=True)
    tip = page.locator("#vg-tooltip-element")
    tip.wait_for(state="visible")
    assert "Lee 2019 Table 1 (paper)" in tip.inner_text()
    assert "which epoch counts is not said" in tip.inner_text()
    box = tip.bounding_box()
    assert box and box["x"] >= 0 and box["x"] + box["width"] <= page.evaluate("window.innerWidth")
    reader.screenshot(f"published-{size}-{theme}")
    page.select_option("#tools select", "published")
    assert page.is_visible("#published") and not page.is_visible("#ranked")
    assert hollow.count() == 3 and page.locator("#chart .layer_2_marks path").count() > 20


@pytest.mark.parametrize("size", SIZES)
def test_figures_for_papers_are_shown(results_site: Path, visit: Visits, size: str) -> None:
    """The SVG loads when it is visible, has a description, and every format is linked."""
    page = visit(results_site, size).open_track()
    image = page.locator("#figures img")
    assert "Accuracy against sparsity" in (image.get_attribute("alt") or "")
    image.scroll_into_view_if_needed()
    until(page, "document.querySelector('#figures img').naturalWidth > 100")
    for form, start in (("SVG", b"<?xml"), ("PNG", b"\x89PNG"), ("PDF", b"%PDF")):
        link = page.locator(f"#figures figcaption >> text={form}").get_attribute("href") or ""
        assert (results_site / "track" / link).read_bytes().startswith(start)


def test_a_mask_is_downloaded(mask_site: tuple[Path, bytes], visit: Visits) -> None:
    """The download has the bytes of the mask, and the page has their sha256."""
    site, data = mask_site
    reader = visit(site)
    page = reader.open(reader.addresses["run"])
    page.wait_for_selector("a[href*=masks]")
    assert sha256(data).hexdigest() in page.inner_text("#run")
    with page.expect_download() as waited:
        page.click("a[href*=masks]")
    assert re.fullmatch(r"[0-9a-f]{40}\.safetensors", waited.value.suggested_filename)
    assert Path(waited.value.path()).read_bytes() == data
    # A page's request ends where a download begins.
    reader.wrong = [line for line in reader.wrong if not line.endswith(".safetensors")]


def test_levels_of_verification_are_shown(rich_site: Path, visit: Visits) -> None:
    """Levels are in the ranking, in the list of methods and on the page of a run."""
    reader = visit(rich_site)
    page = reader.open(reader.addresses["track"])
    row = page.locator("#ranked tr", has=page.locator("th >> text=snip")).first
    assert row.locator("td").last.inner_text() == "verified"
    page = reader.open("index.html")
    assert "verified" in page.locator("#methods li", has_text="snip").inner_text()
    page = reader.open(reader.addresses["run"])
    page.wait_for_selector("main table")
    assert re.search(r"Verification: (self-reported|verified)\.", page.inner_text(".lead"))
