"""Third parties' methods: tried out before anything is queued, and known again on the node."""

import json
import subprocess
import sys
from collections.abc import Collection, Mapping
from contextlib import suppress

from paibench.benchmark.events import one_line
from paibench.benchmark.hired import worker_environment
from paibench.benchmark.origin import code_sha256
from paibench.methods.registry import UserError, is_own

_SECONDS = 300.0  # for importing torch from a slow file system
_TRY = """
import json, sys
from paibench.methods.registry import get
for name in sys.argv[1:]:
    try:
        get(name)
    except BaseException as error:
        print(json.dumps({"paibench": [name, f"{type(error).__name__}: {error}"]}))
"""


def third_party(methods: Collection[str]) -> list[str]:
    """Those of these methods that are not the suite's own."""
    return [name for name in sorted(set(methods)) if not is_own(name)]


def try_out(methods: Collection[str]) -> dict[str, str]:
    """Import third parties' methods as a worker will; the sha256 of the code of each, by name.

    The present folder and most of the environment are not there for a worker. Raises UserError
    where one cannot be imported.
    """
    names = third_party(methods)
    if not names:
        return {}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _TRY, *names],
            capture_output=True,
            text=True,
            cwd="/",
            env=worker_environment(1),
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        late = f"were not imported within {_SECONDS:g} s; import them by hand to see why"
        raise UserError(f"the methods {', '.join(names)} {late}") from None
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"paibench": ')]
    if lines:
        name, why = json.loads(lines[0])["paibench"]
        raise UserError(
            f"method {name} cannot be imported where jobs run: {one_line(why)}; install it in "
            f"{sys.prefix}"
        )
    if done.returncode:
        why = one_line(done.stderr.strip().rpartition("\n")[2])
        raise UserError(f"the methods {', '.join(names)} cannot be tried out: {why}")
    return {name: digest for name in names if (digest := _digest(name))}


def changed(then: Mapping[str, str], methods: Collection[str]) -> str | None:
    """Which of these methods has other code than at submission, in words; None where none has."""
    for name in sorted(then.keys() & set(methods)):
        now = _digest(name)
        if now is not None and now != then[name]:
            return f"the code of method {name} changed after this was submitted; submit again"
    return None


def _digest(method: str) -> str | None:
    """The sha256 of a method's code; None where it cannot be found."""
    with suppress(UserError, ImportError, OSError, ValueError):
        return code_sha256(method)
    return None
