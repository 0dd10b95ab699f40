"""A profile: what one job may ask of a cluster, in a short TOML file for each cluster."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from paibench.benchmark.execution.settings import RunSettings
from paibench.benchmark.spec import short_repr
from paibench.benchmark.store.names import check_name
from paibench.benchmark.sweeps import toml_file
from paibench.methods.core.registry import UserError, did_you_mean
from paibench.methods.core.text import printable
from paibench.slurm.units import megabytes, minutes

Option = str | int | bool
"""A value of a long option of sbatch; true is an option without a value."""

STARTING_SECONDS = 120  # a job needs this long to start before it can handle a warning


# -- the types of a profile's keys -----------------------------------------------------------------


def _word(characters: str) -> Callable[[str], str]:
    """Return a check for text of these characters that cannot be taken for an option."""
    pattern = re.compile(f"[{characters}]{{1,200}}")

    def check(text: str) -> str:
        if not pattern.fullmatch(text) or text.startswith("-"):
            raise ValueError(
                f"{short_repr(text)} cannot be a name on a cluster; correct its spelling"
            )
        return text

    return check


def _line(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"{short_repr(text)} holds a control character; write one line of text")
    return text


def _command(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; write a command or remove the key")
    return _line(text)


def _parsed_by(parse: Callable[[str], int]) -> Callable[[str], str]:
    """Return a check that text can be parsed; the profile keeps what the user wrote."""

    def check(text: str) -> str:
        parse(text)
        return text

    return check


def _number_as_text(value: Any) -> Any:
    """Accept a bare TOML number, as SLURM takes times and memory without a unit."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Name = Annotated[str, AfterValidator(_word("A-Za-z0-9_.:@+-"))]
Names = Annotated[str, AfterValidator(_word("A-Za-z0-9_.:@+,-"))]
Expression = Annotated[str, AfterValidator(_word(r"A-Za-z0-9_.:=&|,*()\[\]-"))]
Line = Annotated[str, AfterValidator(_line)]
Command = Annotated[str, AfterValidator(_command)]
Count = Annotated[int, Field(ge=1, le=65_535)]
Memory = Annotated[str, BeforeValidator(_number_as_text), AfterValidator(_parsed_by(megabytes))]
Time = Annotated[str, BeforeValidator(_number_as_text), AfterValidator(_parsed_by(minutes))]


# -- further options of sbatch ---------------------------------------------------------------------

_OPTION = re.compile(r"[a-z][a-z0-9-]*", re.ASCII)
_SET_BY_KEY = {
    **{name: name for name in ("partition", "account", "qos", "constraint")},
    **dict.fromkeys(["gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket", "gres"], "gpus"),
    **dict.fromkeys(["cpus-per-task", "cpus-per-gpu", "cores-per-socket"], "cpus"),
    **dict.fromkeys(["mem", "mem-per-cpu", "mem-per-gpu"], "memory"),
    **dict.fromkeys(["time", "time-min"], "time"),
    "array": "array_parallelism",
    "signal": "warning_seconds",
}
_SET_BY_PAIBENCH = {
    *("job-name", "output", "error", "input", "open-mode", "requeue", "no-requeue", "clusters"),
    *("nodes", "ntasks", "ntasks-per-node", "ntasks-per-gpu", "ntasks-per-socket", "wrap", "wait"),
    *("parsable", "quiet", "test-only", "help", "usage", "version", "chdir"),
}


