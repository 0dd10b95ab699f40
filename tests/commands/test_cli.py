"""The command line: errors of the user, and what commands print and write."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from factories import SWEEP

from paibench.benchmark.record import Record
from paibench.commands import options
from paibench.methods.core.registry import Kind, names
from paibench.methods.core.signature import Value

RUN = ("run", "--recipe", "smoke", "--method")
ONE = (*RUN, "random", "--density", "0.5")
LONG = "a" * 300
StoreFactory = Callable[..., Path]
RecordFactory = Callable[..., Record]

Said = tuple[int, str, str]
Say = Callable[..., Said]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a good sweep and a file in it."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "s.toml").write_text(SWEEP)
    (here / "file").write_text("not a folder")
    monkeypatch.chdir(here)
    monkeypatch.delenv("PAIBENCH_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    return here


def tree(folder: Path) -> str:
    """Return a digest of all names and bytes below a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found.update(str(path).encode() + (path.read_bytes() if path.is_file() else b"/"))
    return found.hexdigest()


def refusal(say: Say, folder: Path, arguments: tuple[str, ...], status: int = 2) -> str:
    """Run a command that must fail; return its one line on standard error. Nothing is written."""
    before = tree(folder.parent)
    code, out, err = say(*arguments)
    assert (code, out, err.count("\n")) == (status, "", 1)
    assert err[:-1].isprintable()
    assert len(err) < 1100
    assert tree(folder.parent) == before
    return err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sweeep", "s.toml"), "No such command 'sweeep'. Did you mean 'sweep'?"),
        (("-x",), "No such option: -x"),
        (("run", "--methd", "snip"), "No such option: --methd (Possible options: --method,"),
        (("run",), "Missing option '--method'"),
        (("plan",), "Missing argument 'file'"),
        (("plan", "s.toml", "more"), "Got unexpected extra argument(s) (more)"),
        ((*ONE, "--seed"), "Option '--seed' requires an argument"),
        ((*ONE, "--seed", "1.5"), "'--seed': Input should be a valid integer"),
        ((*ONE, "--seed", "9" * 5000), "'--seed': "),
        ((*ONE, "--seed", "-1"), "seed: Input should be greater than or equal to 0, not -1"),
        ((*RUN, "snip", "--density", "much"), "'--density': Input should be a valid number"),
        ((*ONE, "--threads", "0"), "'--threads': Input should be greater than or equal to 1"),
        (("sweep", "s.toml", "--jobs", "0"), "'--jobs': Input should be greater than or equal to"),
        (("sweep", "s.toml", "--jobs", "-1"), "'--jobs': Input should be greater than or equal"),
        (("sweep", "s.toml", "--jobs", "1e9"), "'--jobs': Input should be a valid integer"),
        (("sweep", "s.toml", "--jobs", "1000000000"), "'--jobs': Input should be less than or eq"),
        (("sweep", "s.toml", "--time-limit", "0"), "'--time-limit': Input should be greater than"),
        (
            ("sweep", "s.toml", "--time-limit", "nan"),
            "'--time-limit': Input should be greater than",
        ),
        (("sweep", "s.toml", "--time-limit", "inf"), "--time-limit inf is not a finite number;"),
        ((*ONE, "--device", "gpu"), "--device 'gpu' is unknown; use cpu, cuda or cuda:N"),
        ((*ONE, "--device", "cuda:1\n"), r"--device 'cuda:1\n' is unknown; use cpu, cuda or c"),
    ],
    ids=lambda value: " ".join(value)[-40:] if isinstance(value, tuple) else "",
)
def test_wrong_usage(say: Say, folder: Path, arguments: tuple[str, ...], said: str) -> None:
    """An unknown option or command, or a value of the wrong type, is named in one line."""
    assert said in refusal(say, folder, arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("snipp", "--density", "0.5"), "unknown method 'snipp'; did you mean snip?"),
        (("random", "--density", "1", "--model", "resnet20"), "unknown model 'resnet20'; did you"),
        (("random", "--density", "1", "--dataset", "digit"), "unknown data set 'digit'; did you "),
        (("random", "--density", "1", "--recipe", "lit"), "unknown recipe 'lit'; did you mean li"),
        (("random", "--density", "1", "--init", "he"), "init: Input should be 'kaiming_normal', "),
        (("random", "--density", "1", "--control", "x"), "control: Input should be 'none', 'shu"),
        (("random",), "the density is missing: give --density, --sparsity or --compression"),
        (("random", "--density", "0"), "--density 0.0 is out of range: it must be in (0, 1]"),
        (("random", "--density", "-1"), "--density -1.0 is out of range: it must be in (0, 1]"),
        (("random", "--density", "1.5"), "--density 1.5 is out of range"),
        (("random", "--density", "nan"), "--density nan is out of range"),
        (("random", "--density", "inf"), "--density inf is out of range"),
        (("random", "--sparsity", "1"), "--sparsity 1.0 is out of range: it must be in [0, 1)"),
        (("random", "--sparsity", "nan"), "--sparsity nan is out of range"),
        (("random", "--compression", "0.5"), "--compression 0.5 is out of range: it must be at l"),
        (("random", "--compression", "inf"), "--compression inf is out of range"),
        (
            ("random", "--density", "1", "--sparsity", "0"),
            "--density and --sparsity have the same",
        ),
        (("dense", "--density", "0.5"), "method dense keeps every weight: density 0.5 must be 1"),
        (
            ("random", "--density", "1", "--method-option", "layer=er"),
            "method random has no option",
        ),
        (("random", "--density", "1", "--method-option", "power=x"), "option power takes float in"),
        (("random", "--density", "1", "--method-option", "power=nan"), "option power takes a fini"),
        (("random", "--density", "1", "--method-option", "power"), "--method-option 'power' is no"),
        (("random", "--density", "1", "--method-option", "=1"), "--method-option '=1' is not of t"),
        (("random", "--density", "1", "--method-option", "name=x"), "--method-option 'name=x' is "),
        (
            ("random", "--density", "1", *("--method-option", "power=2") * 2),
            "--method-option 'power' is given twice; give it once",
        ),
        (
            ("random", "--density", "1", "--model-option", "a/b=1"),
            "model: 'a/b' is not the name of an",
        ),
        (("random", "--density", "1", "--data-option", "examples=all"), "data set digits: option "),
        (
            ("random", "--density", "1", "--recipe-option", "epochs=0"),
            "recipe smoke: option epochs",
        ),
        (("../snip", "--density", "1"), "method.name: '../snip' is not a name"),
        (("a\0b", "--density", "1"), r"method.name: 'a\x00b' is not a name"),
        (("\x1b[31m", "--density", "1"), r"method.name: '\x1b[31m' is not a name"),
        (("\udcff", "--density", "1"), r"method.name: '\udcff' is not a name"),
        ((LONG, "--density", "1"), f"method.name: '{LONG[:80]}' is not a name"),
    ],
    ids=lambda value: ascii(" ".join(value))[-40:] if isinstance(value, tuple) else "",
)
def test_invalid_runs(say: Say, folder: Path, arguments: tuple[str, ...], said: str) -> None:
    """A run is validated before a store is created for it."""
    assert said in refusal(say, folder, (*RUN, *arguments))


