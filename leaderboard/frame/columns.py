"""The columns of the frame of runs: type and meaning of each, and the page of the manual."""

from collections.abc import Iterator
from typing import NamedTuple


class Column(NamedTuple):
    """The pandas dtype of a column, and the meaning of its values."""

    dtype: str
    meaning: str


def _columns(dtype: str, **meanings: str) -> dict[str, Column]:
    return {name: Column(dtype, meaning) for name, meaning in meanings.items()}


# From the spec: failed and missing runs have these values too.
SPEC = {
    **_columns(
        "str",
        key="40 hexadecimal digits that name the run",
        spec="the spec as JSON, without fields at their defaults",
        dataset="the data set, with the options that differ from their defaults",
        model="the model, with its options likewise",
        recipe="the recipe, with its options likewise",
        init="how the initial weights are drawn",
        method="the name of the method alone",
        method_label="the method, with the options that differ from their defaults",
        control="none, shuffle, reinit or invert",
    ),
    **_columns("int64", seed="the seed of initialization, data order and search"),
    **_columns("float64", density_asked="kept / prunable weights, as asked for"),
}

# From the record: empty if a run has no record, or if the record lacks the value.
RESULT = {
    **_columns(
        "str",
        status="done, diverged, failed, skipped, or missing (in a sweep, without a record)",
        reason="why a run is not done",
        data_fingerprint="a digest that identifies the version of the data",
        data_name="the name that the data set gives itself",
        evaluated_on="the split on which accuracies are measured: test or validation",
        mask_file="the file of the mask, in the folder of the run",
        curve_file="the file of the accuracy by epoch, in the folder of the run",
        predictions_file="the file of the correct predictions, in the folder of the run",
        mask_sha256="the sha256 of the mask",
        initial_sha256="the sha256 of the weights at the start",
        trained_sha256="the sha256 of the weights at the end",
    ),
    # Unlike int64, pandas' Int64 can be empty, and so can its boolean.
    **_columns(
        "Int64",
        schema="the version of the format of the record",
        protocol="the version of the rules for runs; never average runs of different protocols",
        train_examples="examples in the training split",
        test_examples="examples in the evaluation split",
        parameters="all parameters of the network, prunable or not",
        prunable="weights that a mask covers",
        kept="weights that the mask keeps",
        channels="channels that a mask of whole channels could remove; empty for other masks",
        channels_kept="channels that it keeps",
        ties="weights that tie at the threshold, of which a lot kept some",
        multiply_adds_dense="multiply-adds of one example through the dense network",
        best_epoch="the epoch of accuracy_best",
        search_forward="examples that the search passed forward",
        search_backward="examples that the search passed backward",
    ),
    **_columns(
        "float64",
        density="kept / prunable weights, as reached",
        density_effective="the same, without weights on no path from input to output",
        multiply_adds_sparse="multiply-adds of one example through the kept weights",
        accuracy="accuracy at the last epoch, as a fraction: the one that is ranked",
        accuracy_best="accuracy at the best epoch, never ranked",
        accuracy_untrained="accuracy before the weights are trained",
        native_accuracy="accuracy of a supermask as its own search would deploy it",
        native_density="the density of that supermask",
        loss="mean cross-entropy on the evaluation split, in nats",
        train_loss="mean cross-entropy on the training split, in nats",
        epochs_trained="epochs of the training split that the weights were trained",
        search_epochs="epochs of the training split that the search cost",
        search_seconds="seconds that the search took",
        train_seconds="seconds that training took",
        evaluation_seconds="seconds that evaluation took",
        peak_memory_mb="peak memory in MB",
    ),
    **_columns("boolean", at_initialization="whether the ticket starts from the initial weights"),
    **_columns(
        "object",
        layer_names="the prunable layers, in order",
        layer_sizes="the prunable weights of each",
        layer_kept="the kept weights of each",
        collapsed="the layers that keep nothing while others keep something",
        notes="remarks on the run, one line each",
        mask_distances="of each mask drawn in the search, from the masks before it",
    ),
}

