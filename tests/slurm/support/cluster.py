"""A private SLURM cluster for tests: real daemons, emulated nodes and GPUs, one folder, no root.

Daemons are found by the logs that they hold open, and processes of jobs by their environment.
So any process that knows the folder can end the cluster.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from configuration import Shape, user, write_configuration
from processes import processes

PROGRAMS = "munged mariadbd mariadb-install-db mariadb-admin slurmdbd slurmctld slurmd sacctmgr"

LONGEST = 60
"""Bytes of the folder's path: a socket's has 107 at most, slurmstepd's is the longest of them."""

DEFAULT = Shape()


class ClusterError(RuntimeError):
    """The cluster did not do what was asked; the message ends with the log."""


@dataclass(frozen=True)
class Cluster:
    """A cluster in `folder`, with its own ports; the folder identifies a running cluster.

    Partitions: `gpu` (default; preempted by requeue after 10 s of grace), `high` (preempts it) and
    `short` (at most 10 minutes). By default every node has four GPUs and the feature a100.
    """

    folder: Path
    shape: Shape = DEFAULT

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables with which commands use this cluster."""
        return {"SLURM_CONF": str(self.folder / "etc/slurm.conf")}

    def astray(self, folder: Path) -> str:
        """Write a copy of the configuration without a controller; return its path."""
        for file in (self.folder / "etc").iterdir():
            text = re.sub(r"(?m)^(SlurmctldPort)=.*", r"\1=9", file.read_text())
            (folder / file.name).write_text(text)
        return str(folder / "slurm.conf")

    def up(self) -> None:
        """Start it and wait until every node is idle; if it fails, end it. Raises ClusterError."""
        self._check()
        try:
            write_configuration(self.folder, self.shape)
            self._start_munge()
            self._start_database()
            self.start_accounting()
            self._add_user()
            self.start_controller()
            for name in self.shape.node_names:
                self._launch_node(name)
            self.wait_idle()
        except BaseException:
            self.down()
            raise

    def down(self) -> None:
        """End every daemon and every process of a job; files stay. Repeated calls are safe."""
        self._kill("*")

    def run(self, *command: str, timeout: float = 30, **environment: str) -> str:
        """Run a command in the cluster's folder and return its output; `environment` is added.

        Raises ClusterError with its standard error if it fails or takes too long.
        """
        try:
            done = subprocess.run(
                command,
                env=clean_environment() | self.environment | environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            message = f"{' '.join(command)}: no end after {timeout:g} s\n{self.report()}"
            raise ClusterError(message) from None
        if done.returncode:
            message = f"{' '.join(command)}: status {done.returncode}\n{done.stderr}{done.stdout}"
            raise ClusterError(message)
        return done.stdout

    def kill_controller(self) -> None:
        """Kill slurmctld."""
        self._kill("slurmctld")

    def keep_state(self) -> None:
        """Make slurmctld save its state; afterwards it saves nothing for five seconds."""
        kept, begun = self.folder / "state/node_state", time.time()
        self.run("scontrol", "update", f"nodename={self.shape.node_names[0]}", "comment=kept")
        self.wait("slurmctld", lambda: kept.stat().st_mtime > begun)

    def start_controller(self) -> None:
        """Start slurmctld if it does not run, and wait until it answers."""
        if not self.processes("slurmctld"):
            self.run("slurmctld", "-f", self.environment["SLURM_CONF"])
        self._wait_for("slurmctld", lambda: "is UP" in self.run("scontrol", "ping"))

    def kill_accounting(self) -> None:
        """Kill slurmdbd; the database continues."""
        self._kill("slurmdbd")

    def start_accounting(self) -> None:
        """Start slurmdbd if it does not run, and wait until it answers."""
        if not self.processes("slurmdbd"):
            self.run("slurmdbd", MYSQL_UNIX_PORT=str(self.folder / "run/mariadb"))
        self._wait_for("slurmdbd", lambda: bool(self.run("sacctmgr", "-n", "list", "qos")))

    def kill_node(self, name: str) -> None:
        """Kill slurmd, its step daemons and all processes of its jobs: the node is lost."""
        self._kill(f"slurmd-{name}")

    def start_node(self, name: str) -> None:
        """Start the node's slurmd if it does not run, and wait until the controller knows."""
        self._launch_node(name)
        self._wait_for(f"slurmd-{name}", lambda: not re.search(r"[*]|down|unk", self._states(name)))

    def set_down(self, name: str) -> None:
        """Set a node down, as an administrator does: its jobs are requeued."""
        self.run("scontrol", "update", f"nodename={name}", "state=down", "reason=test")

    def resume(self, name: str) -> None:
        """Resume a node that is down or drained; do nothing if it is up."""
        try:
            self.run("scontrol", "update", f"nodename={name}", "state=resume")
        except ClusterError as error:
            if "Invalid node state" not in str(error):
                raise

    def wait_idle(self) -> None:
        """Wait until there is no job and every node is idle."""

        def idle() -> bool:
            return set(self._states().split()) == {"idle"} and not self.run("squeue", "-h")

        self.wait("slurm*", idle)

    def quiet(self) -> None:
        """Start all daemons, cancel all jobs, and wait until all nodes are idle."""
        self.start_accounting()
        self.start_controller()
        self.run("scancel", "--user", user())
        for name in self.shape.node_names:
            self._kill(f"job-{name}")
            self._launch_node(name)
            self.resume(name)
        self.wait_idle()

    def processes(self, pattern: str = "*") -> set[int]:
        """Return the ids of all processes, or of "slurmctld", "slurmd-node1" with its jobs, ..."""
        return processes(self.folder, pattern)

    def report(self, name: str = "*") -> str:
        """Return the last 15 lines of all logs, or of one daemon."""
        logs = sorted((self.folder / "log").glob(f"{name}.log"))
        ends = {log: log.read_text(errors="replace").splitlines()[-15:] for log in logs}
        return "\n".join("\n".join([f"--- {log}", *end]) for log, end in ends.items())

    def wait(self, name: str, ready: Callable[[], bool], seconds: float = 30) -> None:
        """Wait until `ready()`; a ClusterError in it counts as not ready.

        Raises ClusterError after `seconds`, with the end of that log ("*": of all).
        """
        end = time.monotonic() + seconds
        reason = ""
        while time.monotonic() < end:
            try:
                if ready():
                    return
            except ClusterError as error:
                reason = f" ({error})"
            time.sleep(0.03)
        message = f"{name}: not ready after {seconds:g} s{reason}"
        raise ClusterError(f"{message}\n{self.report(name)}")

    def _wait_for(self, daemon: str, answers: Callable[[], bool]) -> None:
        """Wait until a daemon that was just started answers, or fail if it has ended."""
        soon = time.monotonic() + 1  # by then it holds its log

        def ended() -> bool:
            return time.monotonic() > soon and not self.processes(daemon)

        self.wait(daemon, lambda: ended() or answers())
        if ended():
            raise ClusterError(f"{daemon} has ended\n{self.report(daemon)}")

    def _kill(self, name: str) -> None:
        def gone() -> bool:
            left = self.processes(name)
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not left

        self.wait(name, gone)

    def _states(self, node: str = "") -> str:
        which = ["-n", node] if node else []
        return self.run("sinfo", "-h", "-N", "-o", "%t", *which, timeout=3)

    def _check(self) -> None:
        """Raise ClusterError for a folder or a machine that cannot work."""
        if len(os.fsencode(self.folder)) > LONGEST or re.search(r"[^\w./-]", str(self.folder)):
            raise ClusterError(
                f"{self.folder}: SLURM needs a plain path of at most {LONGEST} bytes; "
                "take a folder right below /tmp"
            )
        if self.folder != self.folder.resolve():
            raise ClusterError(f"{self.folder}: give the resolved path, {self.folder.resolve()}")
        if self.folder.exists() and any(self.folder.iterdir()):
            raise ClusterError(f"{self.folder} is not empty; give a new or an empty folder")
        path = clean_environment()["PATH"]
        missing = [name for name in PROGRAMS.split() if not shutil.which(name, path=path)]
        if missing:
            raise ClusterError(
                f"{', '.join(missing)}: not installed; run tests/slurm/support/packages"
            )

    def _start_munge(self) -> None:
        own = self.folder / "munge"
        (own / "key").touch(0o600)
        (own / "key").write_bytes(os.urandom(1024))
        files = [f"--key-file={own}/key", f"--pid-file={own}/pid", f"--seed-file={own}/seed"]
        socket = str(self.folder / "run/munge")
        log = f"--log-file={self.folder}/log/munged.log"
        self.run("munged", "--force", "--socket", socket, log, *files)
        self._wait_for("munged", lambda: bool(self.run("munge", "-n", "-S", socket)))

    def _start_database(self) -> None:
        data = ["--no-defaults", f"--user={user()}", f"--datadir={self.folder}/database"]
        access = ["--auth-root-authentication-method=socket", f"--auth-root-socket-user={user()}"]
        # two that make their temporary tables in one place take them for their own
        own = f"{self.folder}/run"
        self.run("mariadb-install-db", *data, *access, "--force", "--skip-test-db", TMPDIR=own)
        socket = f"--socket={self.folder}/run/mariadb"
        files = [socket, f"--pid-file={self.folder}/run/mariadb.pid"]
        quick = ["--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=0"]
        daemon = ["setsid", "--fork", "mariadbd", *data, *files, *quick, "--skip-networking"]
        with (self.folder / "log/mariadbd.log").open("wb") as log:
            subprocess.run(
                daemon,
                env=clean_environment() | {"TMPDIR": own},
                stdout=log,
                stderr=log,
                check=True,
            )
        ping = ["mariadb-admin", "--no-defaults", socket, "ping"]
        self._wait_for("mariadbd", lambda: bool(self.run(*ping)))

    def _add_user(self) -> None:
        """Add the cluster and this user to accounting, so that limits can be set."""
        self.run("sacctmgr", "-i", "add", "cluster", "test")
        self.run("sacctmgr", "-i", "add", "account", "test")
        self.run("sacctmgr", "-i", "add", "user", user(), "account=test", "defaultaccount=test")

    def _launch_node(self, name: str) -> None:
        if not self.processes(f"slurmd-{name}"):
            self.run("slurmd", "-N", name, "-f", self.environment["SLURM_CONF"])