@pytest.mark.parametrize(
    ("kind", "name", "setting", "value"),
    [
        *(("datasets", "imagefolder", f"path={t}", t) for t in ("2024", "1e5", "true", "none")),
        ("datasets", "imagefolder", "size=None", None),
        ("datasets", "imagefolder", "size=32", 32),
        ("recipes", "smoke", "augment=none", "none"),
        ("recipes", "smoke", "nesterov=true", True),
        ("recipes", "smoke", "lr=1", 1.0),
        ("methods", "snip", "per_class=5", 5),
        ("models", "resnet-20", "width=1e-1", 0.1),
        ("models", "timm:resnet18", "drop_rate=0.5", 0.5),
        ("models", "timm:resnet18", "act_layer=gelu", "gelu"),
    ],
)
def test_an_option_is_read_as_its_declared_type(
    kind: Kind, name: str, setting: str, value: Value
) -> None:
    """The same text is a path, a number or nothing, as the option of that name says."""
    read = options.named(kind, name, [setting])[setting.partition("=")[0]]
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("", "--out '.': name a separate folder for the store"),
        ("..", "--out '..': name a separate folder for the store"),
        ("file", "'file' cannot be a store: it or a folder above it is a file"),
        ("file/x", "/file/x' cannot be a store: it or a folder above it is a file"),
        ("/etc", "'/etc' is not a paibench store, it holds "),
        ("../..", "is not a paibench store, it holds "),
        ("/proc/x", "/proc/x'"),
        ("a\0b", "'--out': Value error, embedded null byte"),
        ("a\nb", r"--out 'a\nb': the name has unprintable characters"),
        ("\u202ex", r"--out '\u202ex': the name has unprintable characters"),
        ("-x", "--out '-x': a part begins with '-' like an option; choose another name"),
        (LONG, "the name is too long; no part may have more than 255 bytes"),
        ("\xe9" * 130, "the name is too long; no part may have more than 255 bytes"),
        ("a/" * 2000, "the name is too long; no part may have more than 255 bytes"),
        ("data/runs", "--out 'data/runs': is inside the data folder 'data'; choose another"),
    ],
    ids=["empty", "above", "file", "below a file", "/etc", "far above", "not writable", "NUL"]
    + ["newline", "bidi", "dash", "300", "bytes", "deep", "in the data"],
)
@pytest.mark.parametrize("command", [ONE, ("sweep", "s.toml", "--jobs", "1")], ids=["run", "sweep"])
def test_invalid_stores(
    say: Say, folder: Path, command: tuple[str, ...], out: str, said: str
) -> None:
    """A path that is unfit for a store is refused and left unchanged."""
    expected = said.replace("'file' c", "/file' c")
    assert expected in refusal(say, folder, (*command, f"--out={out}", "--data", "data"))


