"""Chromium without a network, and sites that it opens from their folders."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from paibench.benchmark.record import Record
from paibench.benchmark.store.names import new_attempt_id
from paibench.benchmark.store.store import Store
from paibench.leaderboard.board import compute
from paibench.leaderboard.figures.accuracy import curve
from paibench.leaderboard.figures.style import line_styles, pdf, png, svg
from paibench.leaderboard.frame.known import KNOWN
from paibench.leaderboard.frame.load import Frame, load, tabulate
from paibench.leaderboard.frame.rows import row_of
from paibench.leaderboard.site.build import build_site
from paibench.leaderboard.stats.summary import Track, summarize, tracks

if TYPE_CHECKING:  # the other tests do not need playwright
    from playwright.sync_api import Browser, BrowserContext, Page, Request, Route

HERE = Path(__file__).parent
RESULTS = Path(__file__).parents[2] / "results" / "mnist-lenet"
SIZES = {"desktop": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}
SHOTS = os.environ.get("PAIBENCH_SHOTS")  # a folder for screenshots


_rich: list[Path] = []  # built once
_wide: list[Path] = []
WIDE = (
    *(("mnist", "lenet-300-100"), ("fashion_mnist", "lenet-5-caffe"), ("cifar10", "resnet-20")),
    *(("cifar10", "vgg-16"), ("cifar100", "resnet-20"), ("tiny_imagenet", "resnet-18")),
    ("imagenet", "resnet-50"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test in this folder with `browser`."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)


class Visit:
    """A reader with a page, and a list of everything that went wrong on it."""

    def __init__(self, context: "BrowserContext", site: Path) -> None:
        self.site = site
        self.wrong: list[str] = []
        self.context = context
        context.set_offline(True)
        context.route("**/*", self._only_files)
        self.page = context.new_page()
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("requestfailed", self._failed)

    def _failed(self, request: "Request") -> None:
        # A reader who leaves a page stops the figures that still load.
        if request.failure != "net::ERR_ABORTED":
            self.wrong.append(f"failed: {request.url} ({request.failure})")

    def _only_files(self, route: "Route") -> None:
        if route.request.url.startswith(("file:", "data:", "blob:")):
            route.continue_()
        else:
            self.wrong.append(f"asked: {route.request.url}")
            route.abort()

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"console: {message.text}")

    @property
    def addresses(self) -> dict[str, str]:
        """The address of a page of each kind; "beside" is a track with published figures."""
        track = min((self.site / "track").glob("*.html")).name
        script = min((self.site / "data" / "runs").glob("*.js")).read_text()
        key = re.findall('"([0-9a-f]{40})":', script)[0]
        pages = {"index": "index.html", "track": f"track/{track}", "method": "method/snip.html"}
        beside = max((self.site / "track").glob("*.html")).name
        return pages | {"beside": f"track/{beside}", "run": f"run.html#{key}"}

    def open(self, name: str) -> "Page":
        """Open a page of the site from its folder, and wait for its chart if it has one."""
        self.page.goto("about:blank")
        self.page.goto(f"file://{self.site}/{name}")
        if self.page.locator("#chart").count():
            self.page.wait_for_selector("#chart[data-drawn=yes]")
        return self.page

    def open_track(self) -> "Page":
        """Open the page of the first track."""
        return self.open(self.addresses["track"])

    def screenshot(self, name: str) -> None:
        """Save a screenshot of the page if PAIBENCH_SHOTS names a folder."""
        if SHOTS:
            self.page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """The Chromium of Debian, without a window."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None:
        pytest.fail("there is no chromium; run tests/browser/packages")
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=root)
        yield found
        found.close()


