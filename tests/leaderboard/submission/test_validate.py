"""Each planted forgery is found by the one check that exists for it."""

import json
import os
import runpy
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from paibench.benchmark.data.dataset import load
from paibench.benchmark.record import PROTOCOL, Record
from paibench.benchmark.spec import Spec
from paibench.benchmark.steps.network import make_network
from paibench.benchmark.store.checksummed_json import decode, encode
from paibench.benchmark.store.records import hashed_name
from paibench.benchmark.store.store import Store
from paibench.leaderboard.submission.checks.cross import Run, cross_check
from paibench.leaderboard.submission.checks.files import check_predictions
from paibench.leaderboard.submission.checks.known import FILE, check_known, network
from paibench.leaderboard.submission.checks.provenance import check_provenance
from paibench.leaderboard.submission.checks.record import _counts
from paibench.leaderboard.submission.findings import CHECKS
from paibench.leaderboard.submission.open import Submitted
from paibench.leaderboard.submission.validate import Report, validate
from paibench.methods.core.mask_file import digest, from_bytes, pack
from paibench.methods.core.registry import UserError
from paibench.methods.training.checkpoint import digest as state_digest

Edit = Callable[..., None]
Forge = Callable[[Path, Edit], None]

NOW = datetime.now(UTC)
BASE = {"dataset": "digits", "model": "lenet-300-100", "recipe": "smoke"}
FORGED: dict[str, tuple[set[str], Forge]] = {}
WARNED = {"code", "missing", "same-mask", "time"}
"""The checks whose findings are warnings, always or in these tests."""


def spec_of(method: str = "snip", density: float = 0.1, seed: int = 0, **other: Any) -> Spec:
    return Spec.of(**BASE, method=method, density=density, seed=seed, **other)


KEY, OTHER = spec_of().key, spec_of("magnitude").key


def plain_of(root: Path, key: str = KEY) -> dict[str, Any]:
    return Store.read(root).read_record(key)


def folder(root: Path, key: str = KEY) -> Path:
    return Store.read(root).run_folder(key)


def record(root: Path, key: str = KEY) -> Path:
    return Store.read(root).record_path(key)