@pytest.mark.parametrize("command", ["sweep", "plan", "status"])
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "x.toml: does not exist; check the path"),
        (b"", "x.toml: product: has no keys; write a [product] table"),
        (b"#" * 2_000_000, "x.toml: is larger than 1 MiB; a sweep is a short TOML file"),
        (SWEEP.encode("utf-16"), "x.toml: is not UTF-8 text (byte 0); save it as UTF-8"),
        (b"[product]\nseed = = 1", "x.toml: is not TOML: Invalid value (at line 2, column 8)"),
        (b"[product]\nsed = 1", "x.toml: product.sed: unknown key; did you mean seed?"),
        (SWEEP.encode() + b"seed = true", "x.toml: product: seed: Input should be a valid integ"),
        (SWEEP.encode() + b"seed = []", "x.toml: product.seed: [] is empty, so there are no runs"),
        (b"name = '../x'\n" + SWEEP.encode(), "x.toml: name: '../x' cannot be used; take 1 to 64"),
    ],
    ids=["missing", "empty", "large", "utf-16", "syntax", "key", "bool", "no runs", "name"],
)
def test_invalid_sweep_files(
    say: Say, folder: Path, command: str, data: bytes | None, said: str
) -> None:
    """Every command that reads a sweep refuses a bad one with its file and position."""
    if data is not None:
        (folder / "x.toml").write_bytes(data)
    assert f"paibench: {said}" in refusal(say, folder, (command, "x.toml"))


def test_a_file_with_a_hostile_name(say: Say, folder: Path) -> None:
    """The name of a file cannot control the terminal or add a second line."""
    assert r"x\x1b[31m y.toml" in refusal(say, folder, ("plan", "x\x1b[31m\ny.toml"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("show", "abc"),
            "no run begins with 'abc' in quickstart; give more characters of the",
        ),
        (("show", "abc", "--out", "no"), "there is no store at"),
        (("show", "\x1b[31m"), r"no run begins with '\x1b[31m' in quickstart"),
        (("status", "s.toml"), "s.toml: has not been run yet; there is no store at runs/s"),
        (("status", "."), "is not a paibench store: it has no bench.json"),
        (("status", ".", "--out", "x"), "--out 'x' needs a sweep file; . is a store"),
        (("export", ".", "--out", "copy"), "is not a paibench store: it has no bench.json"),
        (("leaderboard", "no"), "there is no store at"),
        (("quickstart", "--methods", "snipp"), "unknown method 'snipp'; did you mean snip?"),
        (("methods", "snipp"), "unknown method 'snipp'; did you mean snip?"),
        (("recipes", "light"), "unknown recipe 'light'; did you mean lite?"),
        (("prepare", "cifar"), "unknown data set 'cifar'; did you mean cifar10"),
        (("prepare", "cifar10"), "cifar10: no data folder given; set PAIBENCH_DATA or --data"),
    ],
    ids=lambda value: ascii(" ".join(value)) if isinstance(value, tuple) else "",
)
def test_missing_things(say: Say, folder: Path, arguments: tuple[str, ...], said: str) -> None:
    """Commands that inspect something say what is missing, and create nothing."""
    assert said in refusal(say, folder, arguments)


