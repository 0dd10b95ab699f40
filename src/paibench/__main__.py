"""`python -m paibench` is `paibench`."""

from paibench.cli import main

main()
