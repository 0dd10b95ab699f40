"""A sweep under random faults, submitted until it is done: no run is lost or recorded twice."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cluster import Cluster, ClusterError
from cluster_sweep import ClusterSweep, replace_command, spec_of
from terminal import local_records, stable

from paibench.benchmark.store.records import Problem

SEED = int(os.environ.get("PAIBENCH_CHAOS_SEED", "0"))  # another one every night
FAULTS = 30
SAMPLE = 16  # runs that are done without any fault as well
SECONDS = 400.0
DEAF = """
[[ "$*" == *--test-only* ]] && exec $real "$@"
$real "$@" > /dev/null
echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2
exit 1
"""
LITE, SHORTER = ({"name": "lite", "epochs": epochs} for epochs in (60, 25))
SPECS = [
    *(spec_of("random", seed=seed, recipe=LITE) for seed in range(24)),
    *(spec_of("snip", seed=seed, recipe=LITE) for seed in range(24)),
    *(spec_of({"name": "imp", "rate": 0.5}, seed=seed, recipe=SHORTER) for seed in range(12)),
]


class Chaos:
    """Random faults of all kinds against one sweep, drawn from a seed."""

    def __init__(self, sweep: ClusterSweep, seed: int) -> None:
        self.sweep = sweep
        self.dice = random.Random(seed)
        self.kinds: list[Callable[[], bool]] = [
            *[self.kill_worker] * 5,
            *[self.kill_job, self.terminate_job] * 2,
            *[self.cancel, self.requeue] * 3,
            *[self.warn, self.lose_node, self.kill_controller, self.kill_accounting],
        ]
        self.faults: Counter[str] = Counter()
        self.deaf = replace_command("sbatch", sweep.folder, DEAF)
        self.lost_replies = 0

    def submit(self, deaf: bool) -> bool:
        """Submit, maybe with an `sbatch` whose reply is lost; return whether a run was queued."""
        self.resume_nodes()
        queued = bool(self.sweep.submit(**({"PATH": self.deaf} if deaf else {}))["queued"])
        self.lost_replies += queued and deaf
        return queued

    def strike(self) -> None:
        """Cause one fault if there is a target: first one of each kind, then any."""
        missing = [kind for kind in self.kinds if not self.faults[kind.__name__]]
        kind = self.dice.choice(missing or self.kinds)
        with suppress(ClusterError, ProcessLookupError):  # what was to be hit is gone
            self.faults[kind.__name__] += kind()

    def resume_nodes(self) -> None:
        """Resume drained nodes, as an administrator does."""
        for name in self.sweep.cluster.shape.node_names:
            self.sweep.cluster.resume(name)

    def calm(self, seconds: float = 5.0) -> None:
        """Let the cluster work without faults."""
        self.resume_nodes()
        end = time.monotonic() + seconds
        self.sweep.wait_until(lambda: self.sweep.is_done() or time.monotonic() > end)

    def kill_worker(self) -> bool:
        return self._signal("paibench.benchmark.execution.worker", signal.SIGKILL)

    def kill_job(self) -> bool:
        return self._signal("paibench.slurm.run_job", signal.SIGKILL)

    def terminate_job(self) -> bool:
        return self._signal("paibench.slurm.run_job", signal.SIGTERM)

    def cancel(self) -> bool:
        return self._control("scancel")

    def requeue(self) -> bool:
        return self._control("scontrol", "requeue")

    def warn(self) -> bool:
        return self._control("scancel", "--signal=USR2")

    def lose_node(self) -> bool:
        name = self.dice.choice(self.sweep.cluster.shape.node_names)
        self.sweep.cluster.set_down(name)
        self.sweep.cluster.resume(name)
        return True

    def kill_controller(self) -> bool:
        self.sweep.cluster.kill_controller()
        self.sweep.cluster.start_controller()
        return True

    def kill_accounting(self) -> bool:
        self.sweep.cluster.kill_accounting()
        self.sweep.cluster.start_accounting()
        return True

    def _signal(self, module: str, number: signal.Signals) -> bool:
        pids = sorted(self.sweep.processes(module))
        if pids:
            os.kill(self.dice.choice(pids), number)
        return bool(pids)

    def _control(self, *command: str) -> bool:
        running = sorted(n for n, (state, _) in self.sweep.jobs().items() if state == "RUNNING")
        if running:
            self.sweep.cluster.run(*command, self.dice.choice(running))
        return bool(running)


def test_chaos(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """Every record is there, valid, and equal to that of an undisturbed run.

    Jobs are killed, cancelled and requeued, nodes are lost, controller and accounting die, and
    replies are lost. No run is repeated without a fault.
    """
    sweep = ClusterSweep.new(quiet_cluster, tmp_path, *SPECS, cpus=8, runs_per_job=6)
    chaos, begun, rounds = Chaos(sweep, SEED), time.monotonic(), 0
    chaos.submit(deaf=True)
    while not sweep.is_done():
        assert time.monotonic() < begun + SECONDS, sweep.report()
        if chaos.faults.total() < FAULTS:
            time.sleep(chaos.dice.uniform(0.2, 3.0))
            chaos.strike()
        else:
            chaos.calm()
        if not sweep.jobs() or chaos.dice.random() < 0.2:
            rounds += chaos.submit(deaf=chaos.dice.random() < 0.5)
    sweep.wait_until_no_jobs()
    attempts = [sweep.attempts(spec) for spec in SPECS]
    print(
        f"{len(SPECS)} runs, seed {SEED}: {chaos.faults.total()} faults {dict(chaos.faults)}, "
        f"{chaos.lost_replies} lost replies, "
        f"{rounds} more rounds, {sum(map(len, attempts))} attempts, "
        f"{time.monotonic() - begun:.0f} s"
    )
    check(sweep, chaos, local_records(tmp_path / "alone", tuple(chaos.dice.sample(SPECS, SAMPLE))))


def check(sweep: ClusterSweep, chaos: Chaos, undisturbed: dict[str, dict[str, Any]]) -> None:
    """Check that no run is lost, doubled, invalid, or different from an undisturbed one."""
    store = sweep.store
    assert [each for each in store.records() if isinstance(each, Problem)] == []
    assert store.listing() == (frozenset(spec.key for spec in SPECS), frozenset())
    assert list(store.root.rglob("divergence.json")) == []
    assert list(store.root.glob("quarantine/*")) == []
    assert [*store.root.glob("*/*/*/claim"), *store.root.glob("stages/*/*/*/claim")] == []
    assert all(chaos.faults[kind.__name__] for kind in chaos.kinds)
    assert chaos.lost_replies
    assert chaos.faults.total() >= FAULTS // 2
    started = sum(len(sweep.attempts(spec)) for spec in SPECS)
    assert started - len(SPECS) <= 2 * chaos.faults.total()  # a fault hits one run on each node
    assert undisturbed == {key: made for key, made in stable(store).items() if key in undisturbed}
