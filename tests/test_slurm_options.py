"""What a profile is to sbatch."""

from paibench.slurm.options import sbatch_options
from paibench.slurm.profile import Profile


def test_the_least_that_a_job_says() -> None:
    """Time, memory, processors, and that it is one task."""
    assert sbatch_options(Profile(name="default")) == {
        "time": 240,
        "mem": "8192M",
        "nodes": 1,
        "ntasks": 1,
        "cpus-per-task": 1,
    }


def test_all_that_a_profile_can_say() -> None:
    """Every key of the profile that is for SLURM stands under SLURM's own name."""
    profile = Profile(
        name="all",
        partition="gpu,high",
        account="me",
        qos="long",
        constraint="a100&nvlink",
        gpus=2,
        gpu_type="a100",
        cpus=4,
        memory="800",
        time="1-0",
        extra={"exclusive": True, "nice": 5},
    )
    assert sbatch_options(profile) == {
        "partition": "gpu,high",
        "account": "me",
        "qos": "long",
        "constraint": "a100&nvlink",
        "time": 1440,
        "mem": "800M",
        "nodes": 1,
        "ntasks": 1,
        "cpus-per-task": 4,
        "gres": "gpu:a100:2",
        "exclusive": True,
        "nice": 5,
    }


def test_gpus_of_any_type() -> None:
    """Without a type, only their number is asked for."""
    assert sbatch_options(Profile(name="any", gpus=3))["gres"] == "gpu:3"
