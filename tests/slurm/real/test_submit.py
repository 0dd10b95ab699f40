"""Submissions on a real cluster: what is queued, executed and refused."""

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster
from cluster_sweep import replace_command
from terminal import Terminal, copy_of_package, local_records, stable

METHODS = ["random", "magnitude", "snip", "grasp", "synflow", "edge_popup", "zhou"] + [
    *("imp", "gem_miner")
]


@pytest.fixture
def terminal(quiet_cluster: Cluster, tmp_path: Path) -> Terminal:
    """A folder with a sweep of four small runs."""
    terminal = Terminal(tmp_path, quiet_cluster, {"OMP_NUM_THREADS": "1"})
    terminal.sweep(method="random", seed=[0, 1, 2, 3])
    terminal.profile()
    return terminal


# -- peace ---------------------------------------------------------------------------------------


def test_all_methods_over_both_nodes(terminal: Terminal, tmp_path: Path) -> None:
    """Every record equals that of the local pool; both nodes took part."""
    terminal.sweep(method=METHODS, density=[0.1, 0.5], seed=[0])
    terminal.profile(cpus=8, runs_per_job=5)
    facts = terminal.submit()
    assert (facts["queued"], facts["jobs"], facts["chunks"]) == (len(terminal.specs), 4, [4])
    begun = time.monotonic()
    local = local_records(tmp_path / "local", terminal.specs, jobs=1)
    terminal.wait_idle()
    print(f"{len(local)} runs, {time.monotonic() - begun:.0f} s")
    assert stable(terminal.store) == local
    jobs = terminal.cluster.run("sacct", "-nXP", "-o", "jobname,nodelist").split()
    ours = (
        f"pai-{facts['submission'][-8:]}"  # others may have been cancelled before they had a node
    )
    assert {job.partition("|")[2] for job in jobs if job.startswith(ours)} == {"node1", "node2"}


def test_a_run_is_queued_once_and_started_once(terminal: Terminal) -> None:
    """Two processes submit at once and repeatedly: each run is queued and started once.

    Afterwards nothing is missing, until records are deleted: then exactly these runs are repeated.
    """
    terminal.sweep(method="random", seed=list(range(12)))
    terminal.profile(cpus=8, runs_per_job=3)
    queued = []
    for _ in range(3):
        both = [terminal.start("--json"), terminal.start("--json")]
        answers = [json.loads(each.communicate(timeout=120)[0]) for each in both]
        queued += [facts["queued"] for facts in answers]
    assert sorted(queued) == [0, 0, 0, 0, 0, 12]
    terminal.wait_idle()
    assert terminal.attempts() == {spec.key: 1 for spec in terminal.specs}
    assert terminal.submit()["jobs"] == 0
    before = stable(terminal.store)
    deleted = sorted(before)[:7]
    for key in deleted:
        terminal.store.record_path(key).unlink()
    again = terminal.submit()
    assert (again["done"], again["queued"]) == (5, 7)
    terminal.wait_idle()
    assert stable(terminal.store) == before
    assert {key for key, count in terminal.attempts().items() if count == 2} == set(deleted)


# -- as much as the cluster takes -----------------------------------------------------------------


def test_arrays_are_as_long_as_the_cluster_allows(terminal: Terminal) -> None:
    """120 jobs with MaxArraySize 51 make three arrays; every run is in one job."""
    terminal.sweep(method="random", seed=list(range(120)))
    terminal.profile(runs_per_job=1, extra={"hold": True}, array_parallelism=7)
    facts = terminal.submit()
    assert (facts["jobs"], facts["chunks"], len(facts["arrays"])) == (120, [51, 51, 18], 3)
    lines = terminal.queue("%F %K")
    assert len(lines) == 120
    assert set(lines) == {
        f"{array} {index}"
        for array, size in zip(facts["arrays"], facts["chunks"], strict=True)
        for index in range(size)
    }
    shown = terminal.cluster.run("scontrol", "show", "job", facts["arrays"][0])
    assert "ArrayTaskThrottle=7" in shown
    again = terminal.submit()
    assert (again["under_way"], again["queued"], again["jobs"]) == (120, 0, 0)
    cancelled = terminal.run("--json", command="cancel")
    assert len(json.loads(cancelled.out)["cancelled"]) == 120
    terminal.wait_idle()


