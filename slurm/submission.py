"""A submission: what one `paibench submit` hands to the cluster, complete on disk before any job.

    <store>/submissions/<UTC>-<8 digits>/manifest.json   the runs, their jobs, the code
                                         logs/           output of SLURM and of the jobs
                                         broken/         jobs that could not start any run
                                         stopped.json    why the remaining jobs were cancelled

Jobs are identified by their names, `pai-<8 digits>-<chunk>`, and never by their ids: a controller
that lost its state assigns the same ids again.
"""

import re
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

from paibench.benchmark.provenance import code_digest, code_sha256, commit
from paibench.benchmark.spec import Spec
from paibench.benchmark.store.atomic import create_once, read
from paibench.benchmark.store.checksummed_json import Corrupt, decode, encode
from paibench.benchmark.store.store import Store
from paibench.methods.core.registry import UserError
from paibench.slurm.profile import Profile

_MANIFEST_LIMIT = 1 << 28  # bytes
# Names with this stamp sort by time.
_STAMP = "%Y%m%dt%H%M%Sz"
_JOB_NAME = re.compile(r"(pai-[0-9a-f]{8})-(\d+)")

Bundle = tuple[Spec, ...]


@dataclass(frozen=True)
class Submission:
    """The bundles of runs that jobs execute, one bundle each, and all that the jobs need."""

    folder: Path
    sweep: str
    bundles: tuple[Bundle, ...]
    array_size: int
    """The largest number of its jobs in one array."""
    profile: Profile
    data: Path | None
    code: dict[str, Any] = field(default_factory=dict)
    """Version, commit, dirty flag and digest of the code at submission."""
    retry: bool = False
    """Whether to retry runs that failed permanently."""
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
        """Return a submission with a new name and the current code; nothing is written."""
        stamp = time.strftime(_STAMP, time.gmtime())
        folder = store.root / "submissions" / f"{stamp}-{uuid4().hex[:8]}"
        jobs = tuple(bundles)
        code = current_code()
        return cls(folder, sweep, jobs, array_size, profile, data, code, retry, plugins)

    @property
    def name(self) -> str:
        """The prefix of its jobs' names."""
        return f"pai-{self.folder.name.rpartition('-')[2]}"

    @property
    def created(self) -> str:
        """When it was created, in the format of failure notes."""
        stamp = time.strptime(self.folder.name.partition("-")[0], _STAMP)
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", stamp)

    @property
    def store(self) -> Path:
        """The store that holds its runs."""
        return self.folder.parent.parent

    @property
    def logs(self) -> Path:
        """The folder for the output of SLURM and of the jobs."""
        return self.folder / "logs"

    @cached_property
    def specs(self) -> tuple[Spec, ...]:
        """All its runs."""
        return tuple(spec for bundle in self.bundles for spec in bundle)

    def chunks(self) -> list[int]:
        """Return the number of jobs in each of its arrays."""
        # SLURM limits the number of jobs in one array.
        full, rest = divmod(len(self.bundles), self.array_size)
        return [self.array_size] * full + ([rest] if rest else [])

    def bundle(self, chunk: int, index: int) -> Bundle:
        """Return the runs of one job: the one at `index` in array number `chunk`."""
        job = chunk * self.array_size + index
        return self.bundles[job] if job < len(self.bundles) else ()

    def with_first_jobs(self, count: int) -> "Submission":
        """Return a new submission, with a new name, of the first `count` jobs."""
        stamp = self.folder.name.partition("-")[0]
        folder = self.folder.with_name(f"{stamp}-{uuid4().hex[:8]}")
        return replace(self, folder=folder, bundles=self.bundles[:count])

    # -- on disk ----------------------------------------------------------------------------------

    def write(self) -> None:
        """Write it to disk completely. Raises StoreError."""
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
        # Last: a folder with a manifest is a complete submission.
        create_once(self.folder / "manifest.json", encode(plain))

    @classmethod
    def read(cls, folder: Path) -> "Submission":
        """Read a submission. Raises UserError in one line if it cannot be trusted."""
        path = folder / "manifest.json"
        try:
            plain = decode(read(path, _MANIFEST_LIMIT))
            profile = plain["profile"]
            data = Path(profile["data"]) if profile["data"] else None
            return cls(
                folder=folder,
                sweep=plain["sweep"],
                bundles=tuple(
                    tuple(Spec.model_validate(spec) for spec in bundle)
                    for bundle in plain["bundles"]
                ),
                array_size=plain["array_size"],
                profile=Profile.model_validate(profile | {"data": data}, strict=False),
                data=Path(plain["data"]) if plain["data"] else None,
                code=plain["code"],
                retry=plain["retry"],
                plugins=plain["plugins"],
            )
        except (OSError, Corrupt, KeyError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{path}: cannot be read: {reason}; submit again") from error

    # -- failures that concern all jobs -----------------------------------------------------------

    def abort(self, reason: str) -> None:
        """Record permanently that its remaining runs are not worth trying. Raises StoreError."""
        # The first reason stays: later jobs may see only its consequences.
        create_once(self.folder / "stopped.json", encode({"reason": reason}))

    @property
    def aborted(self) -> str | None:
        """Why it was aborted, or None."""
        return _reason(self.folder / "stopped.json")

    def record_failed_job(self, attempt: str, reason: str) -> None:
        """Record why a job could not start any of its runs. Raises StoreError."""
        folder = self.folder / "broken"
        folder.mkdir(exist_ok=True)
        create_once(folder / f"{attempt}.json", encode({"reason": reason}))

    @property
    def failed_jobs(self) -> list[str]:
        """Why jobs could not start any of their runs, one line for each job."""
        return [reason for path in self.folder.glob("broken/*") if (reason := _reason(path))]

    # -- the code ---------------------------------------------------------------------------------

    def changed_code(self, methods: Collection[str]) -> str | None:
        """Return how the code of paibench or of these methods differs from the submitted one."""
        now = current_code()
        if now["sha256"] != self.code["sha256"]:
            versions = f"{self.code['version']} then, {now['version']} now"
            return f"the code of paibench changed after submission ({versions}); submit again"
        return changed_plugin(self.plugins, methods)


def _reason(path: Path) -> str | None:
    with suppress(OSError, Corrupt, KeyError):
        return str(decode(read(path))["reason"])
    return None


def find_submission(store: Store, job_name: str) -> tuple[Submission, int] | None:
    """Return the submission and the chunk that a job's name refers to; None for other jobs."""
    match = _JOB_NAME.fullmatch(job_name)
    if match is None:
        return None
    for folder in (store.root / "submissions").glob(f"*-{match[1].removeprefix('pai-')}"):
        # Another version of paibench may have written it.
        with suppress(UserError):
            return Submission.read(folder), int(match[2])
    return None


def is_job_name(name: str) -> bool:
    """Return whether a job with this name belongs to a submission."""
    return _JOB_NAME.fullmatch(name) is not None


def current_code() -> dict[str, Any]:
    """Return what identifies this code: version, commit, dirty flag and digest."""
    head, dirty = commit()
    digest = code_digest()
    return {"version": version("paibench"), "commit": head, "dirty": dirty, "sha256": digest}


def plugin_digest(method: str) -> str | None:
    """Return the sha256 of a method's code; None if it cannot be found."""
    with suppress(UserError, ImportError, OSError, ValueError):
        return code_sha256(method)
    return None


def changed_plugin(digests: Mapping[str, str], methods: Collection[str]) -> str | None:
    """Return a message if one of these methods has other code than at submission, else None."""
    for name in sorted(digests.keys() & set(methods)):
        now = plugin_digest(name)
        if now is not None and now != digests[name]:
            return f"the code of method {name} changed after submission; submit again"
    return None
