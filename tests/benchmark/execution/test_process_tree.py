"""What a process leaves behind is ended by the one that adopted it."""

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import os, subprocess, sys, time
from paibench.benchmark.execution.process_tree import become_subreaper, children, kill_descendants

DAEMON = '''
import os, sys, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
for _ in range(2): os.fork()
open(sys.argv[1], "a").write(f"{os.getpid()}\\\\n")
time.sleep(600)
'''
if sys.argv[2] == "adopts":
    become_subreaper()
silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
subprocess.run([sys.executable, "-c", DAEMON, sys.argv[1]], **silent)
while not os.path.exists(sys.argv[1]) or len(open(sys.argv[1]).readlines()) < 4:
    time.sleep(0.02)
print(len(children()) > 0)
kill_descendants()
print(len(children()))
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


@pytest.mark.parametrize("adopts", ["adopts", "does not"])
def test_daemons_end_with_who_adopts_them(tmp_path: Path, adopts: str) -> None:
    """A daemon and what it forked are gone after the end; without adoption they would live on."""
    pids = tmp_path / "pids"
    command = [sys.executable, "-c", CODE, str(pids), adopts]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    daemons = [int(line) for line in pids.read_text().split()]
    try:
        assert len(daemons) == 4
        if adopts == "adopts":
            assert said == "True\n0\n"
            assert not any(map(alive, daemons))
        else:
            assert said == "False\n0\n"
            assert all(map(alive, daemons))
    finally:
        for pid in filter(alive, daemons):
            subprocess.run(["kill", "-9", str(pid)], check=True)
