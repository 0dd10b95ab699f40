"""Random choices made visible: every stream of random numbers is derived from a seed and a name."""

import hashlib

import torch


def derive(seed: int, *parts: str | int) -> int:
    """A seed of its own for one purpose: 63 bits of the sha256 of the seed and the parts."""
    text = "/".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *parts: str | int) -> torch.Generator:
    """A generator on the CPU, so that every device sees the same random numbers."""
    return torch.Generator().manual_seed(derive(seed, *parts))