@contextmanager
def temporary_cluster(shape: Shape = DEFAULT) -> Iterator[Cluster]:
    """A running cluster in a new folder, which is removed afterwards."""
    # not the usual place for temporary files: its path may be too long for sockets
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp")).resolve()
    cluster = Cluster(folder, shape)
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()
        shutil.rmtree(folder)


def clean_environment() -> dict[str, str]:
    """Return this process's environment without variables of another SLURM."""
    foreign = re.compile(r"S(LURM|BATCH|ALLOC|RUN|QUEUE|INFO|CANCEL|ACCT|CONTROL)\w*")
    kept = {name: value for name, value in os.environ.items() if not foreign.fullmatch(name)}
    # where Debian has the daemons, which is not on everybody's path
    return kept | {"PATH": f"{kept.get('PATH', os.defpath)}:/usr/sbin:/sbin"}


def main(arguments: list[str]) -> int:
    """Start or end a cluster: `up FOLDER`, `down FOLDER`."""
    match arguments:
        case ["up", folder]:
            cluster = Cluster(Path(folder).resolve())
            try:
                cluster.up()
            except ClusterError as error:
                print(error, file=sys.stderr)
                return 1
            for name, value in cluster.environment.items():
                print(f"export {name}={value}")
        case ["down", folder]:
            Cluster(Path(folder).resolve()).down()
        case _:
            print("usage: tests/slurm/support/cluster up FOLDER | down FOLDER", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
