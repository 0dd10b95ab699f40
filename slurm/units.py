"""How SLURM spells times and memory."""

import re

UNLIMITED = ("UNLIMITED", "INFINITE")
LONGEST_MINUTES = 366 * 24 * 60

_TIME = re.compile(r"(?:(\d{1,4})-)?(\d{1,6}(?::\d{1,2}){0,2})", re.ASCII)
_MEMORY = re.compile(r"(\d{1,9})([KMGT]?)", re.ASCII | re.IGNORECASE)
_KIBIBYTES = {"K": 1, "": 1 << 10, "M": 1 << 10, "G": 1 << 20, "T": 1 << 30}


def minutes(time: str) -> int:
    """Whole minutes, rounded up: `90`, `90:00`, `1:30:00`, `1-12`, `1-12:30` or `1-12:30:00`.

    Raises ValueError where it is no time, is 0, or more than a year.
    """
    if not (found := _TIME.fullmatch(time)):
        raise ValueError(f"{time[:80]!r} is no time; write minutes, H:MM:SS or D-HH:MM:SS")
    days, parts = found[1], [int(part) for part in found[2].split(":")]
    if days is None and len(parts) < 3:
        parts.insert(0, 0)  # minutes come first, not hours
    hours, minute, second = [*parts, 0, 0][:3]
    total = (int(days or 0) * 24 + hours) * 60 + minute + -(-second // 60)
    if not 0 < total <= LONGEST_MINUTES:
        raise ValueError(f"{time!r} is {total} minutes; write between 1 minute and 366 days")
    return total


def limit_minutes(time: str) -> int | None:
    """The minutes of a limit that SLURM shows, None where there is none."""
    try:
        return None if time in UNLIMITED else minutes(time)
    except ValueError:
        return None


def megabytes(memory: str) -> int:
    """Whole megabytes, rounded up: `800`, `800M`, `8G` or `1T`.

    Raises ValueError where it is no amount of memory, or none at all.
    """
    found = _MEMORY.fullmatch(memory)
    if not found or not int(found[1]):
        raise ValueError(f"{memory[:80]!r} is no amount of memory; write 800M, 8G or 1T")
    return -(-int(found[1]) * _KIBIBYTES[found[2].upper()] // 1024)
