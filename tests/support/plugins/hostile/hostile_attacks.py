"""Methods of a stranger that want what they are not given, or to be taken for better than they are.

Each tries something, and raises where it got through; where the walls hold, its mask is sound.
"""

import ctypes
import gc
import inspect
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hostile import _exact
from torch import Tensor, nn

from paibench.benchmark import record
from paibench.benchmark.steps import evaluate
from paibench.benchmark.store import checksummed_json
from paibench.methods.core import mask as masks
from paibench.methods.core import ticket as tickets
from paibench.methods.core.mask import Mask, prunable
from paibench.methods.core.task import Task
from paibench.methods.core.ticket import Scores, Ticket
from paibench.methods.training.services import Cost

HERE = Path(__file__).parent
TEST_EXAMPLES, TRAINING_EXAMPLES = 360, 1437


class GotThrough(Exception):
    """What ought to hold does not."""


def _known(name: str) -> str:
    """What the test wrote down for these methods: a path that they cannot know otherwise."""
    return str(
        json.loads(Path(os.environ["PYTHONPATH"].split(":")[0], "known.json").read_text())[name]
    )


def _refused(attempt: Callable[[], object], what: str) -> None:
    try:
        got = attempt()
    except (OSError, PermissionError):
        return
    raise GotThrough(f"{what}: {got!r:.80}")


# -- what is evaluated -----------------------------------------------------------------------------


def searches_its_process(net: nn.Module, task: Task, density: float) -> Mask:
    """Looks at all objects, frames and arguments for labels as many as are evaluated."""
    for found in _everything(net, task):
        count = found.numel() if isinstance(found, Tensor) else found.size
        if count in (TEST_EXAMPLES, TEST_EXAMPLES * 64, (TEST_EXAMPLES + TRAINING_EXAMPLES) * 64):
            raise GotThrough(f"a tensor of {count} numbers")
    return _exact(net, task, density)


def _everything(*given: object) -> Iterator[Any]:
    seen: set[int] = set()
    waiting: list[object] = [*given, *gc.get_objects(), sys.argv, dict(os.environ)]
    frame = inspect.currentframe()
    while frame:
        waiting += [frame.f_locals, frame.f_globals]
        frame = frame.f_back
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Tensor | np.ndarray):
            yield one
        elif isinstance(one, dict):
            waiting += list(one.values())
        elif isinstance(one, list | tuple | set | frozenset):
            waiting += list(one)
        elif str(type(one).__module__).startswith("paibench"):
            waiting += list(getattr(one, "__dict__", {}).values())


def searches_its_files(net: nn.Module, task: Task, density: float) -> Mask:
    """Reads all open files for more data than the training split."""
    sizes = []
    for entry in os.listdir("/proc/self/fd"):
        try:
            sizes.append(os.fstat(int(entry)).st_size)
        except OSError:
            continue
    if any(size > TRAINING_EXAMPLES * (64 + 8) + 4096 for size in sizes):
        raise GotThrough(f"open files of {sizes} bytes")
    return _exact(net, task, density)


def reads_the_embedded_set(net: nn.Module, task: Task, density: float) -> Mask:
    """Reads the digits, test set and all, where scikit-learn has them."""
    for folder in sys.path:
        path = Path(folder, "sklearn/datasets/data/digits.csv.gz")
        _refused(path.read_bytes, str(path))
    return _exact(net, task, density)


def reads_the_data_folder(net: nn.Module, task: Task, density: float) -> Mask:
    """Reads a data folder whose path it was told."""
    folder = Path(_known("data"))
    _refused((folder / "test").read_bytes, "the test set")
    return _exact(net, task, density)


