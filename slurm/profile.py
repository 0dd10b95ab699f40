"""A profile says what a job may ask of a cluster: a short TOML file for each place to run at."""

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

from paibench.benchmark.data import files
from paibench.benchmark.spec import short_repr
from paibench.benchmark.store.names import check_name
from paibench.benchmark.sweeps import toml_file
from paibench.methods.core.registry import UserError, did_you_mean
from paibench.slurm.units import megabytes, minutes

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
            raise ValueError(f"{short_repr(name)} is no parameter of sbatch; {mend}")
        # sbatch takes the beginning of a name for the whole of it
        if ours := [own for own in sorted({*_BY_KEY, *_ALWAYS_OURS}) if own.startswith(name)]:
            if key := _BY_KEY.get(ours[0]):
                raise ValueError(f"{name} is set by the profile's key {key}; write that key")
            raise ValueError(f"{name} is set by the suite; remove it")
        if value is False:
            raise ValueError(f"{name} = false says nothing; remove it")
        if not isinstance(value, str | int):
            raise ValueError(f"{name} = {short_repr(value)} is neither text, number nor true")
        if isinstance(value, str) and not value.isprintable():
            raise ValueError(
                f"{name} = {short_repr(value)} holds a control character; write one line"
            )
    return extra


# profile: A profile says what a job may ask of a cluster: a short TOML file for each place to
# run at.

STARTING_SECONDS = 120  # that a job has at least between its start and its warning


def _word(characters: str) -> Callable[[str], str]:
    rule = re.compile(f"[{characters}]{{1,200}}")

    def check(text: str) -> str:
        if not rule.fullmatch(text) or text.startswith("-"):
            raise ValueError(
                f"{short_repr(text)} cannot be a name on a cluster; correct its spelling"
            )
        return text

    return check


def _line(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"{short_repr(text)} holds a control character; write one line of text")
    return text


def _words(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty; write a command or remove the key")
    return _line(text)


def _number_as_text(value: Any) -> Any:
    """TOML lets a bare number stand where SLURM takes one."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Name = Annotated[str, AfterValidator(_word("A-Za-z0-9_.:@+-"))]
Names = Annotated[str, AfterValidator(_word("A-Za-z0-9_.:@+,-"))]
Expression = Annotated[str, AfterValidator(_word(r"A-Za-z0-9_.:=&|,*()\[\]-"))]
Line = Annotated[str, AfterValidator(_line)]
Words = Annotated[str, AfterValidator(_words)]
Count = Annotated[int, Field(ge=1, le=65_535)]


class Profile(BaseModel):
    """What each job asks of SLURM, and how runs share it. Made from a file by `read`.

    `gpus`, `cpus` and `memory` are of one job, `threads` of one run; `partition` may name several,
    with commas. `warning_seconds` before its time limit a job is told to leave.
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
    memory: Annotated[str, BeforeValidator(_number_as_text)] = "8G"
    time: Annotated[str, BeforeValidator(_number_as_text)] = "4:00:00"
    array_parallelism: Count | None = None
    runs_per_job: Count | None = None
    runs_at_a_time: Count = 1
    threads: Count = 1
    setup: list[Line] = []
    container: Words | None = None
    python: Words | None = None
    data: Path | None = None
    warning_seconds: Count = 90
    checkpoint_seconds: float = Field(default=20.0, gt=0, allow_inf_nan=False)
    search_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    trusted: bool = False
    extra: dict[str, Option] = {}

    @field_validator("extra", mode="before")
    @classmethod
    def _extra_rule(cls, extra: Any) -> Any:
        return check_extra(extra) if isinstance(extra, dict) else extra

    @field_validator("data", mode="before")
    @classmethod
    def _absolute(cls, data: Any) -> Any:
        if not isinstance(data, str):
            return data
        try:
            path = Path(_line(data)).expanduser()
        except RuntimeError:  # ~ of somebody who is not there
            path = Path(data)
        if not path.is_absolute():
            raise ValueError(f"{short_repr(data)} means nothing to a job; write an absolute path")
        return path

    @field_validator("memory")
    @classmethod
    def _memory_rule(cls, memory: str) -> str:
        megabytes(memory)
        return memory

    @field_validator("time")
    @classmethod
    def _time_rule(cls, time: str) -> str:
        minutes(time)
        return time

    @model_validator(mode="after")
    def _fits_together(self) -> "Profile":
        if self.gpu_type and not self.gpus:
            raise ValueError("gpu_type: without gpus it says nothing; write gpus or remove it")
        if self.cpus < (needed := self.runs_at_a_time * self.threads):
            raise ValueError(
                f"cpus: {self.cpus} is fewer than runs_at_a_time * threads = {needed}; "
                "ask for more or do fewer runs at a time"
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
        """The memory of a job in megabytes, rounded up."""
        return megabytes(self.memory)

    @property
    def device(self) -> str:
        """What its runs compute on: `cuda` where the job has GPUs, else `cpu`."""
        return "cuda" if self.gpus else "cpu"


def read(name_or_path: str) -> Profile:
    """The profile in a file, or of a name: `~/.config/paibench/profiles/NAME.toml`.

    Raises UserError in one line with the file, the key and the value that is wrong.
    """
    path = _located(name_or_path)
    name = check_name(path.stem, f"{files.printable(path)}: the name")
    plain = toml_file.read(path, "a profile")
    known = Profile.model_fields.keys() - {"name"}
    for key in plain:
        if key not in known:
            place = f"{path}: {files.printable(key)[:80]}"
            raise UserError(f"{place}: unknown key; {did_you_mean(key, known)}")
    try:
        return Profile.model_validate({"name": name, **plain})
    except ValidationError as error:
        raise UserError(f"{path}: {_explain(error)}") from error


def folder() -> Path:
    """Where profiles are looked up by name."""
    config = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(config) if config.startswith("/") else Path.home() / ".config"
    return base / "paibench" / "profiles"


def _located(name_or_path: str) -> Path:
    if "/" in name_or_path or name_or_path.endswith(".toml"):
        return Path(name_or_path)
    path = folder() / f"{check_name(name_or_path, 'profile')}.toml"
    if not path.exists():
        there = did_you_mean(name_or_path, (file.stem for file in folder().glob("*.toml")))
        raise UserError(f"profile {name_or_path}: {path} is not there; {there}")
    return path


_WHAT = {
    "string_type": "is no text; put it in quotes",
    "int_type": "is no whole number; write one, without quotes",
    "float_type": "is no number; write one, without quotes",
    "list_type": "is no list; write [...]",
    "dict_type": "is no table; write [extra] and keys below it",
    "is_instance_of": "is no text; put it in quotes",
}


def _explain(error: ValidationError) -> str:
    """The first complaint as `key: what; what to do`."""
    first = error.errors(include_url=False)[0]
    place = "".join(f"[{p}]" if isinstance(p, int) else p for p in first["loc"])
    if first["type"] == "value_error":
        said = first["msg"].removeprefix("Value error, ")
        return f"{place}: {said}" if place else said
    mend = first["msg"].replace("Input should be", "it should be")
    what = _WHAT.get(first["type"], f"is out of range; {mend}")
    return f"{place}: {short_repr(first['input'])} {what}"


# options: What a profile is to sbatch.


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
