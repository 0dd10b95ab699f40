"""Named random streams derived from one seed.

Every kind of random choice in a run has its own stream, so that a different number of draws in one
part, such as a longer search, does not change the others.
"""

import hashlib

import torch


def derive(seed: int, *parts: str | int) -> int:
    """Return the seed of the stream that `parts` name: 63 bits, from `hashed(seed, *parts)`."""
    # 63 bits are a valid seed for any library that takes signed 64-bit integers
    return hashed(seed, *parts) >> 1


def generator(seed: int, *parts: str | int) -> torch.Generator:
    """Return a generator on the CPU, so that every device sees the same random numbers."""
    return torch.Generator().manual_seed(derive(seed, *parts))


def hashed(*parts: str | int) -> int:
    """Return the first 64 bits of the sha256 of the parts, joined by slashes."""
    text = "/".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
