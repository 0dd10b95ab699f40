"""The parameters of sbatch that a profile may add, and those that the suite sets itself."""

import re
from collections.abc import Mapping

from paibench.benchmark.spec import shown

Option = str | int | bool

_NAME = re.compile(r"[a-z][a-z0-9-]*", re.ASCII)
_BY_KEY = {
    **{name: name for name in ("partition", "account", "qos", "constraint")},
    **dict.fromkeys(["gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket", "gres"], "gpus"),
    **dict.fromkeys(["cpus-per-task", "cpus-per-gpu", "cores-per-socket"], "cpus"),
    **dict.fromkeys(["mem", "mem-per-cpu", "mem-per-gpu"], "memory"),
    **dict.fromkeys(["time", "time-min"], "time"),
    "array": "array_parallelism",
    "signal": "warning_seconds",
}
_ALWAYS_OURS = {
    *("job-name", "output", "error", "input", "open-mode", "requeue", "no-requeue", "clusters"),
    *("nodes", "ntasks", "ntasks-per-node", "ntasks-per-gpu", "ntasks-per-socket", "wrap", "wait"),
    *("parsable", "quiet", "test-only", "help", "usage", "version", "chdir"),
}


def check_extra(extra: Mapping[str, object]) -> Mapping[str, object]:
    """The parameters themselves, by their long names; true is a parameter without a value.

    Raises ValueError where one cannot be added, with the key of the profile that takes its place.
    """
    for name, value in extra.items():
        if not _NAME.fullmatch(name):
            hint = name.strip("-").replace("_", "-").lower()
            mend = f"write {hint}" if _NAME.fullmatch(hint) and hint[1:] else "write its long name"
            raise ValueError(f"{shown(name)} is no parameter of sbatch; {mend}")
        # sbatch takes the beginning of a name for the whole of it
        if ours := [own for own in sorted({*_BY_KEY, *_ALWAYS_OURS}) if own.startswith(name)]:
            if key := _BY_KEY.get(ours[0]):
                raise ValueError(f"{name} is set by the profile's key {key}; write that key")
            raise ValueError(f"{name} is set by the suite; remove it")
        if value is False:
            raise ValueError(f"{name} = false says nothing; remove it")
        if not isinstance(value, str | int):
            raise ValueError(f"{name} = {shown(value)} is neither text, number nor true")
        if isinstance(value, str) and not value.isprintable():
            raise ValueError(f"{name} = {shown(value)} holds a control character; write one line")
    return extra
