"""axe-core finds no serious violation on any page, in both themes and at both sizes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Visits = Callable[..., Any]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", ["desktop", "phone"])
@pytest.mark.parametrize("kind", ["index", "track", "beside", "method", "run"])
def test_no_serious_violation(
    rich_site: Path, visit: Visits, kind: str, size: str, theme: str
) -> None:
    """With all details open, no violation is critical or serious."""
    from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]

    reader = visit(rich_site, size, theme)
    page = reader.open(reader.addresses[kind])
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    page.wait_for_selector("main table")
    # Without `preload` axe fetches no style sheets, which the pages' policy forbids.
    found = Axe().run(page, options={"preload": False}).response["violations"]
    serious = [
        (fault["id"], [node["target"] for node in fault["nodes"]][:4])
        for fault in found
        if fault["impact"] in ("serious", "critical")
    ]
    assert serious == []
