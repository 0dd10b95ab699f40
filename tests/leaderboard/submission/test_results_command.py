"""`paibench results`: what it prints, writes and ends with."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paibench.benchmark.spec import Spec
from paibench.benchmark.store.checksummed_json import decode
from paibench.benchmark.store.store import Store
from paibench.leaderboard.submission import verification_level

Edit = Callable[..., None]
Say = Callable[..., tuple[int, str, str]]

FRESH = ("--seed", "11", "--seed", "12", "--seed", "13")


def key_of(method: str = "snip", density: float = 0.1, seed: int = 0) -> str:
    base = {"dataset": "digits", "model": "lenet-300-100", "recipe": "smoke"}
    return Spec.of(**base, method=method, density=density, seed=seed).key


KEY = key_of()


def kinds(root: Path) -> dict[str, str]:
    return {
        key: kind
        for key, kind in verification_level.read_levels(Store.read(root)).items()
        if kind[0] != "s"
    }


def test_a_sound_store(sound: Path, say: Say) -> None:
    """Status 0, and the last line says how much was read."""
    status, out, err = say("results", "validate", str(sound))
    assert (status, err) == (0, "")
    assert out.splitlines()[-1].startswith("sound: 14 records, 14 of them new; ")


def test_a_falsified_store(sound: Path, say: Say, edit: Edit, tmp_path: Path) -> None:
    """Status 1; a table and what to do, the same as JSON, and as Markdown in a file."""
    edit(sound, KEY, search_seconds=-1.0, environment__dirty=False)
    page = tmp_path / "report.md"
    status, out, _ = say("results", "validate", str(sound), "--report", str(page))
    assert status == 1
    assert "range (error)" in out
    assert "range: restore the record that the run wrote" in out
    assert out.splitlines()[-1].startswith("not sound: 14 records, ")
    status, out, _ = say("results", "validate", str(sound), "--json")
    facts = json.loads(out)
    [found] = [each for each in facts["findings"] if each["severity"] == "error"]
    assert (status, facts["sound"], found["check"]) == (1, False, "range")
    assert (found["key"], found["file"]) == (KEY, f"runs/{KEY[:2]}/{KEY}.json")
    text = page.read_text()
    assert text.startswith("# Results\n\nNot sound: 14 records, ")
    assert f"| range (error) | runs/{KEY[:2]}/{KEY}.json |" in text


def test_equal_findings_are_one_row(sound: Path, say: Say, edit: Edit) -> None:
    """The table says how many more files there are; JSON has each."""
    keys = sorted(Store.read(sound).listing().done)
    for key in keys:
        edit(sound, key, environment__dirty=True, environment__commit="0" * 40)
    _, out, _ = say("results", "validate", str(sound))
    assert out.count("code (warning)") == 1
    assert "and 13 more" in " ".join(out.replace("│", " ").split())
    facts = json.loads(say("results", "validate", str(sound), "--json")[1])
    assert [each["key"] for each in facts["findings"]] == keys


def test_against_what_is_published(sound: Path, made: Path, say: Say) -> None:
    """Nothing new is nothing to find."""
    status, out, _ = say("results", "validate", str(sound), "--against", str(made))
    assert (status, out) == (0, "sound: 14 records, 0 of them new; no findings\n")


def test_hostile_text_is_text(sound: Path, say: Say, edit: Edit, tmp_path: Path) -> None:
    """Neither in the terminal nor on the page is it markup, nor more than one line."""
    edit(sound, KEY, environment__host="[red]<script>\x1b[31m|`a`\n# b")
    page = tmp_path / "report.md"
    status, out, _ = say("results", "validate", str(sound), "--report", str(page))
    assert (status, "\x1b" in out) == (1, False)
    [line] = [line for line in page.read_text().splitlines() if "text (error)" in line]
    assert "<script>" not in line
    assert "\n# b" not in page.read_text()


@pytest.mark.parametrize(
    "command", [("validate",), ("merge", "{0}"), ("validate", "{0}", "--against")]
)
def test_what_is_no_store(sound: Path, say: Say, command: tuple[str, ...]) -> None:
    """Status 2, and one line."""
    words = [word.format(sound) for word in command]
    status, out, err = say("results", *words, str(sound / "sweeps"))
    assert (status, out, err.count("\n")) == (2, "", 1)


def test_merge(sound: Path, say: Say, tmp_path: Path, edit: Edit) -> None:
    """A dry run says what would be added; then it is; nothing comes of what is not sound."""
    into = str(Store.open(tmp_path / "into").root)
    what = "14 curves, 14 masks, 14 records, 1 sweeps"
    assert say("results", "merge", str(sound), into, "--dry-run") == (
        0,
        f"{into}: {what} would be added; 0 records were there\n",
        "",
    )
    assert say("results", "merge", str(sound), into)[1].startswith(f"{into}: {what} added; 0 ")
    status, out, _ = say("results", "merge", str(sound), into, "--json")
    facts = json.loads(out)
    assert (status, facts["already"], facts["report"]["sound"]) == (0, 14, True)
    edit(sound, KEY, environment__host="elsewhere")
    status, out, _ = say("results", "merge", str(sound), into)
    assert (status, out.splitlines()[-1]) == (1, "nothing was added")


def test_an_export_with_masks_is_a_submission(sound: Path, say: Say, tmp_path: Path) -> None:
    """What `export --masks` writes is sound; without masks it is not."""
    for options, sound_ in (((), 1), (("--masks",), 0)):
        out = str(tmp_path / f"copy{len(options)}")
        assert say("export", str(sound), "--out", out, *options)[0] == 0
        assert say("results", "validate", out)[0] == sound_


def test_check(sound: Path, say: Say) -> None:
    """The mask is trained again, without its method, and the record is marked."""
    status, out, _ = say("results", "check", KEY[:12], str(sound), "--dry-run")
    assert (status, out.splitlines()[-1], kinds(sound)) == (0, "checked", {})
    status, out, _ = say("results", "check", KEY[:12], str(sound), "--json")
    facts = json.loads(out)
    assert (status, facts["checked"], facts["difference"]) == (0, True, 0.0)
    assert kinds(sound) == {KEY: "checked"}
    came = decode((sound / "marks" / f"{KEY}.json").read_bytes())["came"]
    assert (came["verdict"], came["accuracy_then"]) == ("identical", came["accuracy_now"])


def test_check_finds_a_fabricated_accuracy(sound: Path, say: Say, edit: Edit) -> None:
    """A number that was made up, with all that goes with it, is not what the mask comes to."""
    edit(sound, KEY, accuracy=357 / 360, accuracy_best=357 / 360)
    status, out, _ = say("results", "check", KEY, str(sound))
    assert (status, out.splitlines()[-1], kinds(sound)) == (1, "not checked", {})


def test_check_a_file(sound: Path, made: Path, say: Say, tmp_path: Path) -> None:
    """The record of a submission is checked with its own mask, and marked where it is merged."""
    file = str(Store.read(made).record_path(KEY))
    into = Store.open(tmp_path / "into").root
    status, out, err = say("results", "check", file, str(into))
    assert (status, out) == (2, "")
    assert "merge it first" in err
    for mask in sound.rglob("mask-*"):
        mask.unlink()
    assert say("results", "check", KEY, str(sound))[0] == 2
    assert say("results", "check", file, str(sound))[0] == 0
    assert kinds(sound) == {KEY: "checked"}


def test_check_with_another_mask(sound: Path, say: Say, edit: Edit) -> None:
    """A mask that is not the record's is no proof of it, whatever it comes to."""
    theirs = Store.read(sound).read_record(key_of("magnitude"))["mask_sha256"]
    edit(sound, KEY, mask_sha256=theirs, environment__device="abacus")
    status, out, _ = say("results", "check", KEY, str(sound))
    assert (status, kinds(sound)) == (1, {})
    assert out.splitlines()[-1] == "not checked: the mask is another"