def check_extra(extra: Mapping[str, object]) -> Mapping[str, object]:
    """Return `extra` itself: more options of sbatch, by their long names.

    Raises ValueError for an option that cannot be added, with the key that sets it instead.
    """
    for name, value in extra.items():
        if not _OPTION.fullmatch(name):
            corrected = name.strip("-").replace("_", "-").lower()
            is_long = _OPTION.fullmatch(corrected) and len(corrected) > 1
            hint = corrected if is_long else "its long name"
            raise ValueError(f"{short_repr(name)} is not an option of sbatch; write {hint}")
        # sbatch accepts any unambiguous beginning of an option's name.
        matches = [own for own in {*_SET_BY_KEY, *_SET_BY_PAIBENCH} if own.startswith(name)]
        if matches:
            # The first in the alphabet, because a set has no fixed order.
            if key := _SET_BY_KEY.get(min(matches)):
                raise ValueError(f"{name} is set by the profile's key {key}; write that key")
            raise ValueError(f"{name} is set by paibench; remove it")
        if value is False:
            raise ValueError(f"{name} = false has no effect; remove it")
        if not isinstance(value, str | int):
            raise ValueError(f"{name} = {short_repr(value)} is neither text, a number nor true")
        if isinstance(value, str) and not value.isprintable():
            raise ValueError(
                f"{name} = {short_repr(value)} holds a control character; write one line"
            )
    return extra


# -- the profile -----------------------------------------------------------------------------------