def overwrite(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def put(root: Path, key: str, name: str, data: bytes) -> str:
    """Write a file beside a record, under the name of its hash."""
    full = hashed_name(name, data)
    overwrite(folder(root, key) / full, data)
    return full


def mask_of(root: Path, key: str) -> bytes:
    return Store.read(root).read_file(key, plain_of(root, key)["mask_file"])


def curve_of(root: Path, key: str = KEY) -> list[dict[str, Any]]:
    return json.loads((folder(root, key) / plain_of(root, key)["curve_file"]).read_text())  # type: ignore[no-any-return]


def put_curve(root: Path, curve: list[dict[str, Any]]) -> str:
    return put(root, KEY, "curve.json", json.dumps(curve).encode())


def predictions_of(root: Path) -> bytes:
    return Store.read(root).read_file(KEY, plain_of(root)["predictions_file"])


def forged(*checks: str) -> Callable[[Forge], Forge]:
    """Register a forgery with the checks that find it."""

    def keep(forge: Forge) -> Forge:
        FORGED[forge.__name__] = (set(checks), forge)
        return forge

    return keep


def errors(report: Report) -> set[str]:
    return {each.check for each in report.findings if each.severity == "error"}


# -- forgeries -------------------------------------------------------------------------------------


@forged("curve", "predictions")
def edited_accuracy_with_its_old_curve(root: Path, edit: Edit) -> None:
    edit(root, KEY, accuracy=357 / 360, accuracy_best=357 / 360)


@forged("curve")
def shortened_curve(root: Path, edit: Edit) -> None:
    edit(root, KEY, curve_file=put_curve(root, curve_of(root)[1:]))


@forged("curve")
def curve_that_is_not_a_list(root: Path, edit: Edit) -> None:
    edit(root, KEY, curve_file=put(root, KEY, "curve.json", b'{"epoch": 1}'))


@forged("curve")
def more_epochs_than_the_recipe_has(root: Path, edit: Edit) -> None:
    edit(root, KEY, epochs_trained=1e300)


@forged("curve")
def removed_curve(root: Path, edit: Edit) -> None:
    (folder(root) / plain_of(root)["curve_file"]).unlink()


def put_predictions(root: Path, data: bytes) -> str:
    return put(root, KEY, "predictions.bin", data)


@forged("predictions")
def removed_predictions(root: Path, edit: Edit) -> None:
    (folder(root) / plain_of(root)["predictions_file"]).unlink()


@forged("predictions")
def one_more_correct_prediction(root: Path, edit: Edit) -> None:
    data = bytearray(predictions_of(root))
    wrong = next(index for index, byte in enumerate(data) if byte != 255)
    data[wrong] |= data[wrong] + 1  # its lowest zero becomes a one
    edit(root, KEY, predictions_file=put_predictions(root, bytes(data)))


@forged("predictions")
def predictions_of_more_examples(root: Path, edit: Edit) -> None:
    edit(root, KEY, predictions_file=put_predictions(root, predictions_of(root) + b"\0"))


@forged("best")
def best_below_the_last(root: Path, edit: Edit) -> None:
    edit(root, KEY, accuracy_best=plain_of(root)["accuracy"] - 1 / 360)


@forged("best")
def best_above_the_curve(root: Path, edit: Edit) -> None:
    edit(root, KEY, accuracy_best=357 / 360)


@forged("mask-sha256")
def masks_swapped_between_methods(root: Path, edit: Edit) -> None:
    masks = {key: mask_of(root, key) for key in (KEY, OTHER)}
    for key, other in ((KEY, OTHER), (OTHER, KEY)):
        edit(root, key, mask_file=put(root, key, "mask.safetensors", masks[other]))


@forged("mask-file")
def flipped_bit_in_a_mask(root: Path, edit: Edit) -> None:
    data = bytearray(mask_of(root, KEY))
    data[-1] ^= 1
    overwrite(folder(root) / plain_of(root)["mask_file"], bytes(data))


@forged("mask-file")
def flipped_bit_under_the_name_of_its_hash(root: Path, edit: Edit) -> None:
    data = bytearray(mask_of(root, KEY))
    data[-1] ^= 1
    edit(root, KEY, mask_file=put(root, KEY, "mask.safetensors", bytes(data)))


@forged("mask-file")
def removed_mask(root: Path, edit: Edit) -> None:
    (folder(root) / plain_of(root)["mask_file"]).unlink()


@forged("mask-kept")
def density_that_the_mask_lacks(root: Path, edit: Edit) -> None:
    denser = spec_of(density=0.5).key
    name = put(root, KEY, "mask.safetensors", mask_of(root, denser))
    edit(root, KEY, mask_file=name, mask_sha256=plain_of(root, denser)["mask_sha256"])


@forged("mask-kept")
def edited_layer_kept(root: Path, edit: Edit) -> None:
    first, second, third = plain_of(root)["layer_kept"]
    edit(root, KEY, layer_kept=[first - 1, second + 1, third])


@forged("mask-layers")
def renamed_layer(root: Path, edit: Edit) -> None:
    mask = from_bytes(mask_of(root, KEY))
    mask = {name.replace("fc1", "conv1"): kept for name, kept in mask.items()}
    name = put(root, KEY, "mask.safetensors", pack(mask).to_bytes())
    edit(root, KEY, mask_file=name, mask_sha256=digest(mask))


@forged("layers")
def layers_of_another_network(root: Path, edit: Edit) -> None:
    edit(root, KEY, multiply_adds_dense=plain_of(root)["multiply_adds_dense"] + 1)


@forged("count")
def invented_collapse(root: Path, edit: Edit) -> None:
    edit(root, KEY, collapsed=["fc1.weight"])


@forged("count")
def layers_that_do_not_add_up(root: Path, edit: Edit) -> None:
    edit(root, KEY, kept=plain_of(root)["kept"] - 1)


@forged("copied")
def record_copied_to_another_seed(root: Path, edit: Edit) -> None:
    other = spec_of(seed=1)
    copied = plain_of(root) | {
        "key": other.key,
        "spec": other.canonical,
        "initial_sha256": plain_of(root, other.key)["initial_sha256"],
        "mask_file": put(root, other.key, "mask.safetensors", mask_of(root, KEY)),
        "curve_file": put(root, other.key, "curve.json", json.dumps(curve_of(root)).encode()),
        "predictions_file": put(root, other.key, "predictions.bin", predictions_of(root)),
    }
    overwrite(record(root, other.key), encode(copied))


@forged("copied")
def copied_with_another_trained_sha256(root: Path, edit: Edit) -> None:
    record_copied_to_another_seed(root, edit)
    edit(root, spec_of(seed=1).key, trained_sha256="0" * 64)


@forged("seeds")
def removed_seed(root: Path, edit: Edit) -> None:
    key = spec_of(seed=1).key
    record(root, key).unlink()
    shutil.rmtree(folder(root, key))


@forged("baselines")
def without_random(root: Path, edit: Edit) -> None:
    for density in (0.1, 0.5):
        for seed in (0, 1):
            record(root, spec_of("random", density, seed).key).unlink()


@forged("protocol")
def another_protocol(root: Path, edit: Edit) -> None:
    edit(root, KEY, protocol=PROTOCOL + 1)


@forged("date")
def date_in_the_future(root: Path, edit: Edit) -> None:
    edit(root, KEY, environment__finished="2199-01-01T00:00:00Z")


@forged("date")
def end_before_the_start(root: Path, edit: Edit) -> None:
    edit(root, KEY, environment__finished="2026-01-01T00:00:00Z")


@forged("date")
def no_date(root: Path, edit: Edit) -> None:
    edit(root, KEY, environment__started="yesterday")


@forged("range")
def negative_time(root: Path, edit: Edit) -> None:
    edit(root, KEY, search_seconds=-1.0)


@forged("range")
def accuracy_over_one(root: Path, edit: Edit) -> None:
    edit(root, KEY, accuracy_untrained=1.5)


@forged("range")
def accuracy_that_is_no_count(root: Path, edit: Edit) -> None:
    edit(root, KEY, accuracy_untrained=0.12345)


@forged("range")
def cheaper_search(root: Path, edit: Edit) -> None:
    edit(root, KEY, search_epochs=plain_of(root)["search_epochs"] / 2)


@forged("key")
def edited_spec_with_its_old_key(root: Path, edit: Edit) -> None:
    edit(root, KEY, spec=plain_of(root)["spec"] | {"density": 0.05})


@forged("name")
def record_under_another_key(root: Path, edit: Edit) -> None:
    os.rename(record(root), record(root).with_name(f"{KEY[:2]}{'0' * 38}.json"))


@forged("spec")
def default_written_out(root: Path, edit: Edit) -> None:
    spec = Spec.model_validate(BASE | {"method": {"name": "snip", "per_class": None}, "seed": 0})
    spec = spec.model_copy(update={"density": 0.1})
    plain = plain_of(root) | {"key": spec.key, "spec": spec.canonical}
    overwrite(record(root, spec.key), encode(plain))


@forged("spec")
def option_that_does_not_exist(root: Path, edit: Edit) -> None:
    spec = Spec.model_validate(BASE | {"method": {"name": "snip", "cheat": True}, "density": 0.1})
    overwrite(
        record(root, spec.key), encode(plain_of(root) | {"key": spec.key, "spec": spec.canonical})
    )


@forged("initial")
def other_initial_weights(root: Path, edit: Edit) -> None:
    edit(root, KEY, initial_sha256="0" * 64)


@forged("data")
def other_data(root: Path, edit: Edit) -> None:
    edit(root, KEY, data_fingerprint="0" * 64)


@forged("data")
def fewer_training_examples(root: Path, edit: Edit) -> None:
    epochs = plain_of(root)["search_forward"] / 1000
    edit(root, KEY, train_examples=1000, search_epochs=epochs)


@forged("data")
def name_of_a_subset(root: Path, edit: Edit) -> None:
    edit(root, KEY, data_name="digits-500")


@forged("seal")
def not_a_number(root: Path, edit: Edit) -> None:
    plain = plain_of(root) | {"loss": float("nan")}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    plain["seal"] = sha256(text.encode()).hexdigest()
    overwrite(record(root), json.dumps(plain, sort_keys=True, separators=(",", ":")).encode())


@forged("seal")
def field_that_stands_twice(root: Path, edit: Edit) -> None:
    data = record(root).read_bytes()
    overwrite(record(root), data.replace(b"{", b'{"accuracy":0.99,', 1))


@forged("seal")
def other_spelling(root: Path, edit: Edit) -> None:
    overwrite(record(root), json.dumps(json.loads(record(root).read_bytes()), indent=1).encode())


@forged("schema")
def field_that_is_missing(root: Path, edit: Edit) -> None:
    edit(root, KEY, trained_sha256=None)


@forged("schema")
def future_schema(root: Path, edit: Edit) -> None:
    edit(root, KEY, schema=99)


@forged("plugin")
def method_of_ours_by_another(root: Path, edit: Edit) -> None:
    edit(root, KEY, environment__plugin="snip-but-better")


def _hostile(text: str) -> None:
    @forged("text")
    def hostile(root: Path, edit: Edit) -> None:
        edit(root, KEY, environment__host=text)

    FORGED[f"hostile host {text!a:.30}"] = FORGED.pop("hostile")


for _text in (
    "<script>alert(1)</script>",
    "=HYPERLINK(1)",
    "a\u202eb",
    "\x1b[31m",
    "`a`",
    "x" * 201,
):
    _hostile(_text)


@forged("file")
def linked_record(root: Path, edit: Edit) -> None:
    os.symlink("/etc/passwd", record(root).with_name(f"{KEY[:2]}{'0' * 38}.json"))


@forged("file")
def pipe_for_a_record(root: Path, edit: Edit) -> None:
    os.mkfifo(record(root).with_name(f"{KEY[:2]}{'0' * 38}.json"))


@forged("file")
def huge_record(root: Path, edit: Edit) -> None:
    path = record(root).with_name(f"{KEY[:2]}{'0' * 38}.json")
    path.touch()
    os.truncate(path, 2**31)


@forged("file")
def linked_folder(root: Path, edit: Edit) -> None:
    shutil.rmtree(root / "sweeps")
    os.symlink("/etc", root / "sweeps")


@forged("unknown")
def program_beside_a_record(root: Path, edit: Edit) -> None:
    (folder(root) / "setup.py").write_text("import os")


@forged("mark")
def mark_of_ones_own(root: Path, edit: Edit) -> None:
    overwrite(root / "marks" / f"{KEY}.json", encode({"mark": 1, "kind": "verified", "key": KEY}))


@forged("sweep")
def sweep_that_asks_for_less(root: Path, edit: Edit) -> None:
    [path] = (root / "sweeps").iterdir()
    plain = decode(path.read_bytes())
    del plain["runs"][KEY]
    overwrite(path, encode(plain))


@forged("duplicate")
def second_copy_in_another_store(root: Path, edit: Edit) -> None:
    shutil.copytree(root, root.with_name("again"))


# -- tests -----------------------------------------------------------------------------------------


def test_a_valid_store(submission: Path) -> None:
    """A store of real runs has no errors, by itself and in a folder of stores."""
    report = validate(submission, now=NOW)
    assert (report.records, report.new, errors(report)) == (14, 14, set())
    assert errors(validate(submission.parent, now=NOW)) == set()


@pytest.mark.parametrize("name", list(FORGED))
def test_a_forgery_is_found(name: str, submission: Path, edit: Edit) -> None:
    """A forgery is an error of exactly these checks."""
    checks, forge = FORGED[name]
    forge(submission, edit)
    whole = name == "second_copy_in_another_store"
    report = validate(submission.parent if whole else submission, now=NOW)
    assert errors(report) == checks
    assert not report.valid
    assert all(each.expected and each.actual and each.fix for each in report.findings)


def test_every_check_has_a_forgery() -> None:
    """There is a forgery for each check, in the list or in a test of its own."""
    below = {"changed", "closed", "cost", "removed"}
    found = set().union(*(checks for checks, _ in FORGED.values()))
    assert found | below | WARNED == set(CHECKS)


def test_a_consistent_forgery_of_a_published_record(
    submission: Path, made: Path, edit: Edit
) -> None:
    """A forged accuracy with matching files is found only beside the published record."""
    curve = curve_of(submission)
    curve[-1]["accuracy"] = 357 / 360
    edit(submission, KEY, accuracy=357 / 360, accuracy_best=357 / 360, best_epoch=len(curve))
    edit(submission, KEY, curve_file=put_curve(submission, curve))
    forged_predictions = (((1 << 357) - 1) << 3).to_bytes(45, "big")
    edit(submission, KEY, predictions_file=put_predictions(submission, forged_predictions))
    assert errors(validate(submission, now=NOW)) == set()
    assert errors(validate(submission, made, now=NOW)) == {"changed"}


def test_any_change_of_a_published_record_is_found(
    submission: Path, made: Path, edit: Edit
) -> None:
    """Even a changed host name is found."""
    edit(submission, OTHER, environment__host="elsewhere")
    report = validate(submission, made, now=NOW)
    assert [(each.check, each.key) for each in report.findings] == [("changed", OTHER)]


def test_published_records_are_not_checked_again(submission: Path, tmp_path: Path) -> None:
    """Records may have been published without masks; new records need theirs."""
    base = tmp_path / "base" / "small"
    for mask in submission.rglob("mask-*"):
        mask.unlink()
    shutil.copytree(submission, base)
    assert errors(validate(base, now=NOW)) == {"mask-file"}
    report = validate(submission.parent, base.parent, now=NOW)
    assert (report.records, report.new, report.findings) == (14, 0, ())
    record(base, OTHER).unlink()
    report = validate(submission.parent, base.parent, now=NOW, maintainer=True)
    assert [(each.check, each.key) for each in report.findings if each.check != "code"] == [
        ("mask-file", OTHER)
    ]


def test_a_mask_added_to_a_published_record(submission: Path, made: Path, tmp_path: Path) -> None:
    """A mask may be added to a published record if it is the right one."""
    base = tmp_path / "base" / "small"
    shutil.copytree(made, base)
    name = plain_of(base)["mask_file"]
    (folder(base) / name).unlink()
    assert validate(submission.parent, base.parent, now=NOW).findings == ()
    overwrite(folder(submission) / name, mask_of(submission, OTHER))
    assert errors(validate(submission.parent, base.parent, now=NOW)) == {"mask-file"}


@pytest.mark.parametrize(
    ("data", "faults"),
    [
        (b"\xfe\x00", []),
        (b"\xfc\x40", []),
        (b"\xfe\x01", ["ones"]),
        (b"\xff\x00", ["8 correct"]),
        (b"\xfe", ["1 bytes"]),
        (None, ["nothing"]),
    ],
)
def test_predictions_of_ten_examples(
    record_factory: Callable[..., Record], tmp_path: Path, data: bytes | None, faults: list[str]
) -> None:
    """Seven of ten are correct, in two bytes of which six bits are not used."""
    name = hashed_name("predictions.bin", data) if data is not None else None
    record = record_factory(accuracy=0.7, test_examples=10, predictions_file=name)
    path = tmp_path / "predictions"
    path.write_bytes(data or b"")
    assert [fault.actual for fault in check_predictions(record, {str(name): path})] == faults


@pytest.mark.parametrize("what", ["record", "mask", "curve", "predictions", "sweep", "store"])
def test_nothing_published_is_removed(
    submission: Path, made: Path, tmp_path: Path, what: str
) -> None:
    """No published file may be missing from a folder of stores, or differ."""
    base = tmp_path / "base" / "small"
    shutil.copytree(made, base)
    if what == "store":
        shutil.copytree(submission, submission.with_name("another"))
        shutil.rmtree(submission)
        assert errors(validate(submission.parent, base.parent, now=NOW)) == {"removed"}
        return
    plain = plain_of(submission)
    path = {
        "record": record(submission),
        "mask": folder(submission) / plain["mask_file"],
        "curve": folder(submission) / plain["curve_file"],
        "predictions": folder(submission) / plain["predictions_file"],
        "sweep": next((submission / "sweeps").iterdir()),
    }[what]
    data = path.read_bytes()
    path.unlink()
    assert errors(validate(submission.parent, base.parent, now=NOW)) == {"removed"}
    overwrite(path, data[:-2])
    checks = errors(validate(submission.parent, base.parent, now=NOW))
    assert checks == ({"changed", "sweep"} if what == "sweep" else {"changed"})


def test_fewer_seeds_than_the_published_baselines(submission: Path, made: Path) -> None:
    """A new method needs as many seeds as dense and random have, up to five."""
    for path in list((submission / "runs").rglob("*.json")):
        if len(path.stem) == 40 and path.stem != KEY:
            path.unlink()
            shutil.rmtree(path.with_suffix(""))
    base = submission.parent.parent / "base"
    shutil.copytree(made, base)
    for seed in (0, 1):
        record(base, spec_of(seed=seed).key).unlink()
    report = validate(submission, base, now=NOW)
    assert (report.records, report.new, errors(report)) == (1, 1, {"seeds"})
    assert [each.actual for each in report.findings if each.check == "seeds"] == ["without [1]"]


@pytest.mark.parametrize(
    ("method", "density"),
    [("snip", 0.1), ("random", 0.1), ("dense", 1.0)],
    ids=["method", "random", "dense"],
)
def test_a_stranger_adds_no_seed(submission: Path, made: Path, method: str, density: float) -> None:
    """A new run of a published cell is refused, and a maintainer may add it."""
    base = submission.parent.parent / "base"
    shutil.copytree(made, base)
    record(base, spec_of(method, density, seed=1).key).unlink()
    report = validate(submission, base, now=NOW)
    assert (report.new, errors(report)) == (1, {"closed"})
    (found,) = [each for each in report.findings if each.check == "closed"]
    assert found.expected == f"no new runs of {method} at {density:g}"
    assert found.actual == "seeds [0] are published"
    assert errors(validate(submission, base, now=NOW, maintainer=True)) == set()


def test_a_stranger_adds_no_floor(submission: Path, made: Path) -> None:
    """On a track with published runs, a new density of random is refused; of snip it is not."""
    base = submission.parent.parent / "base"
    shutil.copytree(made, base)
    for method in ("random", "snip"):
        for seed in (0, 1):
            record(base, spec_of(method, 0.5, seed).key).unlink()
    report = validate(submission, base, now=NOW)
    assert (report.new, errors(report)) == (4, {"closed"})
    found = [each for each in report.findings if each.check == "closed"]
    assert {each.key for each in found} == {spec_of("random", 0.5, seed).key for seed in (0, 1)}
    assert {each.actual for each in found} == {"a row of the maintainers"}


def test_warnings_do_not_refuse_a_submission(submission: Path, edit: Edit) -> None:
    """Uncommitted changes, missing runs of a sweep and a shared mask are warnings."""
    for seed in (0, 1):
        for density in (0.1, 0.5):
            record(submission, spec_of("magnitude", density, seed).key).unlink()
    edit(submission, KEY, environment__dirty=True, environment__paibench="99.0.0")
    edit(submission, KEY, train_seconds=3e6)
    theirs = spec_of("random").key
    fields = ("mask_sha256", "layer_kept", "collapsed")
    edit(submission, theirs, **{name: plain_of(submission)[name] for name in fields})
    name = put(submission, theirs, "mask.safetensors", mask_of(submission, KEY))
    edit(submission, theirs, mask_file=name)
    report = validate(submission, now=NOW)
    assert report.valid
    assert {each.check for each in report.findings} == WARNED


def test_a_whole_store_of_other_data(submission: Path, edit: Edit) -> None:
    """Data and weights that all records of a submission share are compared with those known."""
    for path in (submission / "runs").glob("*/*.json"):
        seed = plain_of(submission, path.stem)["spec"].get("seed", 0)
        edit(submission, path.stem, data_fingerprint="0" * 64, initial_sha256=f"{seed}" * 64)
    report = validate(submission, now=NOW)
    assert errors(report) == {"data", "initial"}
    for check in ("data", "initial"):
        assert sum(each.check == check for each in report.findings) == 14


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("digits", 1437, 360)),
        ({"examples": 500}, ("digits-500", 500, 360)),
        ({"validation": 0.1}, ("digits-validation-0.1", 1293, 144)),
        ({"examples": 500, "validation": 0.1}, ("digits-500-validation-0.1", 450, 50)),
    ],
)
def test_the_known_numbers_of_examples(
    record_factory: Callable[..., Record], options: dict[str, Any], expected: tuple[str, int, int]
) -> None:
    """They are those of the loaded data, with each option that changes them."""
    data = load("digits", options, None, device=torch.device("cpu"), seed=0)
    assert (data.name, len(data.train), len(data.test)) == expected
    spec = Spec.of(**BASE | {"dataset": {"name": "digits", **options}}, method="snip", density=0.1)
    fields = ("data_name", "train_examples", "test_examples")
    changes = dict(zip(fields, expected, strict=True)) | {"initial_sha256": None}
    record = record_factory().model_copy(
        update=changes | {"data_fingerprint": data.fingerprint, "spec": spec.canonical}
    )
    assert list(check_known(record, spec)) == []
    for name in fields:
        other = record.model_copy(update={name: getattr(record, name) * 2})
        assert [fault.check for fault in check_known(other, spec)] == ["data"]


