"""The processes that belong to the folder of a cluster, found in /proc."""

import fnmatch
import os
from contextlib import suppress
from pathlib import Path


def processes(folder: Path, pattern: str) -> set[int]:
    """Return the ids of the processes whose names match, and of all their descendants.

    A daemon has the name of the log in `folder`/log that it holds open: "slurmctld",
    "slurmd-node1" (also its step daemons). A process of a job on node1 is identified by its
    environment: "slurmd-node1" and "job-node1". Children without an environment are descendants.
    """
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    parents = {pid: _parent(pid) for pid in pids}
    found = {
        pid for pid in pids if fnmatch.filter(_logs(folder, pid) | _nodes(folder, pid), pattern)
    }
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    # whoever asks in order to end them is not one of them, though it be a shell in a job
    own = os.getpid()
    while own:
        found.discard(own)
        own = parents.get(own, 0)
    return found


def _logs(folder: Path, pid: int) -> set[str]:
    names = set()
    with suppress(OSError):
        for opened in Path("/proc", str(pid), "fd").iterdir():
            with suppress(OSError):
                file = opened.readlink()
                if file.parent == folder / "log":
                    names.add(file.stem)
    return names


def _nodes(folder: Path, pid: int) -> set[str]:
    with suppress(OSError):
        text = Path("/proc", str(pid), "environ").read_bytes().decode(errors="replace")
        environment = dict(entry.partition("=")[::2] for entry in text.split("\0"))
        node = environment.get("SLURMD_NODENAME")
        if node and environment.get("SLURM_CONF") == str(folder / "etc/slurm.conf"):
            return {f"job-{node}", f"slurmd-{node}"}
    return set()


def _parent(pid: int) -> int:
    try:
        status = Path("/proc", str(pid), "stat").read_text(errors="replace")
    except OSError:
        return 0
    # the second field is the program's name, which may hold spaces and brackets
    return int(status.rpartition(")")[2].split()[1])
