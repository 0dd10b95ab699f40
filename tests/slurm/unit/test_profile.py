"""Profiles: what a file may contain, and every way in which it can be wrong."""

from pathlib import Path

import pytest

from paibench.methods.core.registry import UserError
from paibench.slurm.profile import Profile, check_extra, folder, read, sbatch_options

ALL = """
partition = "gpu"
account = "lab"
qos = "normal"
constraint = "a100|h100"
gpus = 1
gpu_type = "a100"
cpus = 4
memory = "16G"
time = "1-12"
array_parallelism = 20
runs_per_job = 8
runs_at_a_time = 2
threads = 2
setup = ["module load cuda", "source ~/env/bin/activate"]
container = "apptainer exec --nv image.sif"
python = "/opt/env/bin/python"
data = "/data"
warning_seconds = 120
checkpoint_seconds = 60
search_seconds = 7200
trusted = true

[extra]
mail-type = "END"
exclusive = true
nice = 10
"""


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of profiles."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder().mkdir(parents=True)
    return folder()


def test_the_defaults() -> None:
    """By default a job has no GPU, one core and four hours."""
    profile = Profile(name="default")
    assert (profile.minutes, profile.memory_mb, profile.device) == (240, 8192, "cpu")
    assert (profile.cpus, profile.gpus, profile.runs_at_a_time, profile.threads) == (1, 0, 1, 1)
    assert (profile.warning_seconds, profile.checkpoint_seconds) == (90, 20.0)
    assert (profile.setup, profile.extra, profile.runs_per_job) == ([], {}, None)


def test_a_file_sets_every_key(tmp_path: Path) -> None:
    """Each key of the file is a field, and the file's name is the profile's name."""
    path = tmp_path / "lab.toml"
    path.write_text(ALL)
    profile = read(str(path))
    assert profile.name == "lab"
    assert profile.model_fields_set == Profile.model_fields.keys()
    assert (profile.minutes, profile.memory_mb, profile.device) == (2160, 16384, "cuda")
    assert profile.data == Path("/data")
    assert profile.extra == {"mail-type": "END", "exclusive": True, "nice": 10}


def test_bare_numbers_are_minutes_and_megabytes(tmp_path: Path) -> None:
    """Numbers without quotes are accepted, as SLURM accepts them without a unit."""
    path = tmp_path / "a.toml"
    path.write_text("time = 10\nmemory = 800\n")
    assert (read(str(path)).minutes, read(str(path)).memory_mb) == (10, 800)


def test_data_may_be_below_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the home folder of the user who reads the profile."""
    monkeypatch.setenv("HOME", "/home/me")
    path = tmp_path / "a.toml"
    path.write_text('data = "~/data"')
    assert read(str(path)).data == Path("/home/me/data")


def test_a_profile_by_name(profiles: Path) -> None:
    """Profiles in the user's folder are found by name; an empty file has the defaults."""
    (profiles / "lab.toml").write_text("")
    assert read("lab") == Profile(name="lab")