def test_verify(sound: Path, say: Say) -> None:
    """The run and three fresh seeds, and both seeds of the cell are verified."""
    status, out, _ = say("results", "verify", KEY, str(sound), *FRESH)
    assert (status, out.splitlines()[-1]) == (0, "verified")
    assert "of the fresh seeds 11, 12, 13" in out
    assert kinds(sound) == {KEY: "verified", key_of(seed=1): "verified"}
    came = decode((sound / "marks" / f"{KEY}.json").read_bytes())["came"]
    assert (came["fresh_seeds"], came["n"]) == ([11, 12, 13], 3)


@pytest.mark.parametrize(
    ("fields", "seeds", "said"),
    [
        ({}, FRESH[:4], "not verified: 3 fresh seeds are needed"),
        ({"mask_sha256": "0" * 64}, FRESH, "not verified: the same seed gives another result"),
    ],
    ids=["seeds", "mask"],
)
def test_what_is_not_verified(
    sound: Path, say: Say, edit: Edit, fields: dict[str, Any], seeds: tuple[str, ...], said: str
) -> None:
    """Status 1, the reason, and no mark."""
    edit(sound, KEY, **fields)
    status, out, _ = say("results", "verify", KEY, str(sound), *seeds)
    assert (status, out.splitlines()[-1], kinds(sound)) == (1, said, {})


def test_other_seeds_that_are_not_true(sound: Path, say: Say, edit: Edit) -> None:
    """Where the run that is looked at is true and the others are not, fresh seeds tell."""
    edit(sound, key_of(seed=1), accuracy=0.25)
    status, out, _ = say("results", "verify", KEY, str(sound), *FRESH)
    assert (status, kinds(sound)) == (1, {})
    assert out.startswith(f"{KEY}  identical\n")
    assert out.splitlines()[-1] == "not verified: the means lie too far apart"


@pytest.mark.parametrize("seeds", [("--seed", "0"), ("--seed", "5", "--seed", "5")])
def test_seeds_that_are_not_fresh(sound: Path, say: Say, seeds: tuple[str, ...]) -> None:
    """One line, and nothing is run."""
    status, out, err = say("results", "verify", KEY, str(sound), *seeds)
    assert (status, out) == (2, "")
    assert "fresh seeds are others than [0, 1]" in err


def test_validation_needs_no_torch(sound: Path) -> None:
    """Help imports nothing heavy, and validation no torch."""
    code = (
        "import sys\nfrom paibench.cli import main\nsys.argv = ['paibench', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print(*(name for name in ('torch', 'pandas', 'numpy') if name in sys.modules))"
    )

    def heavy(*words: str) -> str:
        command = [sys.executable, "-c", code, "results", *words]
        done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()[-1]

    assert heavy("--help") == ""
    assert "torch" not in heavy("validate", str(sound))