@pytest.mark.parametrize("seed", [0, 9])
def test_the_known_initial_weights(seed: int) -> None:
    """They are those of a network that is made now."""
    data = load("digits", {}, None, device=torch.device("cpu"), seed=0)
    found = state_digest(make_network(spec_of(seed=seed), data, seed).state_dict())
    known = json.loads(FILE.read_text())["initial"][network("lenet-300-100", "digits")]
    assert known[seed] == found


@pytest.mark.data
def test_the_known_facts_are_those_of_the_real_data() -> None:
    """The pinned file is what its program makes."""
    program = runpy.run_path(str(Path(__file__).parents[2] / "golden" / "known.py"))
    assert FILE.read_text() == program["text"](), "run `python tests/golden/known.py`"


def test_a_floor_that_diverged(submission: Path, edit: Edit) -> None:
    """A random run without an accuracy is a warning, and one of a method is not."""
    for key in (KEY, spec_of("random").key):
        edit(submission, key, status="diverged", accuracy=None, reason="step 3", curve_file=None)
    found = [each for each in validate(submission, now=NOW).findings if each.check == "baselines"]
    assert [(each.key, each.severity) for each in found] == [(spec_of("random").key, "warning")]
    assert found[0].actual == "seed 0 diverged"


def _with_mask_of(root: Path, edit: Edit, key: str, other: str) -> None:
    fields = ("mask_sha256", "layer_kept", "collapsed")
    edit(root, key, **{name: plain_of(root, other)[name] for name in fields})
    edit(root, key, mask_file=put(root, key, "mask.safetensors", mask_of(root, other)))