@pytest.fixture(scope="session")
def results_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of the published records."""
    out = tmp_path_factory.mktemp("results") / "site"
    frame = load(RESULTS)
    build_site(compute(frame, [Store.read(RESULTS)]), out, figures=figures(frame).__getitem__)
    return out


def figures(frame: Frame) -> dict[Track, dict[str, bytes]]:
    """Return the figure of accuracy of each track in all formats."""
    summary = summarize(frame.runs)
    styles = line_styles(summary["method_label"])
    found: dict[Track, dict[str, bytes]] = {}
    for track, cells in tracks(summary):
        figure = curve(track, cells, styles)
        forms = {"svg": svg(figure), "png": png(figure), "pdf": pdf(figure)}
        found[track] = {f"accuracy-{track.slug}.{form}": data for form, data in forms.items()}
    return found


@pytest.fixture
def mask_site(tmp_path: Path, record_factory: Callable[..., Record]) -> tuple[Path, bytes]:
    """A site of one run that offers its mask, and the bytes of the mask."""
    store, data = Store.open(tmp_path / "store"), bytes(range(256)) * 40
    record = record_factory(method="snip")
    name = store.publish_file(record.key, "mask.safetensors", data)
    whole = Record.read(record.plain() | {"mask_file": name})
    store.publish_record(record.key, whole.plain(), new_attempt_id())
    build_site(compute(load(store.root), [store]), tmp_path / "site")
    return tmp_path / "site", data


@pytest.fixture
def rich_site(
    tmp_path_factory: pytest.TempPathFactory, record_factory: Callable[..., Record]
) -> Path:
    """A site of two tracks with controls, supermasks, lost runs, rewound tickets, hostile names."""
    if not _rich:
        out = tmp_path_factory.mktemp("rich") / "site"
        runs = tabulate(map(row_of, rich(record_factory)))
        hostile = "<img src=x onerror=document.title='caught'>"
        runs["reason"] = runs["reason"].mask(runs["reason"].notna(), hostile)
        runs["host"] = hostile
        runs["method_label"] = runs["method_label"].mask(runs["method"] == "grasp", hostile)
        frame = Frame(runs)
        snip = runs.loc[runs["method"] == "snip", "key"]
        board = compute(frame, levels=dict.fromkeys(snip, "verified"))
        build_site(board, out, figures=figures(frame).__getitem__)
        _rich.append(out)
    return _rich[0]


def rich(factory: Callable[..., Record]) -> Iterator[Record]:
    """Yield runs of five methods and three controls on two tracks, with three seeds."""
    tops = {"random": 0.5, "snip": 0.6, "synflow": 0.65, "imp": 0.8, "grasp": 0.55}
    lost: dict[str, Any] = {"accuracy": None, "accuracy_untrained": None, "reason": "lost"}
    for dataset in ("digits", "mnist"):
        for seed in range(3):
            yield factory(dataset=dataset, method="dense", density=1.0, seed=seed)
            for place, (method, top) in enumerate(tops.items()):
                for density in (0.5, 0.1, 0.02):
                    asked = {"dataset": dataset, "method": method, "density": density}
                    accuracy = top + 0.2 * density + 0.01 * ((7 * seed + place) % 5)
                    if method == "grasp" and density == 0.02:
                        yield factory(**asked, seed=seed, status="diverged", **lost)
                        continue
                    yield factory(
                        **asked,
                        seed=seed,
                        accuracy=accuracy,
                        at_initialization=method != "imp",
                        native_accuracy=accuracy - 0.1 if method == "synflow" else None,
                        native_density=0.5 if method == "synflow" else None,
                        search_seconds=2.5,
                    )
                    for control in ("shuffle", "reinit", "invert") if method == "snip" else ():
                        worse = accuracy - 0.02 - 0.001 * seed
                        yield factory(**asked, seed=seed, control=control, accuracy=worse)


@pytest.fixture
def wide_site(
    tmp_path_factory: pytest.TempPathFactory, record_factory: Callable[..., Record]
) -> Path:
    """A site of seven tracks with sixteen methods and both random floors, five seeds each."""
    if not _wide:
        out = tmp_path_factory.mktemp("wide") / "site"
        frame = Frame(tabulate(map(row_of, wide(record_factory))))
        build_site(compute(frame), out)
        _wide.append(out)
    return _wide[0]


def wide(factory: Callable[..., Record]) -> Iterator[Record]:
    """Yield runs whose accuracies differ by method, track, density and seed."""
    methods = [name for name in KNOWN if name not in ("dense", "random")]
    labels = [{"name": "random"}, {"name": "random", "layers": "erk"}]
    labels += [{"name": name} for name in methods]
    for at, (dataset, model) in enumerate(WIDE):
        for seed in range(5):
            asked = {"dataset": dataset, "model": model, "seed": seed}
            top = 0.95 - 0.05 * at
            yield factory(**asked, method="dense", density=1.0, accuracy=top + 0.001 * seed)
            for place, label in enumerate(labels):
                for density in (0.2, 0.05, 0.01):
                    lost = 0.012 * ((7 * place + 3 * at) % 16) * (0.3 - density)
                    accuracy = top - 0.1 - lost + 0.002 * ((3 * seed + place) % 5)
                    yield factory(**asked, method=label, density=density, accuracy=accuracy)


@pytest.fixture
def visit(browser: "Browser") -> Iterator[Callable[..., Visit]]:
    """A function that opens a site as a new reader; at the end, no page may have an error."""
    visits: list[Visit] = []

    def start(site: Path, size: str = "desktop", theme: Any = "light") -> Visit:
        context = browser.new_context(
            viewport=SIZES[size],  # type: ignore[arg-type]
            color_scheme=theme,
            accept_downloads=True,
        )
        visits.append(Visit(context, site))
        return visits[-1]

    yield start
    wrong = [line for visit in visits for line in visit.wrong]
    for each in visits:
        each.context.close()
    assert wrong == []
