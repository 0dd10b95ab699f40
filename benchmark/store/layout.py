"""The folder that is a store: made once, known again by its `bench.json`.

    <root>/bench.json                            the number of this layout
           runs/<ab>/<key>.json                  a record: its presence says that the run is done
           runs/<ab>/<key>.failed                the last failure of a run, for the report
           runs/<ab>/<key>/                      mask, curves, attempts/, ckpt/, claim
           stages/<ab>/<scope>/<name>.safetensors    what several searches have in common
           sweeps/ submissions/ quarantine/ index/

Records are sharded by the first two digits of their key, so that 256 folder listings find all
runs. The shards are made with the store: a network file system may remember for a minute that a
folder is not there.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paibench.benchmark.store.atomic import create_once, read, takes_links
from paibench.benchmark.store.checksummed_json import Corrupt, decode, encode
from paibench.methods.core.registry import UserError

LAYOUT = 1
SHARDS = [f"{number:02x}" for number in range(256)]

_FOLDERS = ("runs", "stages", "sweeps", "submissions", "quarantine", "index")


def prepare(root: Path, create: bool) -> bool:
    """Make a folder a store, or find that it is one, and try out that it can be written.

    Returns whether hard links work in it. Raises UserError in one line otherwise: no folder, a
    folder of something else, read-only, a layout of later programs.
    """
    with _refusing(root):
        if create:
            root.mkdir(parents=True, exist_ok=True)
            names = os.listdir(root)
            foreign = sorted(name for name in names if not name.startswith("."))
            if foreign and "bench.json" not in names:
                raise UserError(
                    f"{str(root)!r} is not a paibench store, it holds {foreign[0][:80]!r}; "
                    "name a new or an empty folder"
                )
            if "bench.json" not in names:
                create_once(root / "bench.json", encode({"layout": LAYOUT}))
        check(root)
        links = takes_links(root)
        for folder in _FOLDERS:
            (root / folder).mkdir(exist_ok=True)
        for shard in sorted(set(SHARDS) - set(os.listdir(root / "runs"))):
            (root / "runs" / shard).mkdir(exist_ok=True)
        return links


def check(root: Path) -> None:
    """Raise UserError where a folder is not a store that this program reads; write nothing."""
    with _refusing(root):
        if "bench.json" not in os.listdir(root):
            raise UserError(f"{str(root)!r} is not a paibench store: it has no bench.json")
        try:
            layout = decode(read(root / "bench.json")).get("layout")
        except Corrupt as error:
            raise UserError(f"{str(root / 'bench.json')!r}: {error}; restore it") from None
        if layout != LAYOUT:
            raise UserError(
                f"{str(root)!r} has layout {layout!r}; this program reads {LAYOUT}; update paibench"
            )


@contextmanager
def _refusing(root: Path) -> Iterator[None]:
    """Turn what the system says about a folder into one line for the user."""
    name = repr(str(root)[:200])
    if "\0" in str(root):
        raise UserError(f"{name} cannot be the name of a folder")
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"there is no store at {name}; check the path") from None
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{name} cannot be a store: it, or a part of it, is not a folder") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{name} cannot be a store: {reason}; name another folder") from None