def test_two_seeds_with_one_mask(submission: Path, edit: Edit) -> None:
    """A method that finds the same mask with two seeds is a warning."""
    other = spec_of(seed=1).key
    _with_mask_of(submission, edit, KEY, other)
    found = [each for each in validate(submission, now=NOW).findings if each.check == "same-mask"]
    assert {each.key: each.severity for each in found} == {KEY: "warning", other: "warning"}


@pytest.mark.parametrize(("method", "found"), [("theirs", True), ("snip", False)])
def test_options_that_make_no_difference(
    record_factory: Callable[..., Record], method: str, found: bool
) -> None:
    """Two rows of a third party's method with one mask may be one row under two names."""
    runs = []
    for options in ({}, {"alpha": 1}):
        spec = Spec.model_validate(
            BASE | {"method": {"name": method, "options": options}, "density": 0.1}
        )
        ours = {"spec": spec.canonical, "key": spec.key, "mask_sha256": "1" * 64}
        record = record_factory().model_copy(update=ours)
        runs.append(Run(f"{spec.key}.json", Submitted(record, spec, "0" * 64), new=True))
    faults = [fault for _, fault in cross_check(runs, complete=False)]
    assert [fault.check for fault in faults] == ["same-mask", "same-mask"] * found


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"torch": "2.15.0+cu132"}, None),
        ({"torch": "1.13.1"}, "torch 2.10 or newer"),
        ({"torch": "mine"}, "torch 2.10 or newer"),
        ({"python": "3.9.1"}, "python 3.11 or newer"),
        ({"paibench": "0.0.9"}, "a released version (0.1.0) or 0.1.0"),
    ],
)
def test_versions_that_do_not_exist_or_are_too_old(
    record_factory: Callable[..., Record], changes: dict[str, str], expected: str | None
) -> None:
    """A version that was not released, or that the suite does not run with, is a warning."""
    record = record_factory()
    current = record.environment.model_copy(
        update={"paibench": "0.1.0", "python": "3.12.1", "torch": "2.14.1", "commit": "0" * 40}
        | {"dirty": False}
        | changes
    )
    record = record.model_copy(update={"environment": current})
    faults = [f for f in check_provenance(record, spec_of()) if f.check == "code"]
    assert [(fault.expected, fault.severity) for fault in faults] == (
        [(expected, "warning")] if expected else []
    )


