"""What runs on the node: `python -m paibench.slurm.job CAMPAIGN CHUNK`, one job of an array.

SLURM's signals come to this process and to its workers alike. SIGUSR2 says that time is nearly up;
SIGTERM may be a preemption, a cancelled or requeued job, or a node that is given up. Both only set
a flag: workers keep what they are at, and the cause is asked for afterwards.
"""

import argparse
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Notices:
    """What this process was told by signals."""

    to_end: bool = False
    of_time: bool = False

    def listen(self) -> None:
        """Heed the signals from now on."""
        signal.signal(signal.SIGUSR2, self._time)
        signal.signal(signal.SIGTERM, self._end)

    def leaving(self) -> bool:
        """Whether the job is to be left."""
        return self.to_end or self.of_time

    def _time(self, *_: Any) -> None:
        self.of_time = True

    def _end(self, *_: Any) -> None:
        self.to_end = True


def main() -> int:
    """Do the runs of one job; the exit status."""
    notices = Notices()
    notices.listen()  # before the imports below: a signal that is not heeded kills
    parser = argparse.ArgumentParser(prog="paibench.slurm.job")
    parser.add_argument("campaign", type=Path)
    parser.add_argument("chunk", type=int)
    given = parser.parse_args()
    from paibench.benchmark.orphans import adopt, end_descendants
    from paibench.methods.registry import UserError
    from paibench.slurm.work import work

    adopt()
    try:
        return work(given.campaign, given.chunk, int(os.environ["SLURM_ARRAY_TASK_ID"]), notices)
    except UserError as error:
        print(f"paibench: {error}", file=sys.stderr)
        return 2
    finally:
        end_descendants()


if __name__ == "__main__":
    sys.exit(main())