def test_later_arrays_do_their_part(terminal: Terminal) -> None:
    """Seven jobs in arrays of three: each job executes its own run and no other."""
    at_most = '$real "$@" | sed "s/^MaxArraySize .*/MaxArraySize = 3/"'
    terminal.environment["PATH"] = replace_command("scontrol", terminal.folder, at_most)
    terminal.sweep(method="random", seed=list(range(7)))
    terminal.profile(cpus=1, runs_per_job=1)
    facts = terminal.submit()
    assert facts["chunks"] == [3, 3, 1]
    terminal.wait_idle()
    assert stable(terminal.store).keys() == terminal.attempts().keys()
    assert set(terminal.attempts().values()) == {1}
    logs = [
        Path(facts["submission"], "logs", f"{array}_{index}_0_log.out").read_text()
        for array, size in zip(facts["arrays"], facts["chunks"], strict=True)
        for index in range(size)
    ]
    for seed, log in enumerate(logs):
        assert log.count("\ndone ") == log.count(f", seed {seed} (") == 1


@pytest.fixture
def two_jobs(quiet_cluster: Cluster) -> Any:
    """The user may have at most two jobs in the queue."""
    account = ["sacctmgr", "-i", "modify", "account", "test", "set"]
    quiet_cluster.run(*account, "MaxSubmitJobs=2")
    yield
    quiet_cluster.run(*account, "MaxSubmitJobs=-1")


@pytest.mark.usefixtures("two_jobs")
def test_what_finds_no_room_waits(terminal: Terminal) -> None:
    """Runs beyond the limit wait for the next submit, or for --wait."""
    terminal.profile(cpus=8, runs_per_job=1)
    facts = terminal.submit()
    assert (facts["queued"], facts["waiting"]) == (2, 2)
    again = terminal.submit()
    assert again["queued"] + again["done"] + again["under_way"] + again["waiting"] == 4
    answer = terminal.run("--wait")
    assert answer.status == 0, answer
    assert answer.err.endswith("sweep: 4 done, 0 failed permanently\n")
    assert len(stable(terminal.store)) == 4
    assert terminal.attempts() == {spec.key: 1 for spec in terminal.specs}


def test_the_throttle_holds(terminal: Terminal) -> None:
    """With array_parallelism = 1, no two jobs of an array run at once."""
    terminal.profile(cpus=1, runs_per_job=2, array_parallelism=1)
    assert terminal.submit()["jobs"] == 2
    most = 0
    while states := terminal.queue():
        most = max(most, states.count("RUNNING"))
    assert most == 1
    assert len(stable(terminal.store)) == 4


# -- what breaks, each for itself ------------------------------------------------------------------


PLUGIN = '''
import mmap
import os
import time

from paibench.methods.baselines.random import random


def raises(net, task, density):
    raise RuntimeError("no such luck")


def wants_more(net, task, density):
    """Fails where less than 1500 MiB may be had."""
    return random(net, task, density) if bytearray(1500 << 20) else {}


def takes_more(net, task, density):
    """Takes what no limit on one process counts, until the job is killed."""
    held = mmap.mmap(-1, 2000 << 20)
    for place in range(0, len(held), mmap.PAGESIZE):
        held[place] = 1
    time.sleep(5)
    return random(net, task, density)


def copies(net, task, density):
    return random(net, task, density)


def leaves_at_once(net, task, density):
    os._exit(0)


def tells(net, task, density):
    raise RuntimeError(" ".join(["told:", *sorted(os.environ)]))
'''
ELSEWHERE = """
import os

if os.environ["PATH"].startswith("/on-a-node:"):
    raise ImportError("not on this node")


def elsewhere(net, task, density):
    return {}
"""
METADATA = "Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n"


def install(folder: Path, **modules: str) -> None:
    """Install a distribution whose methods are all functions of its modules."""
    names = {
        f"{name} = {module}:{name}"
        for module, text in modules.items()
        for name in re.findall(r"^def (\w+)", text, re.MULTILINE)
    }
    about = folder / "plugin-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(METADATA)
    (about / "entry_points.txt").write_text("\n".join(["[paibench.methods]", *sorted(names)]))
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)


@pytest.fixture
def plugin_terminal(terminal: Terminal, tmp_path: Path) -> Terminal:
    """A terminal with third-party methods installed."""
    install(tmp_path / "plugins", plugin=PLUGIN, elsewhere=ELSEWHERE)
    path = [str(tmp_path / "plugins"), *filter(None, [os.environ.get("PYTHONPATH")])]
    terminal.environment["PYTHONPATH"] = os.pathsep.join(path)
    return terminal


def causes(terminal: Terminal) -> dict[str, str]:
    """Return the causes of failed runs, by method."""
    notes = {spec.method.name: terminal.store.last_failure(spec.key) for spec in terminal.specs}
    return {name: str(note["cause"]) for name, note in notes.items() if note}