def test_a_machine_of_another_kind(submission: Path, edit: Edit) -> None:
    """Other initial weights are a warning on another machine, where last bits may differ."""
    edit(submission, KEY, initial_sha256="0" * 64, environment__device="abacus")
    report = validate(submission, now=NOW)
    assert report.valid
    assert "initial" in {each.check for each in report.findings}


def test_a_method_of_a_third_party(submission: Path, edit: Edit) -> None:
    """A third party's method needs a version, an origin and a digest."""
    specs = [Spec.model_validate(BASE | {"method": "theirs", "density": 0.1, "seed": seed})
             for seed in (0, 1)]  # fmt: skip
    for seed, spec in enumerate(specs):
        old = spec_of(seed=seed).key
        os.rename(record(submission, old), record(submission, spec.key))
        os.rename(folder(submission, old), folder(submission, spec.key))
        edit(submission, spec.key, key=spec.key, spec=spec.canonical)
        edit(
            submission,
            spec.key,
            environment__plugin="their-plugin",
            environment__plugin_version="1",
        )
    assert errors(validate(submission, now=NOW)) == {"plugin"}
    for spec in specs:
        edit(submission, spec.key, environment__plugin_origin="an index", schema=2)
        edit(
            submission,
            spec.key,
            environment__plugin_sha256="0" * 64,
            environment__isolation="walls",
        )
    report = validate(submission, now=NOW)
    assert report.valid
    notes = [each.actual for each in report.findings if each.severity == "note"]
    assert notes == ["their-plugin 1 from an index"] * 2


