"""What a profile is to sbatch."""

from paibench.slurm.extra import Option
from paibench.slurm.profile import Profile


def sbatch_options(profile: Profile) -> dict[str, Option]:
    """The parameters of sbatch that a profile stands for, by their long names; true has no value.

    Of one job with one task; arrays, names, files and signals are for whoever submits.
    """
    named = {key: getattr(profile, key) for key in ("partition", "account", "qos", "constraint")}
    kind = f":{profile.gpu_type}" if profile.gpu_type else ""
    return {
        **{key: value for key, value in named.items() if value is not None},
        "time": profile.minutes,
        "mem": f"{profile.memory_mb}M",
        "nodes": 1,
        "ntasks": 1,
        "cpus-per-task": profile.cpus,
        **({"gres": f"gpu{kind}:{profile.gpus}"} if profile.gpus else {}),
        **profile.extra,
    }
