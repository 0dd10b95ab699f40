"""The smallest network of every family of timm, with six methods: see docs/models.md.

A family is a module of `timm.models`; the smallest network is the one with the fewest parameters.

    python sweeps/timm_families.py images DIR    write DIR/noise, random images for the sweep
    python sweeps/timm_families.py choose        write timm-families.toml beside this file
    python sweeps/timm_families.py table STORE   write the results into docs/models.md
"""

import re
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
SWEEP, PAGE = HERE / "timm-families.toml", HERE.parent / "docs" / "models.md"
SIZES = (32, 64, 96, 128, 192, 224, 240, 256, 288, 299, 320, 331, 384)
CLASSES = 4
# Networks of more than 160 million parameters have fewer blocks, so that their runs need less than
# 16 GB of memory.
OPTIONS = {"deepseek_vit_412m": "depth = 2", "gemma4_vit_167m": "depth = 2"}
HEAD = """\
# The smallest network of every family of timm; `python sweeps/timm_families.py choose` writes this.
name = "timm-families"

[product]
recipe = { name = "smoke", epochs = 1, batch = 4 }
density = 0.1
method = [
    { name = "snip", per_class = 1 },
    { name = "grasp", per_class = 1 },
    { name = "synflow", iterations = 3 },
    "magnitude",
    "edge_popup",
    "gem_miner",
]

[zip]
"""


def write_images(data: Path) -> None:
    """Write two training images and one test image of noise for each class."""
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0)
    for split, count in (("train", 2), ("test", 1)):
        for label in range(CLASSES):
            folder = data / "noise" / split / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            for index in range(count):
                pixels = noise.integers(0, 256, (64, 64, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")


def smallest(family: str) -> str:
    """Return the name of the network of a family with the fewest parameters."""
    import timm
    import torch

    sizes = {}
    for name in timm.list_models(module=family):
        with torch.device("meta"):
            net = timm.create_model(name, pretrained=False)
        sizes[name] = sum(parameter.numel() for parameter in net.parameters())
    return min(sizes, key=lambda name: (sizes[name], name))


def fitting_size(name: str) -> int:
    """Return the smallest size of images for which a network passes all checks, or is built."""
    from paibench.models.core.check import check
    from paibench.models.timm_adapter import timm_factory

    takes = []
    for size in SIZES:
        shape = (3, size, size)
        try:
            net = timm_factory(name)(shape, CLASSES)
            takes.append(size)
            check(net, shape)
        except ValueError:
            continue
        return size
    return (takes or [224])[0]


def choose() -> None:
    """Write the sweep file."""
    import timm

    models, datasets = [], []
    for family in timm.list_modules():
        name = smallest(family)
        size = fitting_size(name)
        print(f"{family}: {name} at {size}x{size}", file=sys.stderr, flush=True)
        model = f'"timm:{name}"'
        if name in OPTIONS:
            model = f"{{ name = {model}, {OPTIONS[name]} }}"
        models.append(f"    {model}, # {family}\n")
        datasets.append(f'    {{ name = "imagefolder", path = "noise", size = {size} }},\n')
    text = f"{HEAD}model = [\n{''.join(models)}]\ndataset = [\n{''.join(datasets)}]\n"
    SWEEP.write_text(text)


class Row(NamedTuple):
    """A network of the table."""

    family: str
    network: str
    images: str
    prunable: str
    done: str
    refused: str


def rows(root: Path) -> list[Row]:
    """Return what the runs of the sweep gave, by network."""
    from paibench.benchmark.store.store import Store
    from paibench.benchmark.sweeps.sweep import read

    store, specs = Store.read(root), read(SWEEP).specs
    lines = [line.split('"') for line in SWEEP.read_text().splitlines() if '"timm:' in line]
    families = {line[1]: line[2].partition("# ")[2] for line in lines}
    found = []
    for model, family in families.items():
        own = [spec for spec in specs if spec.model.name == model]
        done: list[str] = []
        refused: dict[str, list[str]] = {}
        share = ""
        for spec in own:
            method = f"`{spec.method.name}`"
            if store.is_done(spec.key):
                record = store.read_record(spec.key)
                outcome = record["reason"]
                # a run that diverged in its search has no mask, and no counts
                if record["status"] == "done":
                    share = f"{record['prunable'] / record['parameters']:.1%}"
            else:
                failure = store.last_failure(spec.key)
                outcome = failure["reason"] if failure else "not run yet"
            if outcome is None:
                done.append(method)
            else:
                reason = outcome.removeprefix(f"model {spec.model}: ").replace("|", "\\|")
                refused.setdefault(reason, []).append(method)
        size = own[0].dataset.options["size"]
        cells = [
            reason if len(methods) == len(own) else f"{', '.join(methods)}: {reason}"
            for reason, methods in refused.items()
        ]
        all_done = "all" if len(done) == len(own) else ", ".join(done) or "none"
        network = f"`{str(own[0].model).removeprefix('timm:')}`"
        found.append(Row(family, network, str(size), share, all_done, "; ".join(cells)))
    return found


def write_table(root: Path) -> None:
    """Replace the table of families in docs/models.md."""
    head = Row("family", "smallest network", "image size", "prunable", "done", "refused, and why")
    table = [head, Row(*["---"] * len(head)), *rows(root)]
    text = "".join(f"| {' | '.join(row)} |\n" for row in table)
    before, mark, after = PAGE.read_text().partition(f"| {head.family} |")
    if not mark:
        raise SystemExit(f"{PAGE} has no table that begins with '| {head.family} |'")
    below = re.sub(r"(\|.*\n)*", "", mark + after, count=1)
    PAGE.write_text(before + text + below)


def main() -> None:
    warnings.simplefilter("ignore")
    match sys.argv[1:]:
        case ["images", data]:
            write_images(Path(data))
        case ["choose"]:
            choose()
        case ["table", store]:
            write_table(Path(store))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