def test_too_few_weights(say: Say) -> None:
    """A density that keeps no weight of the network is refused in one line."""
    status, out, err = say(*RUN, "random", "--density", "1e-9")
    assert (status, out) == (2, "")
    assert err == (
        "paibench: density 1e-09 keeps none of 50200 weights; the smallest is 1.99e-05\n"
    )


def test_too_few_weights_in_a_sweep(say: Say, folder: Path) -> None:
    """In a sweep, such a run fails with a reason, and the other runs continue."""
    (folder / "s.toml").write_text(SWEEP.replace("0.5", "[0.5, 1e-9]"))
    status, _, err = say("sweep", "s.toml", "--jobs", "1")
    assert status == 1
    assert "Traceback" not in err
    status, out, _ = say("status", "s.toml", "--json")
    found = json.loads(out)
    assert (status, found["done"], found["missing"]) == (0, 1, 0)
    (failed,) = found["failed"].values()
    assert (failed["cause"], failed["final"]) == ("input", False)
    assert "keeps none of 50200 weights" in failed["reason"]


def test_a_run_is_not_repeated(say: Say) -> None:
    """A run makes a record, is shown by the first characters of its key, and is not repeated."""
    status, out, _ = say(*ONE, "--json")
    record = json.loads(out)
    assert (status, record["status"], record["density"]) == (0, "done", 0.5)
    assert json.loads(say(*ONE, "--json")[1]) == record
    assert json.loads(say("show", record["key"][:12].upper(), "--json")[1]) == record
    assert say("show", record["key"])[1].startswith(f"{record['key']}  done  random at 0.5, lenet")


def test_ties_and_notes_are_printed(say: Say) -> None:
    """A run prints how many weights a lot decided, and what its notes say."""
    tied = say(*RUN, "magnitude", "--density", "0.3", "--init", "signed_constant")[1]
    assert "  a lot decided which of 19200 weights with equal scores are kept\n" in tied
    noted = say(*RUN, "zhou", "--density", "0.1")[1]
    assert "  note: the search itself ended at density 0.5" in noted
    assert "a lot decided" not in noted


