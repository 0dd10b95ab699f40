"""The parameters of sbatch that a profile may add."""

import pytest

from paibench.slurm.extra import check_extra


def test_other_parameters_are_kept() -> None:
    """Text, numbers and flags, also names that only look like those of the suite."""
    extra = {"mail-type": "END", "nice": 5, "exclusive": True, "gres-flags": "enforce-binding"}
    extra |= {"nodelist": "node1", "comment": "it's a (b)", "wait-all-nodes": 1, "wckey": "x"}
    assert check_extra(extra) == extra


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("array", "0-9", "array is set by the profile's key array_parallelism; write that key"),
        ("gres", "gpu:2", "gres is set by the profile's key gpus; write that key"),
        ("gpus-per-node", 2, "gpus-per-node is set by the profile's key gpus; write that key"),
        ("mem", "8G", "mem is set by the profile's key memory; write that key"),
        ("partition", "x", "partition is set by the profile's key partition; write that key"),
        ("part", "x", "part is set by the profile's key partition; write that key"),
        ("signal", "USR1", "signal is set by the profile's key warning_seconds; write that key"),
        ("requeue", True, "requeue is set by the suite; remove it"),
        ("job-name", "x", "job-name is set by the suite; remove it"),
        ("job", "x", "job is set by the suite; remove it"),
        ("mail_type", "END", "'mail_type' is no parameter of sbatch; write mail-type"),
        ("--nice", 5, "'--nice' is no parameter of sbatch; write nice"),
        ("-A", "x", "'-A' is no parameter of sbatch; write its long name"),
        ("a b", 1, "'a b' is no parameter of sbatch; write its long name"),
        ("a\n#SBATCH", 1, r"'a\n#SBATCH' is no parameter of sbatch; write its long name"),
        ("exclusive", False, "exclusive = false says nothing; remove it"),
        ("nice", 1.5, "nice = 1.5 is neither text, number nor true"),
        ("nice", [1], "nice = [1] is neither text, number nor true"),
        ("comment", "a\nrm", r"comment = 'a\nrm' holds a control character; write one line"),
    ],
)
def test_what_cannot_be_added(name: str, value: object, said: str) -> None:
    """It is refused with what to write instead."""
    with pytest.raises(ValueError) as caught:
        check_extra({name: value})
    assert str(caught.value) == said