def test_what_breaks_breaks_alone(plugin_terminal: Terminal) -> None:
    """Each failure is recorded with its cause, other runs finish, and it is not retried.

    More memory retries runs that lacked it, `--retry` all.
    """
    broken = {
        "raises": "plugin",
        "tells": "plugin",
        "wants_more": "memory",
        "takes_more": "memory",
        "elsewhere": "plugin",
        "leaves_at_once": "plugin",
    }
    plugin_terminal.environment["A_SECRET"] = "s3cret"
    plugin_terminal.sweep(method=["random", "snip", *broken], seed=[0])
    on_a_node = ["export PATH=/on-a-node:$PATH"]
    plugin_terminal.profile(cpus=8, runs_per_job=2, setup=on_a_node)
    assert plugin_terminal.submit()["queued"] == 8
    plugin_terminal.wait_idle()
    for _ in range(3):  # what was killed with its whole job is told from what was lost by asking
        if plugin_terminal.submit()["queued"] == 0:
            break
        plugin_terminal.wait_idle()
    assert causes(plugin_terminal) == broken
    assert len(stable(plugin_terminal.store)) == 2
    notes = {
        spec.method.name: plugin_terminal.store.last_failure(spec.key) or {}
        for spec in plugin_terminal.specs
    }
    assert "told: " in notes["tells"]["reason"]
    assert re.search("A_SECRET|SLURM_", notes["tells"]["reason"]) is None
    assert "not on this node" in notes["elsewhere"]["reason"]
    plugin_terminal.profile(cpus=8, memory="4000M", setup=on_a_node, extra={"hold": True})
    more = json.loads(plugin_terminal.run("--dry-run", "--json").out)
    assert (more["done"], more["failed"], more["queued"]) == (2, 4, 2)
    every = json.loads(plugin_terminal.run("--dry-run", "--retry", "--json").out)
    assert (every["done"], every["failed"], every["queued"]) == (2, 0, 6)
    plugin_terminal.profile(cpus=8, memory="4000M", setup=on_a_node, runs_per_job=2)
    assert plugin_terminal.submit()["queued"] == 2
    plugin_terminal.wait_idle()
    assert len(stable(plugin_terminal.store)) == 4
    assert json.loads(plugin_terminal.run("--json", "--retry", "--dry-run").out)["queued"] == 4
    begun = plugin_terminal.attempts()
    assert plugin_terminal.submit("--retry")["queued"] == 4
    plugin_terminal.wait_idle()
    again = plugin_terminal.attempts()
    assert sum(again.values()) - sum(begun.values()) == 4


