"""The peak of the memory that a run has held."""

import sys

import pytest
import torch

from paibench.benchmark.memory import peak, reset_peak

CPU = torch.device("cpu")


@pytest.mark.xfail(sys.platform != "linux", reason="peaks cannot be forgotten there")
def test_peaks_are_those_of_one_run() -> None:
    """What an earlier run held is forgotten, and what a later one gave back is not."""
    reset_peak(CPU)
    before = peak(CPU)
    torch.ones(500 * 2**20 // 4)  # 500 MiB, held for a moment
    after = peak(CPU)
    reset_peak(CPU)
    assert before + 400 < after
    assert peak(CPU) < after - 400