class Profile(BaseModel):
    """What each job asks of SLURM, and how runs share it. `read` makes one from a file.

    `gpus`, `cpus` and `memory` are per job, `threads` is per run; `partition` may list several,
    separated by commas. A job is warned `warning_seconds` before its time limit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    partition: Names | None = None
    account: Name | None = None
    qos: Name | None = None
    constraint: Expression | None = None
    gpus: int = Field(default=0, ge=0, le=65_535)
    gpu_type: Name | None = None
    cpus: Count = 1
    memory: Memory = "8G"
    time: Time = "4:00:00"
    array_parallelism: Count | None = None
    runs_per_job: Count | None = None
    runs_at_a_time: Count = 1
    threads: Count = 1
    setup: list[Line] = []
    container: Command | None = None
    python: Command | None = None
    data: Path | None = None
    warning_seconds: Count = 90
    checkpoint_seconds: float = Field(default=20.0, gt=0, allow_inf_nan=False)
    search_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    trusted: bool = False
    extra: dict[str, Option] = {}

    @field_validator("extra", mode="before")
    @classmethod
    def _check_extra(cls, extra: Any) -> Any:
        return check_extra(extra) if isinstance(extra, dict) else extra

    @field_validator("data", mode="before")
    @classmethod
    def _absolute(cls, data: Any) -> Any:
        # TOML has text for a path, and strict validation accepts a Path only.
        if not isinstance(data, str):
            return data
        try:
            path = Path(_line(data)).expanduser()
        except RuntimeError:  # the home folder of an unknown user
            path = Path(data)
        if not path.is_absolute():
            raise ValueError(
                f"{short_repr(data)} is relative, jobs need an absolute path; write one"
            )
        return path

    @model_validator(mode="after")
    def _check_combinations(self) -> "Profile":
        if self.gpu_type and not self.gpus:
            raise ValueError("gpu_type: has no effect without gpus; write gpus or remove it")
        if self.cpus < (needed := self.runs_at_a_time * self.threads):
            raise ValueError(
                f"cpus: {self.cpus} is fewer than runs_at_a_time * threads = {needed}; "
                "write more cpus or fewer runs_at_a_time"
            )
        if self.minutes * 60 < (needed := self.warning_seconds + STARTING_SECONDS):
            raise ValueError(
                f"time: {self.time} is {self.minutes * 60} s, less than warning_seconds + "
                f"{STARTING_SECONDS} s = {needed} s; write a longer time or a shorter warning"
            )
        return self

    @property
    def minutes(self) -> int:
        """The time limit of a job in minutes, rounded up."""
        return minutes(self.time)

    @property
    def memory_mb(self) -> int:
        """The memory of a job in MiB, rounded up."""
        return megabytes(self.memory)

    @property
    def run_memory_mb(self) -> int:
        """The memory in MiB that each concurrent run of a job may use."""
        return self.memory_mb // self.runs_at_a_time

    @property
    def device(self) -> str:
        """The device of its runs: `cuda` if the job has GPUs, else `cpu`."""
        return "cuda" if self.gpus else "cpu"

    def run_settings(self, data: Path | None) -> RunSettings:
        """Return the settings of the runs in a job."""
        return RunSettings(
            device=self.device,
            threads=self.threads,
            data=data,
            memory_mb=self.run_memory_mb,
            trusted=self.trusted,
            search_seconds=self.search_seconds,
            checkpoint_seconds=self.checkpoint_seconds,
            jobs=self.runs_at_a_time,
        )


def sbatch_options(profile: Profile) -> dict[str, Option]:
    """Return a profile as long options of sbatch, for one job with one task.

    Array, name, files and signal of a job are not among them.
    """
    named = {key: getattr(profile, key) for key in ("partition", "account", "qos", "constraint")}
    gpu_type = f":{profile.gpu_type}" if profile.gpu_type else ""
    return {
        **{key: value for key, value in named.items() if value is not None},
        "time": profile.minutes,
        "mem": f"{profile.memory_mb}M",
        # The job's own pool executes several runs, so SLURM starts one task only.
        "nodes": 1,
        "ntasks": 1,
        "cpus-per-task": profile.cpus,
        **({"gres": f"gpu{gpu_type}:{profile.gpus}"} if profile.gpus else {}),
        **profile.extra,
    }


# -- profiles in files -----------------------------------------------------------------------------


def folder() -> Path:
    """Return the folder in which profiles are looked up by name."""
    config = os.environ.get("XDG_CONFIG_HOME", "")
    # The XDG specification says that a relative path is to be ignored.
    base = Path(config) if config.startswith("/") else Path.home() / ".config"
    return base / "paibench" / "profiles"


def read(name_or_path: str) -> Profile:
    """Read the profile in a file, or the one named NAME: `~/.config/paibench/profiles/NAME.toml`.

    Raises UserError in one line with the file, the key and the wrong value.
    """
    path = _locate(name_or_path)
    name = check_name(path.stem, f"{printable(path)}: the name")
    plain = toml_file.read(path, "a profile")
    fields = Profile.model_fields.keys() - {"name"}
    for key in plain:
        if key not in fields:
            position = f"{path}: {printable(key)[:80]}"
            raise UserError(f"{position}: unknown key; {did_you_mean(key, fields)}")
    try:
        return Profile.model_validate({"name": name, **plain})
    except ValidationError as error:
        raise UserError(f"{path}: {_explain(error)}") from error


def _locate(name_or_path: str) -> Path:
    if "/" in name_or_path or name_or_path.endswith(".toml"):
        return Path(name_or_path)
    path = folder() / f"{check_name(name_or_path, 'profile')}.toml"
    if not path.exists():
        hint = did_you_mean(name_or_path, (file.stem for file in folder().glob("*.toml")))
        raise UserError(f"profile {name_or_path}: {path} does not exist; {hint}")
    return path


_EXPLANATIONS = {
    "string_type": "is not text; put it in quotes",
    "int_type": "is not a whole number; write one, without quotes",
    "float_type": "is not a number; write one, without quotes",
    "list_type": "is not a list; write [...]",
    "dict_type": "is not a table; write [extra] and keys below it",
    "is_instance_of": "is not text; put it in quotes",
}


def _explain(error: ValidationError) -> str:
    """Return the first error as `key: what is wrong; what to do`."""
    first = error.errors(include_url=False)[0]
    key = "".join(f"[{part}]" if isinstance(part, int) else part for part in first["loc"])
    if first["type"] == "value_error":
        message = first["msg"].removeprefix("Value error, ")
        return f"{key}: {message}" if key else message
    expected = first["msg"].replace("Input should be", "it should be")
    explanation = _EXPLANATIONS.get(first["type"], f"is out of range; {expected}")
    return f"{key}: {short_repr(first['input'])} {explanation}"
