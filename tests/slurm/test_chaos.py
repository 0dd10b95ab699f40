"""A sweep under random faults, submitted again until it is done: nothing lost, nothing doubled."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cluster import Cluster, ClusterError
from sweeping import Sweeping, alone, spec_of, stable

from paibench.benchmark.entries import Problem
from paibench.benchmark.spec import Spec

SEED = int(os.environ.get("PAIBENCH_CHAOS_SEED", "0"))  # another one every night
FAULTS = 30
SECONDS = 400.0
LITE, SHORTER = ({"name": "lite", "epochs": epochs} for epochs in (60, 25))
SPECS = [
    *(spec_of("random", seed=seed, recipe=LITE) for seed in range(24)),
    *(spec_of("snip", seed=seed, recipe=LITE) for seed in range(24)),
    *(spec_of({"name": "imp", "rate": 0.5}, seed=seed, recipe=SHORTER) for seed in range(12)),
]


class Chaos:
    """Faults of all kinds, drawn from a seed, against one sweep."""

    def __init__(self, sweeping: Sweeping, seed: int) -> None:
        self.sweeping = sweeping
        self.dice = random.Random(seed)
        self.kinds: list[Callable[[], bool]] = [
            *[self.kill_worker] * 5,
            *[self.kill_job, self.terminate_job] * 2,
            *[self.cancel, self.requeue] * 3,
            *[self.lose_node, self.kill_controller],
        ]
        self.faults: Counter[str] = Counter()

    def strike(self) -> None:
        """One fault, where there is something to hit."""
        kind = self.dice.choice(self.kinds)
        with suppress(ClusterError, ProcessLookupError):  # what was to be hit is gone
            self.faults[kind.__name__] += kind()

    def calm(self, seconds: float = 5.0) -> None:
        """Let the cluster work; what it drained is given back, as an administrator does."""
        for name in self.sweeping.cluster.shape.node_names:
            self.sweeping.cluster.resume(name)
        end = time.monotonic() + seconds
        self.sweeping.until(lambda: self.sweeping.is_done() or time.monotonic() > end)

    def kill_worker(self) -> bool:
        return self._signal("paibench.benchmark.worker", signal.SIGKILL)

    def kill_job(self) -> bool:
        return self._signal("paibench.slurm.job", signal.SIGKILL)

    def terminate_job(self) -> bool:
        return self._signal("paibench.slurm.job", signal.SIGTERM)

    def cancel(self) -> bool:
        return self._control("scancel")

    def requeue(self) -> bool:
        return self._control("scontrol", "requeue")

    def lose_node(self) -> bool:
        name = self.dice.choice(self.sweeping.cluster.shape.node_names)
        self.sweeping.cluster.set_down(name)
        self.sweeping.cluster.resume(name)
        return True

    def kill_controller(self) -> bool:
        self.sweeping.cluster.kill_controller()
        self.sweeping.cluster.start_controller()
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
    """Killed, cancelled, requeued, on lost nodes and without a controller: every record is there.

    Each is sound and equal to that of an undisturbed run, and nothing was done that was not asked
    for by a fault.
    """
    sweeping = Sweeping.new(quiet_cluster, tmp_path, *SPECS, cpus=8, runs_per_job=6)
    chaos, begun, rounds = Chaos(sweeping, SEED), time.monotonic(), 0
    sweeping.submit()
    while not sweeping.is_done():
        assert time.monotonic() < begun + SECONDS, sweeping.report()
        if chaos.faults.total() < FAULTS:
            time.sleep(chaos.dice.uniform(0.2, 3.0))
            chaos.strike()
        else:
            chaos.calm()
        if not sweeping.jobs() or chaos.dice.random() < 0.2:
            rounds += sweeping.submit()["queued"] > 0
    sweeping.until_gone()
    attempts = [sweeping.attempts(spec) for spec in SPECS]
    print(
        f"{len(SPECS)} runs, seed {SEED}: {chaos.faults.total()} faults {dict(chaos.faults)}, "
        f"{rounds} more rounds, {sum(map(len, attempts))} attempts, "
        f"{time.monotonic() - begun:.0f} s"
    )
    check(sweeping, chaos)


def check(sweeping: Sweeping, chaos: Chaos) -> None:
    """No run is lost, doubled or invalid; a sample equals undisturbed runs."""
    store = sweeping.store
    assert [each for each in store.records() if isinstance(each, Problem)] == []
    assert store.listing() == (frozenset(spec.key for spec in SPECS), frozenset())
    assert list(store.root.rglob("divergence.json")) == []
    assert list(store.root.glob("quarantine/*")) == []
    assert list(store.root.glob("*/*/*/claim")) == []
    started = sum(len(sweeping.attempts(spec)) for spec in SPECS)
    assert started - len(SPECS) <= 2 * chaos.faults.total()  # a fault hits one run on each node
    sample: list[Spec] = chaos.dice.sample(SPECS, 8)
    assert [stable(store, spec) for spec in sample] == [alone(spec) for spec in sample]
