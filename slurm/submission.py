"""A campaign is what one `submit` hands to a cluster: complete on disk before a job is queued.

    <store>/submissions/<UTC>-<8 digits>/manifest.json   the runs, their jobs, the code
                                         logs/           what SLURM and the jobs print
                                         broken/         why jobs could not try their runs
                                         stopped.json    why the rest of its jobs was given up

Jobs are found again by their names, `pai-<8 digits>-<chunk>`, and never by their numbers, which a
controller that lost its memory hands out twice.
"""

import json
import re
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

from paibench.benchmark.execution.process_tree import child_environment
from paibench.benchmark.provenance import code_digest, code_sha256, commit
from paibench.benchmark.spec import Spec
from paibench.benchmark.store.atomic import create_once, read
from paibench.benchmark.store.checksummed_json import Corrupt, decode, encode
from paibench.benchmark.store.store import Store
from paibench.methods.core.registry import UserError, is_own
from paibench.methods.core.text import one_line
from paibench.slurm.profile import Profile

_LARGE = 1 << 28
_STAMP = "%Y%m%dt%H%M%Sz"
_JOB_NAME = re.compile(r"(pai-[0-9a-f]{8})-(\d+)")

Bundle = tuple[Spec, ...]


@dataclass(frozen=True)
class Submission:
    """The bundles of runs that jobs are to do, one bundle each, and all that the jobs need."""

    folder: Path
    sweep: str
    bundles: tuple[Bundle, ...]
    array_size: int
    """How many of its jobs make an array at the most."""
    profile: Profile
    data: Path | None
    code: dict[str, Any] = field(default_factory=dict)
    """Version, commit, dirty flag and digest of the code at submission."""
    retry: bool = False
    """Whether runs that failed for good before are to be tried."""
    plugins: dict[str, str] = field(default_factory=dict)
    """The sha256 of the code of each third-party method, by name."""

    @classmethod
    def new(
        cls,
        store: Store,
        sweep: str,
        bundles: Iterable[Bundle],
        array_size: int,
        profile: Profile,
        data: Path | None,
        *,
        retry: bool,
        plugins: dict[str, str],
    ) -> "Submission":
        """A campaign with a fresh name and the code as it is now, not yet written."""
        stamp = time.strftime(_STAMP, time.gmtime())
        folder = store.root / "submissions" / f"{stamp}-{uuid4().hex[:8]}"
        code = present_code()
        jobs = tuple(bundles)
        return cls(folder, sweep, jobs, array_size, profile, data, code, retry, plugins)

    @property
    def name(self) -> str:
        """What the names of its jobs begin with."""
        return f"pai-{self.folder.name.rpartition('-')[2]}"

    @property
    def begun(self) -> str:
        """When it was made, as notes of failures say the time."""
        made = time.strptime(self.folder.name.partition("-")[0], _STAMP)
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", made)

    @property
    def store(self) -> Path:
        """The store that its runs go to."""
        return self.folder.parent.parent

    @property
    def logs(self) -> Path:
        """Where SLURM and the jobs print to."""
        return self.folder / "logs"

    @cached_property
    def specs(self) -> tuple[Spec, ...]:
        """All its runs."""
        return tuple(spec for bundle in self.bundles for spec in bundle)

    def chunks(self) -> list[int]:
        """The number of jobs in each of its arrays."""
        whole, rest = divmod(len(self.bundles), self.array_size)
        return [self.array_size] * whole + ([rest] if rest else [])

    def bundle(self, chunk: int, index: int) -> Bundle:
        """The runs of one job: the one at `index` in the array number `chunk`."""
        place = chunk * self.array_size + index
        return self.bundles[place] if place < len(self.bundles) else ()

    def first(self, jobs: int) -> "Submission":
        """Another campaign, with its first so many jobs alone."""
        stamp = self.folder.name.partition("-")[0]
        folder = self.folder.with_name(f"{stamp}-{uuid4().hex[:8]}")
        return replace(self, folder=folder, bundles=self.bundles[:jobs])

    def write(self) -> None:
        """Put it on disk, whole. Raises StoreError."""
        self.logs.mkdir(parents=True)
        plain = {
            "sweep": self.sweep,
            "bundles": [[spec.canonical for spec in bundle] for bundle in self.bundles],
            "array_size": self.array_size,
            "profile": self.profile.model_dump(mode="json"),
            "data": None if self.data is None else str(self.data),
            "code": self.code,
            "retry": self.retry,
            "plugins": self.plugins,
        }
        create_once(self.folder / "manifest.json", encode(plain))

    @classmethod
    def read(cls, folder: Path) -> "Submission":
        """A campaign from disk. Raises UserError in one line where it cannot be trusted."""
        path = folder / "manifest.json"
        try:
            plain = decode(read(path, _LARGE))
            profile = plain["profile"]
            place = Path(profile["data"]) if profile["data"] else None
            return cls(
                folder=folder,
                sweep=plain["sweep"],
                bundles=tuple(_bundle(bundle) for bundle in plain["bundles"]),
                array_size=plain["array_size"],
                profile=Profile.model_validate(profile | {"data": place}, strict=False),
                data=Path(plain["data"]) if plain["data"] else None,
                code=plain["code"],
                retry=plain["retry"],
                plugins=plain["plugins"],
            )
        except (OSError, Corrupt, KeyError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{path}: cannot be read: {reason}; say submit again") from error

    # -- a campaign that is given up -------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """Say for good that the rest of its runs is not worth trying. Raises StoreError."""
        create_once(self.folder / "stopped.json", encode({"reason": reason}))

    def note_broken(self, attempt: str, reason: str) -> None:
        """Keep why a job could not try its runs. Raises StoreError."""
        folder = self.folder / "broken"
        folder.mkdir(exist_ok=True)
        create_once(folder / f"{attempt}.json", encode({"reason": reason}))

    @property
    def broken(self) -> list[str]:
        """Why jobs could not try their runs, one line for each."""
        return [reason for path in self.folder.glob("broken/*") if (reason := _reason(path))]

    @property
    def stopped(self) -> str | None:
        """Why it was given up, or None."""
        return _reason(self.folder / "stopped.json")


def _reason(path: Path) -> str | None:
    with suppress(OSError, Corrupt, KeyError):
        return str(decode(read(path))["reason"])
    return None


def _bundle(plain: Sequence[dict[str, Any]]) -> Bundle:
    return tuple(Spec.model_validate(spec) for spec in plain)


def present_code() -> dict[str, Any]:
    """What tells this code from other code."""
    head, dirty = commit()
    digest = code_digest()
    return {"version": version("paibench"), "commit": head, "dirty": dirty, "sha256": digest}


def find_submission(store: Store, job_name: str) -> tuple[Submission, int] | None:
    """The campaign that a job belongs to by its name, and the chunk of it; None for others."""
    named = _JOB_NAME.fullmatch(job_name)
    if named is None:
        return None
    for folder in (store.root / "submissions").glob(f"*-{named[1].removeprefix('pai-')}"):
        with suppress(UserError):
            return Submission.read(folder), int(named[2])
    return None


def is_ours(job_name: str) -> bool:
    """Whether a job has the name of a campaign's."""
    return _JOB_NAME.fullmatch(job_name) is not None


_SECONDS = 300.0  # for importing torch from a slow file system


_TRY = """
import json, sys
from paibench.methods.core.registry import get
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
            env=child_environment(1),
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
