"""The folders and files of a store, recognized by its `bench.json`.

    <root>/
      bench.json                             the version of this layout
      runs/<ab>/<key>.json                   a record; it exists if and only if the run is done
      runs/<ab>/<key>.failed                 the last failure of a run
      runs/<ab>/<key>/                       the files of one run:
        mask-<sha16>.safetensors               the mask that the record names
        curve-<sha16>.json                     accuracy and loss after each epoch
        predictions-<sha16>.bin                which examples are predicted correctly, one bit each
        claim                                  the lease of the process that works on the run
        checkpoints/                           the saved training, until the record is published
        attempts/<attempt>/                    log.txt, headway.json (the progress), failure.json
                                               and divergence.json of one attempt
      stages/<ab>/<scope>/<name>.safetensors   parts of searches that several runs share
      stages/<ab>/<scope>/<name>/              lease and checkpoints while one is computed
      sweeps/<id>.json                       the runs of a sweep
      submissions/<time>-<id>/               what was submitted to a cluster, and its logs
      marks/<key>.json                       the result of verifying a record by a second run
      quarantine/                            damaged files, moved out of the way

Records are sharded by the first two digits of their key, so that 256 folder listings find all
runs. Older stores also have an empty folder `index`.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from paibench.benchmark.store.atomic import create_once, read, supports_links
from paibench.benchmark.store.checksummed_json import Corrupt, decode, encode
from paibench.methods.core.registry import UserError

LAYOUT = 1
SHARDS = [f"{number:02x}" for number in range(256)]

_FOLDERS = ("runs", "stages", "sweeps", "submissions", "quarantine")


def stores_in(root: Path) -> list[Path]:
    """Return the stores of a folder: the folder itself, or those that lie in it, by name.

    Links are not followed. Raises OSError if the folder cannot be read.
    """
    if "bench.json" in os.listdir(root):
        return [root]
    with os.scandir(root) as entries:
        folders = sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
    return [Path(folder) for folder in folders if "bench.json" in os.listdir(folder)]


def all_stores(folders: Iterable[Path]) -> list[Path]:
    """Return the stores of several folders; a folder without any stays, to be refused later."""
    stores: list[Path] = []
    for folder in folders:
        try:
            stores += stores_in(folder) or [folder]
        except OSError:
            stores.append(folder)
    return stores


def prepare(root: Path, create: bool) -> bool:
    """Turn a folder into a store unless it is one, and check that it can be written.

    Returns whether hard links work in it. Raises UserError in one line if there is no folder, or
    it is read-only, belongs to something else or has the layout of a later program.
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
                # several processes may create the store at once; the first file stays
                create_once(root / "bench.json", encode({"layout": LAYOUT}))
        check(root)
        links = supports_links(root)
        for folder in _FOLDERS:
            (root / folder).mkdir(exist_ok=True)
        # all shards at once, because a network file system may remember for a minute that a folder
        # is not there
        for shard in sorted(set(SHARDS) - set(os.listdir(root / "runs"))):
            (root / "runs" / shard).mkdir(exist_ok=True)
        return links


def is_store(root: Path) -> bool:
    """Return whether a folder is a store, of any layout; nothing is written."""
    # a listing is always fresh; a look-up on a network file system may be a minute old
    with suppress(FileNotFoundError, NotADirectoryError):
        return "bench.json" in os.listdir(root)
    return False


def check(root: Path) -> None:
    """Raise UserError unless the folder is a store that this program reads; write nothing."""
    with _refusing(root):
        # a listing is always fresh; a look-up on a network file system may be a minute old
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
    """Turn an error of the operating system into one line for the user."""
    name = repr(str(root)[:200])
    if "\0" in str(root):
        raise UserError(f"{name} cannot be the name of a folder")
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"there is no store at {name}; check the path") from None
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{name} cannot be a store: it or a folder above it is a file") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{name} cannot be a store: {reason}; name another folder") from None
