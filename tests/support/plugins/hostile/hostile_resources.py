"""Methods of a stranger that take more than is theirs: time, memory, disk, processes, prints."""

import ctypes
import mmap
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from hostile import _exact
from torch import nn

from paibench.methods.core.mask import Mask
from paibench.methods.core.task import Task

MIB = 1 << 20


def spins(net: nn.Module, task: Task, density: float) -> Mask:
    """Computes for ever."""
    while True:
        pass


def hangs_below_python(net: nn.Module, task: Task, density: float) -> Mask:
    """Waits for ever where no handler of Python's runs."""
    ctypes.CDLL(None).pause()
    while True:
        ctypes.CDLL(None).sleep(600)


def gives_signs_for_ever(net: nn.Module, task: Task, density: float) -> Mask:
    """Looks at data for ever, so that it always seems to get on."""
    while True:
        for _ in task.batches():
            pass


def segfaults(net: nn.Module, task: Task, density: float) -> Mask:
    """Reads what is nowhere."""
    ctypes.string_at(0)
    return {}


def fills_memory(net: nn.Module, task: Task, density: float) -> Mask:
    """Takes memory until there is none left."""
    held = []
    while True:
        held.append(bytearray(64 * MIB))


def fills_shared_memory(net: nn.Module, task: Task, density: float) -> Mask:
    """Takes memory that no limit on one process counts."""
    held = mmap.mmap(-1, 8_000 * MIB)
    for place in range(0, len(held), mmap.PAGESIZE):
        held[place] = 1
    return _exact(net, task, density)


def fills_the_disk(net: nn.Module, task: Task, density: float) -> Mask:
    """Writes files until there is no room."""
    block, number = os.urandom(8 * MIB), 0
    while True:
        Path(f"block{number}").write_bytes(block)
        number += 1


def writes_one_file(net: nn.Module, task: Task, density: float) -> Mask:
    """Writes one file that does not end."""
    with open("endless", "wb") as file:
        while True:
            file.write(bytes(8 * MIB))


def writes_many_files(net: nn.Module, task: Task, density: float) -> Mask:
    """Makes files until nobody can list them."""
    number = 0
    while True:
        Path(f"file{number}").touch()
        number += 1


def forks_without_end(net: nn.Module, task: Task, density: float) -> Mask:
    """Starts processes until there can be no more."""
    while True:
        try:
            if os.fork() == 0:
                time.sleep(600)
        except OSError:
            time.sleep(0.1)


def leaves_a_daemon(net: nn.Module, task: Task, density: float) -> Mask:
    """Leaves a process behind that nobody is the parent of; sound otherwise."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)#left"])
        os._exit(0)
    return _exact(net, task, density)


def leaves_threads(net: nn.Module, task: Task, density: float) -> Mask:
    """Leaves threads behind that no end of the search ends; sound otherwise."""
    for _ in range(8):
        threading.Thread(target=time.sleep, args=(600,), daemon=False).start()
    return _exact(net, task, density)


def prints_without_end(net: nn.Module, task: Task, density: float) -> Mask:
    """Prints a hundred megabytes; sound otherwise."""
    line = b"\x1b[31mnoise\x07" * 8_000 + b"\n"
    for _ in range(1_000):
        os.write(1, line)
    return _exact(net, task, density)


def returns_twice(net: nn.Module, task: Task, density: float) -> Mask:
    """Comes back in two processes, of which each hands back a mask; sound otherwise."""
    os.fork()
    return _exact(net, task, density)


def runs_others(net: nn.Module, task: Task, density: float) -> Mask:
    """Has fifty processes of its own that outlive it; sound otherwise."""
    for _ in range(50):
        subprocess.Popen(["sleep", "600"])
    return _exact(net, task, density)