@pytest.mark.parametrize(
    ("method", "counted", "seconds", "flagged"),
    [
        ("theirs", 1, 41 * 0.5, True),
        ("theirs", 41, 41 * 0.5, False),
        ("theirs", 0, 9.0, False),
        ("theirs", 0, 11.0, True),
        ("theirs", 1, None, False),
        ("imp", 1, 41 * 0.5, False),
    ],
)
def test_seconds_that_the_counted_examples_do_not_explain(
    record_factory: Callable[..., Record],
    method: str,
    counted: int,
    seconds: float | None,
    flagged: bool,
) -> None:
    """Forty epochs of half a second that a third party's search did not count are a warning."""
    costs = {"search_forward": 1437 * counted, "search_backward": 1437 * counted}
    training = {"train_seconds": 10.0, "epochs_trained": 20.0, "search_seconds": seconds}
    record = record_factory(method=method, **costs, **training)
    faults = check_provenance(record, Spec.model_validate(record.spec))
    found = [fault.severity for fault in faults if fault.check == "cost"]
    assert found == ["warning"] * flagged


def test_disconnected_networks_may_have_equal_results(submission: Path, edit: Edit) -> None:
    """Two seeds of a disconnected network have the loss of chance, and are no copies."""
    ends = {name: plain_of(submission)[name] for name in ("loss", "train_loss", "accuracy")}
    other = spec_of(seed=1).key
    edit(submission, other, **ends, accuracy_best=ends["accuracy"])
    assert "copied" in errors(validate(submission, now=NOW))
    for key in (KEY, other):
        edit(submission, key, density_effective=0.0)
    assert "copied" not in errors(validate(submission, now=NOW))