ENVIRONMENT = {
    **_columns(
        "str",
        started="when the run started",
        finished="when it finished",
        host="the machine",
        device="the device that computed it",
        paibench="the version of paibench",
        commit="the commit of its code",
        python="the version of Python",
        torch="the version of torch",
        timm="the version of timm",
        cuda="the version of CUDA",
        driver="the version of the driver",
        plugin="the distribution that contains the method",
        plugin_version="its version",
        plugin_origin="where it was installed from, if the method is not our own",
        plugin_sha256="the sha256 of its code, if the method is not our own",
        other_plugins="the distributions of data set, model and recipe, if not our own",
        isolation="the sandbox of the search; empty for our own methods",
        slurm_job="the SLURM job",
    ),
    **_columns("Int64", threads="the threads of the CPU"),
    **_columns("boolean", dirty="whether the code had changes that were not committed"),
}

# Computed from the others, for display and to compare only comparable runs.
DERIVED = {
    **_columns(
        "float64",
        sparsity="1 - density, from the density reached, else from the density asked for",
        compression="1 / density, from the density reached, else from the density asked for",
        accuracy_percent="accuracy in percent",
        accuracy_best_percent="accuracy_best in percent",
        accuracy_untrained_percent="accuracy_untrained in percent",
        native_accuracy_percent="native_accuracy in percent",
    ),
    **_columns(
        "str",
        split="evaluated_on, with the fingerprint if a data set occurs with several",
        conflict="fields in which another run of the same spec gave another value",
    ),
}

COLUMNS = {**SPEC, **RESULT, **ENVIRONMENT, **DERIVED}


# The page of the manual, docs/frame.md.

_INTRODUCTION = """\
# The frame of runs

`paibench.leaderboard.load` returns a pandas frame with one row per run.

```python
from paibench.leaderboard import load

runs = load("results/mnist-lenet")
runs.groupby(["method_label", "density_asked"])["accuracy"].agg(["mean", "std", "count"])
```

Runs that failed, and runs of a sweep that nobody has done yet, are rows too: `status` says \
which, and their results are empty. Group by `dataset`, `model`, `recipe`, \
`init`, `split` and `protocol` before you average, and filter by `control`. Accuracies are \
fractions; the columns that end in `_percent` are for display. The Parquet file of a leaderboard \
has the same columns, each with its meaning as the `description` of the field, and one more: \
`mark`, how far the run was verified.

This page is made from the code: `python -c \
"from paibench.leaderboard.frame.columns import page; print(page(), end='')" > docs/frame.md`.
"""

_TYPES = {
    "str": "text",
    "int64": "whole number",
    "Int64": "whole number or empty",
    "float64": "number or empty",
    "boolean": "true, false or empty",
    "object": "list",
}
_PARTS = {
    "Spec": (SPEC, "From the spec: every row has these values."),
    "Result": (RESULT, "Empty if a run has no record, or if its record lacks the value."),
    "Environment": (ENVIRONMENT, "From the environment of the record."),
    "Computed for display and comparison": (DERIVED, "From the other columns."),
}


def page() -> str:
    """Return the text of docs/frame.md."""
    return "\n".join([_INTRODUCTION, *_sections()])


def _sections() -> Iterator[str]:
    for title, (columns, words) in _PARTS.items():
        yield f"## {title}\n\n{words}\n\n| column | dtype | values | meaning |\n|---|---|---|---|"
        yield "\n".join(_row(name, column) for name, column in columns.items()) + "\n"


def _row(name: str, column: Column) -> str:
    # A bar would end the cell.
    meaning = column.meaning.replace("|", "\\|")
    return f"| `{name}` | `{column.dtype}` | {_TYPES[column.dtype]} | {meaning} |"
