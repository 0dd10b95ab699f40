"""SLURM's notation for times and memory."""

import pytest

from paibench.slurm.units import limit_minutes, megabytes, minutes


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("90", 90),
        ("90:00", 90),
        ("0:01", 1),
        ("89:01", 90),
        ("1:30:00", 90),
        ("00:10:00", 10),
        ("100:00:00", 6000),
        ("1-12", 2160),
        ("1-12:30", 2190),
        ("1-12:30:30", 2191),
        ("0-0:5", 5),
        ("366-0", 527_040),
    ],
)
def test_times(time: str, expected: int) -> None:
    """Minutes come first without days, hours after days; seconds count as a minute."""
    assert minutes(time) == expected


@pytest.mark.parametrize(
    ("time", "message"),
    [
        ("", "'' is not a time; write minutes, H:MM:SS or D-HH:MM:SS"),
        ("4h", "'4h' is not a time; write minutes, H:MM:SS or D-HH:MM:SS"),
        ("1:2:3:4", "'1:2:3:4' is not a time; write minutes, H:MM:SS or D-HH:MM:SS"),
        ("-5", "'-5' is not a time; write minutes, H:MM:SS or D-HH:MM:SS"),
        ("UNLIMITED", "'UNLIMITED' is not a time; write minutes, H:MM:SS or D-HH:MM:SS"),
        ("٣", "'٣' is not a time; write minutes, H:MM:SS or D-HH:MM:SS"),
        ("10\n", r"'10\n' is not a time; write minutes, H:MM:SS or D-HH:MM:SS"),
        ("0:00", "'0:00' is 0 minutes; write between 1 minute and 366 days"),
        ("400-0", "'400-0' is 576000 minutes; write between 1 minute and 366 days"),
    ],
)
def test_texts_that_are_not_times(time: str, message: str) -> None:
    """The error names the accepted notations."""
    with pytest.raises(ValueError) as caught:
        minutes(time)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("time", "expected"),
    [("UNLIMITED", None), ("INFINITE", None), ("1-00:00:00", 1440), ("n/a", None), ("00:00:30", 1)],
)
def test_limits_that_slurm_shows(time: str, expected: int | None) -> None:
    """UNLIMITED, or a text that is not a time, is no limit."""
    assert limit_minutes(time) == expected


@pytest.mark.parametrize(
    ("memory", "expected"),
    [("800", 800), ("800M", 800), ("8G", 8192), ("8g", 8192), ("1T", 1_048_576), ("1025K", 2)],
)
def test_memory(memory: str, expected: int) -> None:
    """Megabytes without a unit, powers of 1024 with one, rounded up."""
    assert megabytes(memory) == expected


@pytest.mark.parametrize("memory", ["", "0", "0G", "8GB", "8 G", "1.5G", "-1G", "G", "1G\n"])
def test_texts_that_are_not_memory(memory: str) -> None:
    """The error names the accepted notations; 0, which SLURM takes as all memory, is refused."""
    with pytest.raises(ValueError, match="is not an amount of memory; write 800M, 8G or 1T"):
        megabytes(memory)
