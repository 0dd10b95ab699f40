"""Check where the code of a record comes from, and whether its method counts what it does."""

import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version

from paibench.benchmark.record import Record
from paibench.benchmark.spec import Spec
from paibench.leaderboard.submission.findings import Fault, shorten
from paibench.leaderboard.submission.open import owns

# Short numbers only, because `int` refuses thousands of digits.
_VERSION = re.compile(r"\d{1,6}(\.\d{1,6}){1,3}")
RELEASED = ("0.1.0",)
"""The versions of paibench that were released."""
OLDEST = {"python": "3.11", "torch": "2.10"}
"""The versions that pyproject.toml asks for at least."""
# A search may compute more for an example than training does, in a higher precision, and starts a
# process in the sandbox.
_TIMES, _SECONDS = 5, 10.0
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def check_provenance(record: Record, spec: Spec) -> Iterator[Fault]:
    """Find code that cannot be identified, and searches that take longer than they say."""
    yield from _code(record)
    yield from _plugin(record, spec)
    if not owns(spec, "method"):
        yield from _uncounted(record)


def _uncounted(record: Record) -> Iterator[Fault]:
    """Find a search whose seconds its counted examples do not explain, by those of training."""
    seconds, passed = record.search_seconds, (record.search_forward, record.search_backward)
    if not (record.train_examples and record.train_seconds and record.epochs_trained):
        return
    if seconds is None or None in passed:
        return
    trained = 2 * record.train_examples * record.epochs_trained
    expected = sum(filter(None, passed)) / trained * record.train_seconds
    if seconds > _TIMES * expected + _SECONDS:
        explained = f"about {expected:.3g} s for {passed[0]} examples, by the time of training"
        yield Fault("cost", explained, f"{seconds:.3g} s", "warning")


def _code(record: Record) -> Iterator[Fault]:
    """Find an unknown version or commit; most of these are warnings for the reviewer."""
    environment = record.environment
    if environment.commit is None:
        yield Fault("code", "the commit of the code", "none", "warning")
    elif not _COMMIT.fullmatch(environment.commit):
        yield Fault("code", "the sha of a commit", shorten(environment.commit))
    # Uncommitted changes may be harmless, so a reviewer decides.
    if environment.dirty:
        yield Fault("code", "code without changes", "uncommitted changes", "warning")
    own = _own_version()
    if not _VERSION.fullmatch(environment.paibench):
        yield Fault("code", "a version of paibench", shorten(environment.paibench), "warning")
    elif environment.paibench not in (*RELEASED, own):
        expected = f"a released version ({', '.join(RELEASED)}) or {own}"
        yield Fault("code", expected, environment.paibench, "warning")
    for name, oldest in OLDEST.items():
        text = getattr(environment, name)
        number = _VERSION.match(text)
        if not number or _numbers(number[0]) < _numbers(oldest):
            yield Fault("code", f"{name} {oldest} or newer", shorten(text), "warning")


def _plugin(record: Record, spec: Spec) -> Iterator[Fault]:
    """Find a method without a distribution that a reader can look up."""
    environment = record.environment
    if owns(spec, "method"):
        if environment.plugin != "paibench":
            expected = f"{spec.method.name} from paibench"
            yield Fault("plugin", expected, shorten(environment.plugin))
        return
    if environment.plugin in ("paibench", "unknown", ""):
        expected = f"the distribution that provides {spec.method.name}"
        yield Fault("plugin", expected, shorten(environment.plugin))
    # Nobody else has the local file, so nobody could verify the result.
    elif environment.plugin == "local file" or spec.method.name.startswith("local:"):
        yield Fault("plugin", "a method of a distribution", "a method in a local file")
    elif not (
        environment.plugin_version and environment.plugin_origin and environment.plugin_sha256
    ):
        yield Fault("plugin", "version, origin and digest of the plugin", "not all of them")
    else:
        if environment.isolation in (None, "trusted"):
            actual = environment.isolation or "nothing"
            yield Fault("plugin", "a search in the sandbox", actual, "warning")
        plugin = f"{environment.plugin} {environment.plugin_version}"
        actual = shorten(f"{plugin} from {environment.plugin_origin}")
        yield Fault("plugin", "a plugin that the reviewer knows", actual, "note")


@cache
def _own_version() -> str:
    return version("paibench")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))
