"""With which code a record says that it was made: the suite's, and a third party's."""

import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version

from paibench.benchmark.record import Record
from paibench.benchmark.spec import Spec
from paibench.leaderboard.submission.findings import Fault, shown
from paibench.leaderboard.submission.open import owns

_VERSION = re.compile(r"\d{1,6}(\.\d{1,6}){1,3}")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def code(record: Record) -> Iterator[Fault]:
    """Warnings where it cannot be said which code it was."""
    where = record.environment
    if where.commit is None:
        yield Fault("code", "the commit of the code", "none", "warning")
    elif not _COMMIT.fullmatch(where.commit):
        yield Fault("code", "the sha of a commit", shown(where.commit))
    if where.dirty:
        yield Fault("code", "code without changes", "changes that were not committed", "warning")
    ours = _ours()
    if not _VERSION.fullmatch(where.paibench):
        yield Fault("code", "a version of paibench", shown(where.paibench), "warning")
    elif _numbers(where.paibench) > _numbers(ours):
        yield Fault("code", f"a version up to {ours}", where.paibench, "warning")


def plugin(record: Record, spec: Spec) -> Iterator[Fault]:
    """Our methods are ours; another's is named so that it can be found again."""
    where = record.environment
    if owns(spec, "method"):
        if where.plugin != "paibench":
            yield Fault("plugin", f"paibench brings {spec.method.name}", shown(where.plugin))
        return
    if where.plugin in ("paibench", "unknown", ""):
        yield Fault("plugin", f"who brings {spec.method.name}", shown(where.plugin))
    elif where.plugin == "local file" or spec.method.name.startswith("local:"):
        yield Fault("plugin", "a method of a distribution", "a method in a local file")
    elif not (where.plugin_version and where.plugin_origin and where.plugin_sha256):
        yield Fault("plugin", "version, origin and digest of the plugin", "not all of them")
    else:
        if where.isolation in (None, "trusted"):
            came = where.isolation or "nothing"
            yield Fault("plugin", "a search behind walls", came, "warning")
        said = f"{where.plugin} {where.plugin_version} from {where.plugin_origin}"
        yield Fault("plugin", "a reader's knowledge", shown(said), "note")


@cache
def _ours() -> str:
    return version("paibench")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))
