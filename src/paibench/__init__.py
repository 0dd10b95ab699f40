"""paibench: the benchmark suite for pruning at initialization."""

from importlib.metadata import version

__version__ = version("paibench")
