"""The columns of the frame of runs: the type and the meaning of each, in one place."""

from typing import NamedTuple


class Column(NamedTuple):
    """A pandas dtype, and what the values of a column mean."""

    dtype: str
    meaning: str


def _columns(dtype: str, **meanings: str) -> dict[str, Column]:
    return {name: Column(dtype, meaning) for name, meaning in meanings.items()}


# What the spec says, so that failed and missing runs have it too.
ASKED = {
    **_columns(
        "str",
        key="40 hexadecimal digits that name the run",
        spec="the spec as JSON, without the fields that are at their default",
        dataset="the data set, with the options that are not at their default",
        model="the model, likewise",
        recipe="the recipe, likewise",
        init="how the weights are drawn",
        method="the name of the method alone",
        method_label="the method with the options that are not at their default",
        control="none, shuffle, reinit or invert",
    ),
    **_columns("int64", seed="the seed of initialization, data order and search"),
    **_columns("float64", density_asked="kept / prunable weights, as asked for"),
}

# What came of it. Empty where a run gave no record, or its record does not say.
GIVEN = {
    **_columns(
        "str",
        status="done, diverged, failed, skipped, or missing: in a sweep, and no record yet",
        reason="why a run is not done",
        data_fingerprint="what tells two versions of the data apart",
        data_name="the data set as it calls itself",
        evaluated_on="the split of the accuracies: test or validation",
        mask_file="the file of the mask, in the folder of the run",
        curve_file="the file of the accuracy by epoch, likewise",
        mask_sha256="the sha256 of the mask",
        initial_sha256="the sha256 of the weights at the start",
        trained_sha256="the sha256 of the weights at the end",
    ),
    **_columns(
        "Int64",
        schema="the version of the record's form",
        protocol="the version of how runs are made; runs of different ones are never averaged",
        train_examples="examples in the training split",
        test_examples="examples in the evaluation split",
        prunable="weights that a mask covers",
        kept="weights that the mask keeps",
        multiply_adds_dense="multiply-adds of one example through the dense network",
        best_epoch="the epoch of accuracy_best",
        search_forward="examples that the search passed forward",
        search_backward="examples that the search passed backward",
    ),
    **_columns(
        "float64",
        density="kept / prunable weights, as reached",
        density_effective="the same without weights that lie on no path from input to output",
        multiply_adds_sparse="multiply-adds of one example through the kept weights",
        accuracy="fraction right at the last epoch: the one that is ranked",
        accuracy_best="fraction right at the best epoch, never ranked",
        accuracy_untrained="fraction right before the weights are trained",
        native_accuracy="fraction right of a supermask as its own search would deploy it",
        native_density="the density of that supermask",
        loss="mean cross-entropy on the evaluation split, in nats",
        train_loss="mean cross-entropy on the training split, in nats",
        epochs_trained="epochs of the training split that the weights were trained",
        search_epochs="epochs of the training split that the search cost",
        search_seconds="seconds that the search took",
        train_seconds="seconds that training took",
        evaluation_seconds="seconds that evaluation took",
        peak_memory_mb="the most memory held at once, in MB",
    ),
    **_columns("boolean", at_initialization="whether the ticket starts from the initial weights"),
    **_columns(
        "object",
        layer_names="the prunable layers, in order",
        layer_sizes="the prunable weights of each",
        layer_kept="the kept weights of each",
        collapsed="the layers that keep nothing while others keep something",
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
        plugin="the distribution that the method came from",
        plugin_version="its version",
        plugin_origin="where it was installed from, of a method that is not the suite's own",
        plugin_sha256="the sha256 of its code, likewise",
        other_plugins="the distributions that bring data set, model or recipe, where not the suite",
        isolation="what stood between the method and the harness; empty for the suite's own",
        slurm_job="the SLURM job",
    ),
    **_columns("Int64", threads="the threads of the CPU"),
    **_columns("boolean", dirty="whether the code had changes that were not committed"),
}

# Computed from the others, for display and for keeping like with like.
DERIVED = {
    **_columns(
        "float64",
        sparsity="1 - density, of the density reached or else asked for",
        compression="1 / density, likewise",
        accuracy_percent="accuracy in percent",
        accuracy_best_percent="accuracy_best in percent",
        accuracy_untrained_percent="accuracy_untrained in percent",
        native_accuracy_percent="native_accuracy in percent",
    ),
    **_columns(
        "str",
        split="evaluated_on; with the fingerprint where one data set occurs with several",
        conflict="fields in which another run of the same spec came out different",
    ),
}

COLUMNS = {**ASKED, **GIVEN, **ENVIRONMENT, **DERIVED}
