"""Names that may become part of a path in a store."""

import os
import re

import pytest

from paibench.benchmark.store.names import (
    SlurmJob,
    check_key,
    check_name,
    current_slurm_job,
    is_key,
    new_attempt_id,
    short_slug,
    slurm_job_of,
)
from paibench.methods.core.registry import UserError

HOSTILE = {
    "empty": "",
    "slash": "a/b",
    "absolute": "/etc/passwd",
    "parent": "..",
    "parent inside": "a..b",
    "hidden": ".a",
    "option": "-x",
    "nul": "a\0b",
    "newline inside": "a\nb",
    "newline at the end": "a\n",
    "capital": "CON",
    "too long": "a" * 65,
    "escape": "a\x1b[31m",
    "right to left": "a\u202eb",
    "homoglyph": "m\u0430gnitude",
}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_name_is_refused_in_one_line(name: str) -> None:
    """No name with more than a-z 0-9 _ . - becomes part of a path, and its echo is escaped."""
    with pytest.raises(UserError) as caught:
        check_name(name, "stage")
    assert str(caught.value).isprintable()
    assert str(caught.value).startswith("stage '")


@pytest.mark.parametrize("name", ["a", "0", "imp.level-3_of.10", "a" * 64])
def test_a_plain_name_passes_unchanged(name: str) -> None:
    """A name that follows the rule is returned."""
    assert check_name(name) == name


@pytest.mark.parametrize("key", ["", "a" * 39, "a" * 41, "A" * 40, "g" * 40, "a" * 40 + "\n"])
def test_a_key_has_forty_digits(key: str) -> None:
    """A key is exactly 40 lower-case hexadecimal digits."""
    assert not is_key(key)
    with pytest.raises(UserError, match="40 hexadecimal digits"):
        check_key(key)


# -- attempts ---------------------------------------------------------------------------------

HOSTS = {
    "node7": "node7",
    "Node7.cluster.example.org": "node7",
    "gpu_a100--3": "gpu-a100-3",
    "-": "host",
    "\u00fcber": "ber",
    "n" * 63: "n" * 24,
}


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests may themselves be run in a job."""
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)


def test_an_attempt_has_a_fresh_name_that_may_be_a_folder() -> None:
    """Two attempts of one process have different names, and both follow the rule."""
    first, second = new_attempt_id(), new_attempt_id()
    assert first != second
    assert re.fullmatch(r"[a-z0-9-]+\.\d+\.[0-9a-f]{8}", check_name(first))
    assert current_slurm_job() is slurm_job_of(first) is None


@pytest.mark.parametrize(("restart", "times"), [(None, 0), ("0", 0), ("3", 3)])
def test_an_attempt_within_a_job_names_it(
    monkeypatch: pytest.MonkeyPatch, restart: str | None, times: int
) -> None:
    """Its name begins with the number of the job and how often it was requeued."""
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    if restart is not None:
        monkeypatch.setenv("SLURM_RESTART_COUNT", restart)
    name = check_name(new_attempt_id())
    assert re.fullmatch(rf"j4711\.{times}\.[a-z0-9-]+\.{os.getpid()}\.[0-9a-f]{{8}}", name)
    assert current_slurm_job() == slurm_job_of(name) == SlurmJob(4711, times)


@pytest.mark.parametrize("number", ["", "none", "-1", "1_2"], ids=repr)
def test_a_job_number_is_a_number(monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    """A variable of SLURM that is not a number is ignored."""
    monkeypatch.setenv("SLURM_JOB_ID", number)
    assert current_slurm_job() is None
    assert slurm_job_of(new_attempt_id()) is None


@pytest.mark.parametrize("job", [None, "67108863", "4294967295"])
@pytest.mark.parametrize(("host", "part"), HOSTS.items(), ids=lambda name: name[:12])
def test_every_host_gives_a_name_that_may_be_a_folder(
    monkeypatch: pytest.MonkeyPatch, host: str, part: str, job: str | None
) -> None:
    """The host's own name is in it as far as the rule allows; with a long job it is 64 at most."""
    monkeypatch.setattr("socket.gethostname", lambda: host)
    monkeypatch.setattr("os.getpid", lambda: 4_194_304)
    if job is not None:
        monkeypatch.setenv("SLURM_JOB_ID", job)
        monkeypatch.setenv("SLURM_RESTART_COUNT", "1000")
    name = check_name(new_attempt_id())
    mark = f"j{job}.1000." if job else ""
    assert name.startswith(f"{mark}{part}.4194304.")
    assert slurm_job_of(name) == (SlurmJob(int(job), 1000) if job else None)


def test_a_host_may_be_called_like_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt outside SLURM on the host `j12` belongs to no job, whatever its process id."""
    monkeypatch.setattr("socket.gethostname", lambda: "j12")
    name = new_attempt_id()
    assert name.startswith(f"j12.{os.getpid()}.")
    assert slurm_job_of(name) is None
    assert slurm_job_of(f"{name} j12/boot/4 17 4711 nonce") is None


def test_the_cluster_of_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two clusters may share a store and use the same numbers; the ids of attempts still differ."""
    monkeypatch.setattr("socket.gethostname", lambda: "a-very-long-name-of-a-node-0001")
    monkeypatch.setenv("SLURM_JOB_ID", "67043328")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1000")
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "Very_Long.Cluster")
    name = new_attempt_id()
    assert len(name) <= 64
    assert (
        slurm_job_of(name)
        == current_slurm_job()
        == SlurmJob(67043328, 1000, short_slug("Very_Long.Cluster"))
    )
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "Very_Long.Cluster.2")
    assert current_slurm_job() != slurm_job_of(name)
    assert slurm_job_of("j7.0.node1.4711.01234567") == SlurmJob(7, 0, "")
