"""The commands of `paibench`; each imports what it needs when it is called."""
