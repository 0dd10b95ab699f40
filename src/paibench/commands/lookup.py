"""Finding a run by the beginning of its key."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paibench.methods.registry import UserError

if TYPE_CHECKING:
    from paibench.benchmark.store import Store

Key = Annotated[str, typer.Argument(help="A run's key, or enough of its beginning.")]
Stores = Annotated[list[Path] | None, typer.Option("--out", help="The store.")]


def find_run(key: str, out: list[Path] | None, tried: bool = False) -> tuple["Store", str]:
    """The store and the whole key of the run that is done or failed; with `tried`, or attempted.

    Raises UserError where no run begins so, or more than one.
    """
    from paibench.benchmark.store import Store

    roots = list(out or [*Path("runs").glob("*/"), *Path("results").glob("*/"), Path("quickstart")])
    found: dict[str, Store] = {}
    for root in roots:
        if out or (root / "bench.json").exists():
            store = Store.read(root)
            listing = store.listing()
            keys = listing.done | listing.failed | (store.attempted() if tried else frozenset())
            found |= {full: store for full in keys if full.startswith(key.lower())}
    if len(found) != 1 or not key:
        what = f"{len(found)} runs begin" if found else "no run begins"
        where = ", ".join(map(str, roots)) or "runs/"
        raise UserError(f"{what} with {key!r:.80} in {where}; give more of the key or --out")
    full, store = found.popitem()
    return store, full