@pytest.mark.parametrize(
    ("said", "density"),
    [
        (("--density", "0.1"), 0.1),
        (("--sparsity", "0.9"), 0.1),
        (("--compression", "10"), 0.1),
        (("--sparsity", "0.98"), 0.02),
        (("--sparsity", "0"), 1.0),
        (("--compression", "6.4"), 0.15625),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_density_in_three_ways(
    say: Say, monkeypatch: pytest.MonkeyPatch, said: tuple[str, str], density: float
) -> None:
    """Density, sparsity and compression name the same run."""
    from paibench.benchmark import spec

    asked: list[dict[str, Any]] = []

    def stop(**plain: Any) -> None:
        asked.append(plain)
        raise SystemExit(0)

    monkeypatch.setattr(spec.Spec, "of", stop)
    say(*RUN, "random", *said)
    assert [plain["density"] for plain in asked] == [density]


@pytest.mark.parametrize("command", ["methods", "models", "datasets", "recipes"])
def test_listings(say: Say, command: Any) -> None:
    """Everything registered is listed, and can be shown alone, as text and as JSON."""
    status, out, err = say(command)
    assert (status, err) == (0, "")
    assert [name for name in names(command) if f"  {name} " not in out] == []
    assert [plain["name"] for plain in _listed(say(command, "--json")[1])] == names(command)
    first = names(command)[0]
    assert say(command, first)[1].startswith(f"{first}: ")
    assert json.loads(say(command, first, "--json")[1])["name"] == first


def _listed(text: str) -> list[dict[str, Any]]:
    found = json.loads(text)
    return [{"name": name} for name in found] if isinstance(found, dict) else found


def test_a_broken_plugin_hides_no_other(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method that cannot be read is listed as broken, and refused if requested."""
    from paibench.methods.core import registry

    info = tmp_path / "site" / "stranger-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[paibench.methods]\nodd = no_such_module:odd\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(registry, "_entries", registry._entries.__wrapped__)
    status, out, _ = say("methods")
    assert status == 0
    assert "broken: odd (no_such_module:odd): there is no module 'no_such_module'" in out
    assert "  snip " in out
    assert say("methods", "odd")[0] == 2


def test_plan_and_status_change_nothing(say: Say, folder: Path) -> None:
    """A plan is printed as text or JSON, and creates no store."""
    (folder / "s.toml").write_text(f"{SWEEP}seed = {list(range(20))}")
    before = tree(folder)
    status, out, err = say("plan", "s.toml")
    assert (status, err) == (0, "")
    assert "s: 20 runs, store runs/s\n  0 done, 20 missing, 0 failed\n" in out
    assert "  density  0.5 x20\n" in out
    assert "10 x1, 11 x1, and 8 more\n" in out
    found = json.loads(say("plan", "s.toml", "--json")[1])
    assert (found["runs"], found["missing"], found["seconds"]) == (20, 20, None)
    assert tree(folder) == before


def test_a_record_that_cannot_be_trusted(
    say: Say, store_factory: StoreFactory, record_factory: RecordFactory
) -> None:
    """A broken record is named with exit status 3, and valid records are still exported."""
    broken, sound = record_factory(seed=0), record_factory(seed=1)
    root = store_factory([broken, sound])
    path = root / "runs" / broken.key[:2] / f"{broken.key}.json"
    path.chmod(0o644)
    path.write_bytes(b"{")
    status, out, err = say("show", broken.key, "--out", str(root))
    assert (status, out, err.count("\n")) == (3, "", 1)
    assert f"{path}: not valid JSON" in err
    status, out, err = say("export", str(root), "--out", "copy")
    assert (status, out) == (3, "copy: 1 records; 0 failed runs were left out\n")
    assert err.startswith(f"left out: {path}: not valid JSON")
    assert json.loads(say("show", sound.key, "--out", "copy", "--json")[1]) == sound.plain()


def test_an_export_is_a_store_and_can_be_repeated(
    say: Say, folder: Path, store_factory: StoreFactory, record_factory: RecordFactory
) -> None:
    """Records and sweeps are copied byte for byte; a second export changes nothing."""
    root = store_factory([record_factory()])
    (root / "sweeps" / "a.json").write_text("{}")
    assert say("export", str(root), "--out", "copy")[0] == 0
    before = tree(folder)
    assert say("export", str(root), "--out", "copy")[0] == 0
    assert tree(folder) == before
    assert say("export", "copy", "--out", "copy")[2] == (
        "paibench: copy: is the store itself; name another folder\n"
    )


def test_help(say: Say) -> None:
    """Without arguments the help is printed, and nothing on standard error."""
    status, out, err = say()
    assert (status, err) == (2, "")
    assert "quickstart" in out
    status, help_text, _ = say("--help")
    assert (status, help_text.split()) == (0, out.split())


def paibench(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "paibench", *arguments]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, **options)


def test_a_closed_pipe() -> None:
    """`paibench methods | head -1` ends without an error message."""
    read, write = os.pipe()
    os.close(read)
    try:
        assert paibench("methods", stdout=write).stderr == ""
    finally:
        os.close(write)


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "ascii"},
    ],
    ids=["C", "C without help", "ascii"],
)
def test_a_terminal_without_unicode(folder: Path, environment: dict[str, str]) -> None:
    """Characters that the terminal cannot show are printed as escapes."""
    (folder / "s.toml").write_text(
        SWEEP.replace('"digits"', '{name = "imagefolder", path = "caf\xe9"}'), encoding="utf-8"
    )
    done = paibench(
        "plan", "s.toml", stdout=subprocess.PIPE, env={**environment, "PATH": os.environ["PATH"]}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "imagefolder(path=caf" in done.stdout


LIGHT = [
    ("--help",),
    ("methods",),
    ("methods", "snip"),
    ("models",),
    ("datasets",),
    ("plan", "s.toml"),
    ("status", "store"),
    ("status", "s.toml", "--out", "store"),
]


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_light_commands(
    folder: Path,
    arguments: tuple[str, ...],
    store_factory: StoreFactory,
    record_factory: RecordFactory,
) -> None:
    """Help, listings, plan and status do not import torch, pandas or timm."""
    os.rename(store_factory([record_factory()]), folder / "store")
    code = (
        "import sys\nfrom paibench.cli import main\n"
        f"sys.argv = ['paibench', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = ('torch', 'numpy', 'pandas', 'timm', 'sklearn', 'matplotlib')\n"
        "sys.exit(', '.join(name for name in heavy if name in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_doctor_tries_a_store(say: Say, folder: Path) -> None:
    """`doctor` tests whether a store can be written, and leaves nothing behind."""
    before = tree(folder)
    facts = json.loads(say("doctor", "--out", "new/store", "--json")[1])
    assert facts["store"].startswith("new/store: can be written, hard links work, ")
    assert tree(folder) == before
    assert "file is not a folder; name one" in refusal(say, folder, ("doctor", "--out", "file/x"))
