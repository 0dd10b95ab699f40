"""Templates made pages: all that is printed is cleaned and escaped, nothing may be missing."""

from pathlib import Path
from typing import Any

import jinja2

from paibench.leaderboard.site.board import clean

_HERE = Path(__file__).parent
ASSETS = ("site.css", "theme.js", "table.js", "chart.js", "run.js")


def environment() -> jinja2.Environment:
    """The templates: escaped, strict about what is not defined, without invisible characters."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_cleaned,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page(templates: jinja2.Environment, name: str, **values: Any) -> bytes:
    """One page as bytes."""
    return templates.get_template(name).render(**values).encode()


def asset(name: str) -> bytes:
    """One of our own scripts or styles."""
    return (_HERE / "assets" / name).read_bytes()


def _cleaned(value: Any) -> Any:
    # What has `__html__` is markup of our own templates, escaped already.
    return clean(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
