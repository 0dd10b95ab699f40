"""A sweep under random faults, submitted again until it is done: nothing lost, nothing doubled."""

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
from cluster_sweep import ClusterSweep, instead_of, spec_of
from terminal import alone, stable

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
    """Faults of all kinds, drawn from a seed, against one sweep."""

    def __init__(self, sweeping: ClusterSweep, seed: int) -> None:
        self.sweeping = sweeping
        self.dice = random.Random(seed)
        self.kinds: list[Callable[[], bool]] = [
            *[self.kill_worker] * 5,
            *[self.kill_job, self.terminate_job] * 2,
            *[self.cancel, self.requeue] * 3,
            *[self.warn, self.lose_node, self.kill_controller, self.kill_accounting],
        ]
        self.faults: Counter[str] = Counter()
        self.deaf = instead_of("sbatch", sweeping.folder, DEAF)
        self.lost_replies = 0

    def submit(self, deaf: bool) -> bool:
        """Submit, maybe with an `sbatch` whose reply is lost; whether anything was queued."""
        self.mend()
        queued = bool(self.sweeping.submit(**({"PATH": self.deaf} if deaf else {}))["queued"])
        self.lost_replies += queued and deaf
        return queued

    def strike(self) -> None:
        """One fault, where there is something to hit; of each kind one, then any."""
        missing = [kind for kind in self.kinds if not self.faults[kind.__name__]]
        kind = self.dice.choice(missing or self.kinds)
        with suppress(ClusterError, ProcessLookupError):  # what was to be hit is gone
            self.faults[kind.__name__] += kind()

    def mend(self) -> None:
        """What the cluster drained is given back, as an administrator does."""
        for name in self.sweeping.cluster.shape.node_names:
            self.sweeping.cluster.resume(name)

    def calm(self, seconds: float = 5.0) -> None:
        """Let the cluster work."""
        self.mend()
        end = time.monotonic() + seconds
        self.sweeping.until(lambda: self.sweeping.is_done() or time.monotonic() > end)

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
        name = self.dice.choice(self.sweeping.cluster.shape.node_names)
        self.sweeping.cluster.set_down(name)
        self.sweeping.cluster.resume(name)
        return True

    def kill_controller(self) -> bool:
        self.sweeping.cluster.kill_controller()
        self.sweeping.cluster.start_controller()
        return True

    def kill_accounting(self) -> bool:
        self.sweeping.cluster.kill_accounting()
        self.sweeping.cluster.start_accounting()
        return True

    def _signal(self, module: str, number: signal.Signals) -> bool:
        pids = sorted(self.sweeping.processes(module))
        if pids:
            os.kill(self.dice.choice(pids), number)
        return bool(pids)

    def _control(self, *command: str) -> bool:
        running = sorted(n for n, (state, _) in self.sweeping.jobs().items() if state == "RUNNING")
        if running:
            self.sweeping.cluster.run(*command, self.dice.choice(running))
        return bool(running)


def test_chaos(quiet_cluster: Cluster, tmp_path: Path) -> None:
    """Killed, cancelled, requeued, on lost nodes, without controller and accounting, and with
    replies that are lost: every record is there.

    Each is sound and equal to that of an undisturbed run, and nothing was done that was not asked
    for by a fault.
    """
    sweeping = ClusterSweep.new(quiet_cluster, tmp_path, *SPECS, cpus=8, runs_per_job=6)
    chaos, begun, rounds = Chaos(sweeping, SEED), time.monotonic(), 0
    chaos.submit(deaf=True)
    while not sweeping.is_done():
        assert time.monotonic() < begun + SECONDS, sweeping.report()
        if chaos.faults.total() < FAULTS:
            time.sleep(chaos.dice.uniform(0.2, 3.0))
            chaos.strike()
        else:
            chaos.calm()
        if not sweeping.jobs() or chaos.dice.random() < 0.2:
            rounds += chaos.submit(deaf=chaos.dice.random() < 0.5)
    sweeping.until_gone()
    attempts = [sweeping.attempts(spec) for spec in SPECS]
    print(
        f"{len(SPECS)} runs, seed {SEED}: {chaos.faults.total()} faults {dict(chaos.faults)}, "
        f"{chaos.lost_replies} lost replies, "
        f"{rounds} more rounds, {sum(map(len, attempts))} attempts, "
        f"{time.monotonic() - begun:.0f} s"
    )
    check(sweeping, chaos, alone(tmp_path / "alone", tuple(chaos.dice.sample(SPECS, SAMPLE))))


def check(sweeping: ClusterSweep, chaos: Chaos, undisturbed: dict[str, dict[str, Any]]) -> None:
    """No run is lost, doubled or invalid, and none differs from an undisturbed one."""
    store = sweeping.store
    assert [each for each in store.records() if isinstance(each, Problem)] == []
    assert store.listing() == (frozenset(spec.key for spec in SPECS), frozenset())
    assert list(store.root.rglob("divergence.json")) == []
    assert list(store.root.glob("quarantine/*")) == []
    assert [*store.root.glob("*/*/*/claim"), *store.root.glob("stages/*/*/*/claim")] == []
    assert all(chaos.faults[kind.__name__] for kind in chaos.kinds)
    assert chaos.lost_replies
    assert chaos.faults.total() >= FAULTS // 2
    started = sum(len(sweeping.attempts(spec)) for spec in SPECS)
    assert started - len(SPECS) <= 2 * chaos.faults.total()  # a fault hits one run on each node
    assert undisturbed == {key: made for key, made in stable(store).items() if key in undisturbed}