def test_a_method_that_only_the_submitter_finds(terminal: Terminal) -> None:
    """A method that jobs cannot import is refused in one line; nothing is queued or kept."""
    install(terminal.folder, plugin=PLUGIN)
    terminal.sweep(method=["random", "raises"])
    answer = terminal.run()  # where it stands the present folder is searched, in a job it is not
    assert (answer.status, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert "method raises cannot be imported where jobs run" in answer.err
    assert terminal.queue() == []
    assert list(terminal.store.root.glob("s*s/*")) == []


@pytest.mark.parametrize("edited", ["plugins/plugin.py", "copy/paibench/benchmark/run.py"])
def test_code_that_changes_is_not_run(
    plugin_terminal: Terminal, tmp_path: Path, edited: str
) -> None:
    """A job whose method or paibench changed after submission does nothing.

    The next submission executes the run with the new code.
    """
    copy_of_package(tmp_path / "copy")
    path = plugin_terminal.environment["PYTHONPATH"]
    plugin_terminal.environment["PYTHONPATH"] = f"{tmp_path / 'copy'}{os.pathsep}{path}"
    plugin_terminal.sweep(method="copies")
    plugin_terminal.profile(extra={"hold": True})
    facts = plugin_terminal.submit()
    with open(tmp_path / edited, "a") as file:
        file.write("# edited\n")
    plugin_terminal.cluster.run("scontrol", "release", *facts["arrays"])
    plugin_terminal.wait_idle()
    assert (stable(plugin_terminal.store), causes(plugin_terminal)) == ({}, {"copies": "input"})
    (note,) = (plugin_terminal.store.last_failure(spec.key) or {} for spec in plugin_terminal.specs)
    assert re.search("changed after submission.*; submit again", note["reason"])
    plugin_terminal.profile()
    assert plugin_terminal.submit()["queued"] == 1
    plugin_terminal.wait_idle()
    assert len(stable(plugin_terminal.store)) == 1


@pytest.mark.parametrize(
    ("product", "profile", "said"),
    [
        ({"dataset": "mnist"}, {}, "mnist"),
        ({}, {"setup": ["export PYTHONPATH={folder}/broken"]}, "no torch here"),
    ],
    ids=["no data", "no torch"],
)
def test_what_fails_everywhere_is_given_up(
    terminal: Terminal, product: dict[str, Any], profile: dict[str, Any], said: str
) -> None:
    """After a few failures of one kind and no success, the pending jobs are cancelled."""
    broken = terminal.folder / "broken"
    broken.mkdir()
    (broken / "torch.py").write_text("raise ImportError('no torch here')\n")
    path = f"{broken}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    keys = {"setup": [f"export PYTHONPATH={path}"]} if profile else {}
    terminal.sweep(method="random", seed=list(range(30)), **product)
    terminal.profile(runs_per_job=1, array_parallelism=2, cpus=8, **keys)
    assert terminal.submit()["jobs"] == 30
    terminal.wait_idle()
    assert len(list(terminal.store.root.glob("submissions/*/logs/*"))) < 10
    (stopped,) = terminal.store.root.glob("submissions/*/stopped.json")
    assert said in stopped.read_text()
    assert stable(terminal.store) == {}


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"partition": "shirt"}, "partition: the cluster has no shirt; did you mean short?"),
        ({"gpus": 5}, "gpus: 5 is more than any node of gpu has; the largest has 4"),
        ({"partition": "short", "time": 30}, "time: 30 is 30 minutes, short allows 10; "),
        ({"memroy": "1G"}, "memroy: unknown key; did you mean memory?"),
    ],
    ids=["partition", "gpus", "time", "key"],
)
@pytest.mark.parametrize("option", [(), ("--dry-run",)], ids=["", "dry"])
def test_what_the_cluster_cannot_do_is_refused(
    terminal: Terminal, keys: dict[str, Any], said: str, option: tuple[str, ...]
) -> None:
    """One line and status 2; nothing is queued or written."""
    terminal.profile(**keys)
    answer = terminal.run(*option)
    assert (answer.status, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert said in answer.err
    assert terminal.queue() == []
    assert {path.name for path in terminal.folder.iterdir()} == {"sweep.toml", "profile.toml"}


def test_a_dry_run_writes_nothing(terminal: Terminal) -> None:
    """A dry run shows plan, estimate and script, and leaves no trace."""
    files = {"sweep.toml", "profile.toml"}
    answer = terminal.run("--dry-run")
    assert answer.status == 0, answer
    assert "sweep: 4 runs: 0 done, 0 failed permanently, 0 under way, 4 to queue" in answer.out
    assert "core-hours: unknown" in answer.out
    assert "#SBATCH --array=0-3%4" in answer.out
    assert {path.name for path in terminal.folder.iterdir()} == files
    terminal.profile(extra={"hold": True}, runs_per_job=1)
    assert terminal.submit()["jobs"] == 4
    assert terminal.run(command="cancel").out.startswith("4 jobs cancelled")
    before = sorted(terminal.store.root.rglob("*"))
    assert json.loads(terminal.run("--dry-run", "--json").out)["queued"] == 4
    assert sorted(terminal.store.root.rglob("*")) == before


def test_scripts_that_are_submitted_by_hand(terminal: Terminal) -> None:
    """`sbatch` accepts the scripts of --script-only, and they make the records."""
    terminal.profile(runs_per_job=2, cpus=8)
    answer = terminal.run("--script-only", "--json")
    (script,) = json.loads(answer.out)["scripts"]
    assert terminal.queue() == []
    terminal.cluster.run("sbatch", script, OMP_NUM_THREADS="1")
    assert terminal.submit()["under_way"] == 4
    terminal.wait_idle()
    assert len(stable(terminal.store)) == 4


def test_without_slurm_the_runs_are_done_here(terminal: Terminal, tmp_path: Path) -> None:
    """Without SLURM the sweep runs on this machine; a script can still be written."""
    terminal.environment["PATH"] = str(tmp_path)
    dry = terminal.run("--dry-run")
    assert (dry.status, "#SBATCH" in dry.out, (tmp_path / "store").exists()) == (0, True, False)
    written = terminal.run("--script-only", "--json")
    (script,) = json.loads(written.out)["scripts"]
    assert "#SBATCH --array=" in Path(script).read_text()
    answer = terminal.run()
    assert answer.status == 0, answer
    assert answer.err.startswith("there is no SLURM on this machine: the runs are executed here")
    assert len(stable(terminal.store)) == 4


def test_a_long_sweep_is_planned_and_queued_in_seconds(terminal: Terminal) -> None:
    """Plan and submission of 10,000 runs take seconds and do not import torch."""
    terminal.sweep(method="random", seed=list(range(10_000)))
    terminal.profile(extra={"hold": True})
    (terminal.folder / "broken").mkdir()
    (terminal.folder / "broken/torch.py").write_text("raise ImportError")
    path = f"{terminal.folder}/broken{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    terminal.environment["PYTHONPATH"] = path
    begun = time.monotonic()
    assert json.loads(terminal.run("--dry-run", "--json").out)["queued"] == 10_000
    planned = time.monotonic()
    assert terminal.submit()["jobs"] <= 100
    queued = time.monotonic()
    assert terminal.submit()["under_way"] == 10_000
    again = time.monotonic()
    print(f"plan {planned - begun:.1f} s, submit {queued - planned:.1f} s, {again - queued:.1f} s")
    assert again - begun < 30
