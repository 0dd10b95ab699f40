"""The output, the files and the exit status of `paibench results`."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from paibench.benchmark.execution.acceptance import fresh_seeds
from paibench.benchmark.spec import Spec
from paibench.benchmark.store.checksummed_json import decode
from paibench.benchmark.store.store import Store
from paibench.leaderboard.submission import verification_level

Edit = Callable[..., None]
Say = Callable[..., tuple[int, str, str]]


def key_of(method: str = "snip", density: float = 0.1, seed: int = 0) -> str:
    base = {"dataset": "digits", "model": "lenet-300-100", "recipe": "smoke"}
    return Spec.of(**base, method=method, density=density, seed=seed).key


KEY = key_of()


def marked(root: Path) -> dict[str, str]:
    """Return the records with a mark, and its level."""
    return {
        key: kind
        for key, kind in verification_level.read_levels(Store.read(root)).items()
        if kind[0] != "s"
    }


def test_a_valid_store(submission: Path, say: Say) -> None:
    """The status is 0, and the last line has the number of records."""
    status, out, err = say("results", "validate", str(submission))
    assert (status, err) == (0, "")
    assert out.splitlines()[-1].startswith("valid: 14 records, 14 new; ")


def test_a_forged_store(submission: Path, say: Say, edit: Edit, tmp_path: Path) -> None:
    """The status is 1; table, JSON and Markdown have the finding and its fix."""
    edit(submission, KEY, search_seconds=-1.0, environment__dirty=False)
    page = tmp_path / "report.md"
    status, out, _ = say("results", "validate", str(submission), "--report", str(page))
    assert status == 1
    assert "range (error)" in out
    assert "range: restore the record that the run wrote" in out
    assert out.splitlines()[-1].startswith("not valid: 14 records, ")
    status, out, _ = say("results", "validate", str(submission), "--json")
    facts = json.loads(out)
    [finding] = [each for each in facts["findings"] if each["severity"] == "error"]
    assert (status, facts["valid"], finding["check"]) == (1, False, "range")
    assert (finding["key"], finding["file"]) == (KEY, f"runs/{KEY[:2]}/{KEY}.json")
    text = page.read_text()
    assert text.startswith("# Results\n\nNot valid: 14 records, ")
    assert f"| range (error) | runs/{KEY[:2]}/{KEY}.json |" in text


def test_equal_findings_are_one_row(submission: Path, say: Say, edit: Edit) -> None:
    """The table has the number of files with an equal finding; JSON has each file."""
    keys = sorted(Store.read(submission).listing().done)
    for key in keys:
        edit(submission, key, environment__dirty=True, environment__commit="0" * 40)
    _, out, _ = say("results", "validate", str(submission))
    assert out.count("code (warning)") == 1
    assert "and 13 more" in " ".join(out.replace("│", " ").split())
    facts = json.loads(say("results", "validate", str(submission), "--json")[1])
    assert [each["key"] for each in facts["findings"]] == keys


def test_published_records_give_no_findings(submission: Path, made: Path, say: Say) -> None:
    """A store that equals the published one has no new records and no findings."""
    status, out, _ = say("results", "validate", str(submission), "--against", str(made))
    assert (status, out) == (0, "valid: 14 records, 0 new; no findings\n")


def test_hostile_text_is_text(submission: Path, say: Say, edit: Edit, tmp_path: Path) -> None:
    """In the terminal and in Markdown, hostile text is one line without markup."""
    edit(submission, KEY, environment__host="[red]<script>\x1b[31m|`a`\n# b")
    page = tmp_path / "report.md"
    status, out, _ = say("results", "validate", str(submission), "--report", str(page))
    assert (status, "\x1b" in out) == (1, False)
    [line] = [line for line in page.read_text().splitlines() if "text (error)" in line]
    assert "<script>" not in line
    assert "\n# b" not in page.read_text()


@pytest.mark.parametrize(
    "command", [("validate",), ("merge", "{0}"), ("validate", "{0}", "--against")]
)
def test_a_folder_without_a_store(submission: Path, say: Say, command: tuple[str, ...]) -> None:
    """The status is 2, with one line of error."""
    words = [word.format(submission) for word in command]
    status, out, err = say("results", *words, str(submission / "sweeps"))
    assert (status, out, err.count("\n")) == (2, "", 1)


def test_merge(submission: Path, say: Say, tmp_path: Path, edit: Edit) -> None:
    """A dry run prints what a merge then adds; an invalid store adds nothing."""
    into = str(Store.open(tmp_path / "into").root)
    what = "14 curves, 14 masks, 14 predictions, 14 records, 1 sweeps"
    assert say("results", "merge", str(submission), into, "--dry-run") == (
        0,
        f"{into}: {what} would be added; 0 records were there\n",
        "",
    )
    assert say("results", "merge", str(submission), into)[1].startswith(f"{into}: {what} added; 0 ")
    status, out, _ = say("results", "merge", str(submission), into, "--json")
    facts = json.loads(out)
    assert (status, facts["already"], facts["report"]["valid"]) == (0, 14, True)
    edit(submission, KEY, environment__host="elsewhere")
    status, out, _ = say("results", "merge", str(submission), into)
    assert (status, out.splitlines()[-1]) == (1, "nothing was added")


def test_an_export_with_masks_is_a_submission(submission: Path, say: Say, tmp_path: Path) -> None:
    """The output of `export --masks` is valid; without masks it is not."""
    for options, expected in (((), 1), (("--masks",), 0)):
        out = str(tmp_path / f"copy{len(options)}")
        assert say("export", str(submission), "--out", out, *options)[0] == 0
        assert say("results", "validate", out)[0] == expected


def test_check(submission: Path, say: Say) -> None:
    """The mask is trained again without its method, and the record gets a mark."""
    status, out, _ = say("results", "check", KEY[:12], str(submission), "--dry-run")
    assert (status, out.splitlines()[-1], marked(submission)) == (0, "checked", {})
    status, out, _ = say("results", "check", KEY[:12], str(submission), "--json")
    facts = json.loads(out)
    assert (status, facts["checked"], facts["difference"]) == (0, True, 0.0)
    assert marked(submission) == {KEY: "checked"}
    evidence = decode((submission / "marks" / f"{KEY}.json").read_bytes())["came"]
    assert (evidence["verdict"], evidence["accuracy_then"]) == (
        "identical",
        evidence["accuracy_now"],
    )


def test_check_finds_an_invented_accuracy(submission: Path, say: Say, edit: Edit) -> None:
    """An invented accuracy differs from the one that the mask gives."""
    edit(submission, KEY, accuracy=357 / 360, accuracy_best=357 / 360)
    status, out, _ = say("results", "check", KEY, str(submission))
    assert (status, out.splitlines()[-1], marked(submission)) == (1, "not checked", {})


def test_check_takes_the_file_of_a_record(
    submission: Path, made: Path, say: Say, tmp_path: Path
) -> None:
    """A submitted record is checked with the mask beside it, and marked in the target store."""
    file = str(Store.read(made).record_path(KEY))
    into = Store.open(tmp_path / "into").root
    status, out, err = say("results", "check", file, str(into))
    assert (status, out) == (2, "")
    assert "merge it first" in err
    for mask in submission.rglob("mask-*"):
        mask.unlink()
    assert say("results", "check", KEY, str(submission))[0] == 2
    assert say("results", "check", file, str(submission))[0] == 0
    assert marked(submission) == {KEY: "checked"}


def test_check_needs_the_mask_of_the_record(submission: Path, say: Say, edit: Edit) -> None:
    """Another mask is no evidence, whatever accuracy it gives."""
    theirs = Store.read(submission).read_record(key_of("magnitude"))["mask_sha256"]
    edit(submission, KEY, mask_sha256=theirs, environment__device="abacus")
    status, out, _ = say("results", "check", KEY, str(submission))
    assert (status, marked(submission)) == (1, {})
    assert out.splitlines()[-1] == "not checked: the mask is different"


def tries(root: Path, key: str = KEY) -> list[dict[str, Any]]:
    """The log of tries at verifying a record."""
    path = root / "marks" / f"{key}.tries.json"
    return decode(path.read_bytes())["tries"] if path.exists() else []


def test_verify(submission: Path, say: Say) -> None:
    """Both seeds of the cell and five fresh ones are run, and the floors; both get a mark."""
    status, out, _ = say("results", "verify", KEY, str(submission), "--salt", "a")
    assert (status, out.splitlines()[-1]) == (0, "verified")
    both = {KEY, key_of(seed=1)}
    assert {line[:40] for line in out.splitlines() if line.endswith("identical")} == both
    assert marked(submission) == dict.fromkeys(both, "verified")
    evidence = decode((submission / "marks" / f"{KEY}.json").read_bytes())["came"]
    files = [Store.read(submission).record_path(key).read_bytes() for key in both]
    seeds = fresh_seeds([sha256(data).hexdigest() for data in files], "a", 5, {0, 1})
    assert (evidence["fresh_seeds"], evidence["n"], evidence["tries"]) == (seeds, 5, 1)
    assert evidence["floors"].keys() == {"random", "random(layers=erk)"}
    for key in both:
        assert [each["outcome"] for each in tries(submission, key)] == ["verified"]


def test_every_try_is_in_the_log(submission: Path, say: Say, edit: Edit) -> None:
    """Whoever tries another salt after a refusal leaves both; a dry run leaves nothing."""
    edit(submission, key_of(seed=1), accuracy=0.99)
    for salt in ("a", "b"):
        assert say("results", "verify", KEY, str(submission), "--salt", salt)[0] == 1
    assert [(each["salt"], each["outcome"]) for each in tries(submission)] == [
        (salt, "not verified: the same seed gives a different result") for salt in ("a", "b")
    ]
    say("results", "verify", KEY, str(submission), "--dry-run")
    assert len(tries(submission)) == 2


def test_a_try_that_was_stopped_is_in_the_log(
    submission: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A maintainer who sees the fresh seeds and stops has left a try."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("paibench.commands.results._fresh_accuracies", stop)
    assert say("results", "verify", KEY, str(submission), "--salt", "a")[0] == 130
    assert [(each["salt"], each["outcome"]) for each in tries(submission)] == [("a", "started")]


@pytest.mark.parametrize("field", ["mask_sha256", "trained_sha256"])
@pytest.mark.parametrize("seed", [0, 1])
def test_each_claimed_seed_is_run_again(
    submission: Path, say: Say, edit: Edit, field: str, seed: int
) -> None:
    """If any of them gives another mask or other bits on the same machine, there is no mark."""
    edit(submission, key_of(seed=seed), **{field: "0" * 64})
    status, out, _ = say("results", "verify", KEY, str(submission))
    assert (status, marked(submission)) == (1, {})
    assert out.splitlines()[-1] == "not verified: the same seed gives a different result"


def test_fresh_seeds_find_chosen_ones(
    submission: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the claimed seeds are good ones, the fresh seeds show it; bad ones harm nobody."""
    for accuracy, outcome in ((0.01, "not verified: the fresh mean is too low"), (1.0, "verified")):
        monkeypatch.setattr(
            "paibench.commands.results._fresh_accuracies",
            lambda _, seeds, *__, accuracy=accuracy: [accuracy] * len(seeds),
        )
        out = say("results", "verify", KEY, str(submission))[1]
        assert out.splitlines()[-1] == outcome


@pytest.mark.parametrize("number", ["4", "0", "-1", "x"])
def test_too_few_fresh_seeds_are_refused(submission: Path, say: Say, number: str) -> None:
    """One line of error, and nothing is run."""
    status, out, err = say("results", "verify", KEY, str(submission), "--fresh", number)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "--fresh" in err
    assert tries(submission) == []


def test_validation_needs_no_torch(submission: Path) -> None:
    """Help imports no heavy module, and validation does not import torch."""
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
    assert "torch" not in heavy("validate", str(submission))
