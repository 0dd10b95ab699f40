"""SLURM's notation for times and memory."""

import re

LONGEST_MINUTES = 366 * 24 * 60

_TIME = re.compile(r"(?:(\d{1,4})-)?(\d{1,6}(?::\d{1,2}){0,2})", re.ASCII)
_MEMORY = re.compile(r"(\d{1,9})([KMGT]?)", re.ASCII | re.IGNORECASE)
_KIBIBYTES = {"K": 1, "": 1 << 10, "M": 1 << 10, "G": 1 << 20, "T": 1 << 30}


def minutes(time: str) -> int:
    """Return whole minutes, rounded up, of `90`, `90:00`, `1:30:00`, `1-12` or `1-12:30:00`.

    Raises ValueError if it is not a time, is 0, or is more than a year.
    """
    if not (match := _TIME.fullmatch(time)):
        raise ValueError(f"{time[:80]!r} is not a time; write minutes, H:MM:SS or D-HH:MM:SS")
    days, parts = match[1], [int(part) for part in match[2].split(":")]
    # SLURM reads M and M:S without days, but H and H:M with days.
    if days is None and len(parts) < 3:
        parts.insert(0, 0)
    hours, minute, second = [*parts, 0, 0][:3]
    total = (int(days or 0) * 24 + hours) * 60 + minute + -(-second // 60)
    if not 0 < total <= LONGEST_MINUTES:
        raise ValueError(f"{time!r} is {total} minutes; write between 1 minute and 366 days")
    return total


def limit_minutes(time: str) -> int | None:
    """Return the minutes of a limit that SLURM shows; None if there is no limit."""
    try:
        return minutes(time)
    except ValueError:  # UNLIMITED, INFINITE
        return None


def megabytes(memory: str) -> int:
    """Return whole megabytes, rounded up, of `800`, `800M`, `8G` or `1T`.

    Raises ValueError if it is not an amount of memory, or is 0.
    """
    match = _MEMORY.fullmatch(memory)
    # SLURM takes 0 as "all memory of the node", which would hide what a job really needs.
    if not match or not int(match[1]):
        raise ValueError(f"{memory[:80]!r} is not an amount of memory; write 800M, 8G or 1T")
    return -(-int(match[1]) * _KIBIBYTES[match[2].upper()] // 1024)
