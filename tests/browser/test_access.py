"""axe-core finds no serious fault on any kind of page, in both themes and at both sizes."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Visits = Callable[..., Any]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", ["desktop", "phone"])
@pytest.mark.parametrize("kind", ["index", "track", "method", "run"])
def test_no_serious_fault(rich_site: Path, visit: Visits, kind: str, size: str, theme: str) -> None:
    """Neither critical nor serious, with everything that can be folded out folded out."""
    from axe_playwright_python.sync_playwright import Axe

    shard = sorted((rich_site / "data" / "runs").glob("*.js"))[0].read_text()
    address = {
        "index": "index.html",
        "track": sorted((rich_site / "track").glob("*.html"))[0].relative_to(rich_site).as_posix(),
        "method": "method/snip.html",
        "run": f"run.html#{re.findall('[0-9a-f]{40}', shard)[0]}",
    }[kind]
    page = visit(rich_site, size, theme).open(address)
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    page.wait_for_timeout(150)
    # Without `preload` axe fetches no style sheets, which the pages' policy forbids.
    found = Axe().run(page, options={"preload": False}).response["violations"]
    serious = [
        (fault["id"], [node["target"] for node in fault["nodes"]][:4])
        for fault in found
        if fault["impact"] in ("serious", "critical")
    ]
    assert serious == []