def unusable(tmp_path: Path, made: Path) -> Iterator[Path]:
    yield tmp_path / "nowhere"
    (tmp_path / "empty").mkdir()
    yield tmp_path / "empty"
    (tmp_path / "file").touch()
    yield tmp_path / "file"
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "bench.json").write_text("{}")
    yield tmp_path / "broken"
    (tmp_path / "linked").mkdir()
    os.symlink("/dev/zero", tmp_path / "linked" / "bench.json")
    yield tmp_path / "linked"
    os.symlink(made, tmp_path / "link")
    yield tmp_path / "link"


def test_unusable_input(tmp_path: Path, made: Path) -> None:
    """A folder without a store gives one line of error, on either side."""
    for path in unusable(tmp_path, made):
        for arguments in ((path,), (made, path)):
            with pytest.raises(UserError) as caught:
                validate(*arguments)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("more", "channels", "sound"),
    [
        (0, None, True),
        (-1, None, False),
        (1, None, False),
        (0, 9, True),
        (-1, 9, True),
        (1, 9, False),
    ],
)
def test_whole_channels_may_keep_fewer(
    record_factory: Callable[..., Record], more: int, channels: int | None, sound: bool
) -> None:
    """Only a mask of whole channels, and never more than the density keeps."""
    plain = record_factory()
    first, *rest = plain.layer_kept
    assert plain.prunable is not None
    kept = sum(rest) + first + more
    changes = {"layer_kept": [first + more, *rest], "kept": kept, "density": kept / plain.prunable}
    found = plain.model_copy(update=changes | {"channels": channels})
    assert (list(_counts(found, Spec.read(found.spec))) == []) == sound