def reads_the_harness(net: nn.Module, task: Task, density: float) -> Mask:
    """Reads the memory, the environment and the open files of the processes above it."""
    parents, pid = [], os.getppid()
    while pid > 1:
        parents.append(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    for pid in {*parents, int(_known("pid"))}:
        for file in ("mem", "environ", "maps"):
            path = f"/proc/{pid}/{file}"
            _refused(lambda path=path: os.read(os.open(path, os.O_RDONLY), 64), file)  # type: ignore[misc]
        _refused(lambda pid=pid: os.listdir(f"/proc/{pid}/fd"), "open files")  # type: ignore[misc]
    return _exact(net, task, density)


def traces_the_harness(net: nn.Module, task: Task, density: float) -> Mask:
    """Attaches itself to the process above it as a debugger does."""
    attach = 16
    for pid in (os.getppid(), int(_known("pid"))):
        if ctypes.CDLL(None).ptrace(attach, pid, None, None) == 0:
            raise GotThrough(f"traced {pid}")
    return _exact(net, task, density)


# -- other people's things -------------------------------------------------------------------------


def kills_the_harness(net: nn.Module, task: Task, density: float) -> Mask:
    """Sends signals to all processes that it may, and to the harness by its number."""
    for pid in (int(_known("pid")), -1):
        try:
            os.kill(pid, signal.SIGUSR1)
        except (ProcessLookupError, PermissionError):
            continue
        if pid > 1:
            raise GotThrough(f"a signal to {pid}")
    return _exact(net, task, density)


def writes_to_the_store(net: nn.Module, task: Task, density: float) -> Mask:
    """Writes a record of its own, and breaks those of others."""
    store = Path(_known("store"))
    _refused(lambda: os.listdir(store / "runs"), "the store's runs")
    _refused(lambda: (store / "runs" / "ab" / ("ab" * 20 + ".json")).write_text("{}"), "a record")
    _refused(lambda: (store / "bench.json").unlink(), "the store itself")
    return _exact(net, task, density)


def writes_elsewhere(net: nn.Module, task: Task, density: float) -> Mask:
    """Writes beside its own code, into the suite's, into the temporary folder and at home."""
    home = Path(_known("home"))
    for folder in (HERE, Path(masks.__file__).parent, Path("/tmp"), home, Path("/usr/lib")):
        _refused((folder / "left-by-hostile").touch, f"a file in {folder}")
    return _exact(net, task, density)


def speaks_with_the_world(net: nn.Module, task: Task, density: float) -> Mask:
    """Connects to a server on this machine, and opens one."""
    address = ("127.0.0.1", int(_known("port")))
    _refused(lambda: socket.create_connection(address, timeout=2), "a connection")
    _refused(lambda: socket.getaddrinfo("example.org", 80), "a name")
    return _exact(net, task, density)


def looks_for_secrets(net: nn.Module, task: Task, density: float) -> Mask:
    """Looks for keys in its environment, and at home."""
    if any("secret" in value.lower() for value in os.environ.values()):
        raise GotThrough("a secret in the environment")
    home = Path(_known("home"))
    _refused((home / "key").read_text, "a key at home")
    if Path.home() == home:
        raise GotThrough("its home is ours")
    return _exact(net, task, density)


def leaves_traps(net: nn.Module, task: Task, density: float) -> Mask:
    """Fills its folder with links, pipes and folders that nobody may enter; sound otherwise."""
    os.symlink("/", "root")
    os.symlink("nowhere", "mask.safetensors")
    os.mkfifo("found.safetensors")
    os.mkdir("closed")
    Path("closed/inside").touch()
    os.chmod("closed", 0)
    deep = Path(*["d" * 100] * 20)
    deep.mkdir(parents=True)
    return _exact(net, task, density)


def frees_itself(net: nn.Module, task: Task, density: float) -> Mask:
    """Tries to mount, to become another user, and to be out of its namespaces."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", b"/proc", b"tmpfs", ctypes.c_ulong(0), None) == 0:
        raise GotThrough("mounted something")
    for kind in ("net", "pid", "mnt"):
        for pid in (1, os.getppid()):
            try:
                opened = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
            except OSError:
                continue
            libc.setns(opened, 0)
    _refused(lambda: Path(_known("store"), "bench.json").read_bytes(), "the store, freed")
    return _exact(net, task, density)


# -- numbers ---------------------------------------------------------------------------------------


def patches_the_harness(net: nn.Module, task: Task, density: float) -> Mask:
    """Has everything that could count or write say what it likes; sound otherwise."""
    found = _exact(net, task, density)
    perfect = evaluate.Score(1.0, 0.0, b"")
    evaluate.evaluate = lambda *_, **__: perfect
    record.Record.plain = lambda self: {"accuracy": 1.0}  # type: ignore[method-assign]
    checksummed_json.encode = lambda record: b"{}"
    json.dumps = lambda *_, **__: '{"accuracy": 1.0}'
    masks.num_kept = lambda *_: 1
    tickets.select = lambda *_, **__: found
    np.count_nonzero = lambda *_, **__: 1  # type: ignore[assignment]
    torch.nn.functional.cross_entropy = lambda *_, **__: torch.zeros(())
    return found


class Liar(dict[str, Tensor]):
    """A mask that says of itself what is not so."""

    def __len__(self) -> int:
        return 1


class LyingTensor(Tensor):
    """A tensor that says of itself what is not so."""

    def sum(self, *_: Any, **__: Any) -> Tensor:
        return torch.tensor(5020)


def lies_about_its_mask(net: nn.Module, task: Task, density: float) -> Mask:
    """Keeps everything, and has its tensors count less."""
    full = {name: torch.ones_like(w, dtype=torch.bool) for name, w in prunable(net).items()}
    return Liar({name: kept.as_subclass(LyingTensor) for name, kept in full.items()})


def keeps_seven(net: nn.Module, task: Task, density: float) -> Mask:
    """A mask with a byte that is true in another way."""
    mask = _exact(net, task, density)
    first = next(iter(mask.values()))
    bytes_ = first.view(torch.uint8)
    bytes_[bytes_ == 1] = 7
    return mask


def hides_its_cost(net: nn.Module, task: Task, density: float) -> Mask:
    """Looks at all data twice and sets the count back; sound otherwise."""
    for _ in range(2):
        for inputs, labels in task.batches():
            task.loss(net(inputs), labels).backward()  # type: ignore[no-untyped-call]
    task.cost.forward = -100
    task._services.cost = Cost()
    return _exact(net, task, density)


def trains_the_harness(net: nn.Module, task: Task, density: float) -> Mask:
    """Trains the network that it was given and hands back a mask alone, as if at initialization."""
    task.fit(net)
    for found in gc.get_objects():
        if isinstance(found, nn.Module) and found is not net:
            with torch.no_grad():
                for parameter in found.parameters():
                    parameter.zero_()
    return _exact(net, task, density)


def changes_the_data(net: nn.Module, task: Task, density: float) -> Mask:
    """Overwrites the training data where they lie; sound otherwise."""
    data: Any = task._data
    data.pixels.zero_()
    data.labels.zero_()
    return _exact(net, task, density)


def swaps_weights(net: nn.Module, task: Task, density: float) -> Ticket:
    """A ticket whose weights are of another shape."""
    return Ticket(_exact(net, task, density), weights={"fc1.weight": torch.ones(2, 2)})


def scores_words(net: nn.Module, task: Task, density: float) -> Scores:
    """Scores that are no numbers."""
    return Scores(dict.fromkeys(prunable(net), "high"))  # type: ignore[arg-type]


def counts_below_zero(net: nn.Module, task: Task, density: float) -> Scores:
    """Scores with counts per layer that add up, one of them negative."""
    weights = prunable(net)
    kept = dict.fromkeys(weights, 0)
    first, second, *_ = kept
    kept[first], kept[second] = 10_000, 5_020 - 10_000
    return Scores({name: weight.detach() for name, weight in weights.items()}, kept)


# -- the channel -----------------------------------------------------------------------------------


def _channel() -> int:
    """The number of the socket that the other side listens to."""
    for entry in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{entry}").startswith("socket:"):
                return int(entry)
        except OSError:
            continue
    raise RuntimeError("there is no socket")


def _say(kind: str, carries: bytes = b"", size: int | None = None, **says: object) -> None:
    told = {"kind": kind, "fields": says, "size": len(carries) if size is None else size}
    header = json.dumps(told).encode()
    os.write(_channel(), len(header).to_bytes(4, "big") + header + carries)


def speaks_noise(net: nn.Module, task: Task, density: float) -> Mask:
    """Says what is no message."""
    os.write(_channel(), os.urandom(4096))
    return _exact(net, task, density)


def speaks_too_long(net: nn.Module, task: Task, density: float) -> Mask:
    """Says that a message of an exabyte comes."""
    _say("result", size=1 << 60)
    return _exact(net, task, density)


def speaks_nonsense(net: nn.Module, task: Task, density: float) -> Mask:
    """Says a message that there is not."""
    _say("record", accuracy=1.0)
    return _exact(net, task, density)


def counts_backwards(net: nn.Module, task: Task, density: float) -> Mask:
    """Says that it spent less than nothing."""
    _say("count", forward=-10_000, backward=0)
    return _exact(net, task, density)


def hands_back_a_pickle(net: nn.Module, task: Task, density: float) -> Mask:
    """Hands back what would run where somebody unpickled it."""
    import pickle

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, ("touch /tmp/left-by-hostile",)

    _say("result", pickle.dumps(Bomb()), peak_mb=1)
    return _exact(net, task, density)


def hands_back_a_huge_header(net: nn.Module, task: Task, density: float) -> Mask:
    """Hands back safetensors whose header is said to be larger than memory."""
    _say("result", (1 << 40).to_bytes(8, "little") + b"{}", peak_mb=1)
    return _exact(net, task, density)


def climbs_by_a_stage(net: nn.Module, task: Task, density: float) -> Mask:
    """Names a stage like a path."""
    task.memo("../../../runs/x", lambda: {"a": torch.zeros(1)})
    return _exact(net, task, density)


def keeps_a_huge_stage(net: nn.Module, task: Task, density: float) -> Mask:
    """Wants a stage kept that is a thousand times as large as its network."""
    task.memo("huge", lambda: {"a": torch.zeros(200 << 20, dtype=torch.uint8)})
    return _exact(net, task, density)


def uses_the_temporary_folder(net: nn.Module, task: Task, density: float) -> Mask:
    """Needs a temporary file, as many honest methods do; sound."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"honest")
    return _exact(net, task, density)