def test_without_a_folder_for_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Profiles are below ~/.config if the variable is not an absolute path."""
    monkeypatch.setenv("HOME", "/home/me")
    expected = Path("/home/me/.config/paibench/profiles")
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CONFIG_HOME", value)
        assert folder() == expected
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert folder() == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lap", "profile lap: {}/lap.toml does not exist; did you mean lab?"),
        ("zzz", "profile zzz: {}/zzz.toml does not exist; known: lab, other"),
        ("a b", "profile 'a b' cannot be used; take 1 to 64 of a-z 0-9 _ . - that start with a "),
        ("..", "profile '..' cannot be used; take 1 to 64 of a-z 0-9 _ . - that start with a l"),
        ("", "profile '' cannot be used; take 1 to 64 of a-z 0-9 _ . - that start with a let"),
        ("/no/such.toml", "/no/such.toml: does not exist; check the path"),
        ("/no/A b.toml", "/no/A b.toml: the name 'A b' cannot be used; take 1 to 64 of a-z 0-"),
        ("/no/a\nb.toml", r"/no/a\nb.toml: the name 'a\nb' cannot be used; take 1 to 64 of a-z"),
        ("/dev/zero", "/dev/zero: is larger than 1 MiB; a profile is a short TOML file"),
    ],
    ids=["near", "far", "space", "dots", "empty", "path", "name of path", "newline", "endless"],
)
def test_no_such_profile(profiles: Path, name: str, message: str) -> None:
    """The error names the missing file and the known profiles."""
    for known in ("lab", "other"):
        (profiles / f"{known}.toml").write_text("")
    with pytest.raises(UserError) as caught:
        read(name)
    assert str(caught.value).startswith(message.format(profiles))
    assert str(caught.value).isprintable()


def test_without_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the expected path of the profile."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(UserError) as caught:
        read("lab")
    path = tmp_path / "paibench" / "profiles" / "lab.toml"
    assert str(caught.value) == f"profile lab: {path} does not exist; none are known"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cpu = 2", "cpu: unknown key; did you mean cpus"),
        ("name = 'x'", "name: unknown key; known: account, "),
        ('"b\\n" = 2', r"b\n: unknown key; known: account, array_parallelism, check"),
        ("cpus = 'two'", "cpus: 'two' is not a whole number; write one, without quotes"),
        ("cpus = 2.0", "cpus: 2.0 is not a whole number; write one, without quotes"),
        ("cpus = true", "cpus: True is not a whole number; write one, without quotes"),
        ("cpus = 0", "cpus: 0 is out of range; it should be greater than or equal to 1"),
        ("gpus = -1", "gpus: -1 is out of range; it should be greater than or equal to 0"),
        ("cpus = 99999999999999999999", "cpus: 99999999999999999999 is out of range; it should "),
        ("time = true", "time: True is not text; put it in quotes"),
        ("time = 04:00:00", "time: datetime.time(4, 0) is not text; put it in quotes"),
        ("time = 'soon'", "time: 'soon' is not a time; write minutes, H:MM:SS or D-HH:MM:SS"),
        ("memory = 'much'", "memory: 'much' is not an amount of memory; write 800M, 8G or 1T"),
        ("partition = 3", "partition: 3 is not text; put it in quotes"),
        ("partition = 'a b'", "partition: 'a b' cannot be a name on a cluster; correct its spel"),
        ("partition = ''", "partition: '' cannot be a name on a cluster; correct its spelling"),
        ('account = "a\\nb"', r"account: 'a\nb' cannot be a name on a cluster; correct its spel"),
        ("qos = '--wrap=x'", "qos: '--wrap=x' cannot be a name on a cluster; correct its spelli"),
        ("constraint = 'a;b'", "constraint: 'a;b' cannot be a name on a cluster; correct its sp"),
        ("gpu_type = 'a100'", "gpu_type: has no effect without gpus; write gpus or remove it"),
        ("setup = 'x'", "setup: 'x' is not a list; write [...]"),
        ("setup = ['x', 1]", "setup[1]: 1 is not text; put it in quotes"),
        ('setup = ["a\\nb"]', r"setup[0]: 'a\nb' holds a control character; write one line of t"),
        ("container = ' '", "container: is empty; write a command or remove the key"),
        ('python = "a\\u001b"', r"python: 'a\x1b' holds a control character; write one line of"),
        ("data = 'data'", "data: 'data' is relative, jobs need an absolute path; write one"),
        ("data = '~no-such-user/x'", "data: '~no-such-user/x' is relative, jobs need an absolute"),
        ("data = 1", "data: 1 is not text; put it in quotes"),
        ("checkpoint_seconds = nan", "checkpoint_seconds: nan is out of range; it should be a f"),
        ("checkpoint_seconds = 0", "checkpoint_seconds: 0 is out of range; it should be greater"),
        ("checkpoint_seconds = '1'", "checkpoint_seconds: '1' is not a number; write one, without"),
        ("extra = 1", "extra: 1 is not a table; write [extra] and keys below it"),
        ("extra.mem = '1G'", "extra: mem is set by the profile's key memory; write that key"),
        (
            "cpus = 2\nthreads = 2\nruns_at_a_time = 2",
            "cpus: 2 is fewer than runs_at_a_time * threads = 4; write more cpus or fewer runs_at",
        ),
        (
            "time = '3:00'",
            "time: 3:00 is 180 s, less than warning_seconds + 120 s = 210 s; write a longer time",
        ),
        ("cpus = ", "is not TOML: Invalid value (at end of document)"),
    ],
)
def test_errors_in_a_file(tmp_path: Path, text: str, message: str) -> None:
    """The error is one line with the file, the key, the value and what to do."""
    path = tmp_path / "lab.toml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read(str(path))
    assert str(caught.value).startswith(f"{path}: {message}")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(("time", "allowed"), [("3:30", True), ("4", True), ("3", False)])
def test_the_shortest_time(time: str, allowed: bool) -> None:
    """A job has at least two minutes between its start and its warning."""
    if allowed:
        assert Profile(name="a", time=time).minutes == 4
    else:
        with pytest.raises(ValueError, match="less than warning_seconds"):
            Profile(name="a", time=time)


# -- options of sbatch -----------------------------------------------------------------------------


def test_other_options_are_kept() -> None:
    """Text, numbers and flags are kept, also names that resemble those of paibench."""
    extra = {"mail-type": "END", "nice": 5, "exclusive": True, "gres-flags": "enforce-binding"}
    extra |= {"nodelist": "node1", "comment": "it's a (b)", "wait-all-nodes": 1, "wckey": "x"}
    assert check_extra(extra) == extra


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("array", "0-9", "array is set by the profile's key array_parallelism; write that key"),
        ("gres", "gpu:2", "gres is set by the profile's key gpus; write that key"),
        ("gpus-per-node", 2, "gpus-per-node is set by the profile's key gpus; write that key"),
        ("mem", "8G", "mem is set by the profile's key memory; write that key"),
        ("partition", "x", "partition is set by the profile's key partition; write that key"),
        ("part", "x", "part is set by the profile's key partition; write that key"),
        ("signal", "USR1", "signal is set by the profile's key warning_seconds; write that key"),
        ("requeue", True, "requeue is set by paibench; remove it"),
        ("job-name", "x", "job-name is set by paibench; remove it"),
        ("job", "x", "job is set by paibench; remove it"),
        ("mail_type", "END", "'mail_type' is not an option of sbatch; write mail-type"),
        ("--nice", 5, "'--nice' is not an option of sbatch; write nice"),
        ("-A", "x", "'-A' is not an option of sbatch; write its long name"),
        ("a b", 1, "'a b' is not an option of sbatch; write its long name"),
        ("a\n#SBATCH", 1, r"'a\n#SBATCH' is not an option of sbatch; write its long name"),
        ("exclusive", False, "exclusive = false has no effect; remove it"),
        ("nice", 1.5, "nice = 1.5 is neither text, a number nor true"),
        ("nice", [1], "nice = [1] is neither text, a number nor true"),
        ("comment", "a\nrm", r"comment = 'a\nrm' holds a control character; write one line"),
    ],
)
def test_options_that_cannot_be_added(name: str, value: object, message: str) -> None:
    """The error says what to write instead."""
    with pytest.raises(ValueError) as caught:
        check_extra({name: value})
    assert str(caught.value) == message


def test_options_of_the_defaults() -> None:
    """A job states its time, memory, cores, and that it is one task."""
    assert sbatch_options(Profile(name="default")) == {
        "time": 240,
        "mem": "8192M",
        "nodes": 1,
        "ntasks": 1,
        "cpus-per-task": 1,
    }


def test_options_of_all_keys() -> None:
    """Every key for SLURM has the name that SLURM uses."""
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
    """Without a type, only the number of GPUs is requested."""
    assert sbatch_options(Profile(name="any", gpus=3))["gres"] == "gpu:3"
