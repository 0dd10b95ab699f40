"""The result of one run: a flat, versioned record that can be read without paibench."""

import json
from typing import Annotated, Any, Literal, Self, TypedDict

from pydantic import BaseModel, ConfigDict, Field, model_validator

from paibench.benchmark.spec import Spec
from paibench.benchmark.store.records import SCHEMA

PROTOCOL = 2
"""The version of the rules in docs/protocol.md; results of different versions are not mixed."""
FEWEST_SEEDS = 5
"""Fewer runs of a method or of a random floor get no verdict. A part of the protocol."""
RANDOM_FLOORS = ("random", "random(layers=erk)")
"""The labels of the methods that a method must beat, without and with Erdos-Renyi quotas."""

# nothing writes "skipped"; it stays because published tables have a column for it
Status = Literal["done", "diverged", "failed", "skipped"]
Fraction = Annotated[float | None, Field(ge=0, le=1)]
Amount = Annotated[float | None, Field(ge=0)]
# tables of records hold 64-bit integers
Whole = Annotated[int, Field(ge=0, lt=2**63)]
Count = Whole | None
Digest = Annotated[str | None, Field(pattern="^[0-9a-f]{64}$")]

VOLATILE = (
    "environment",
    "search_seconds",
    "train_seconds",
    "evaluation_seconds",
    "peak_memory_mb",
)
"""The fields in which two runs of one spec may differ; all others are equal bit for bit."""


class Environment(BaseModel):
    """The machine and the code that made a record.

    `plugin` is the distribution that provides the method. For a third party's method,
    `plugin_origin` is where it was installed from and `plugin_sha256` the digest of its code.
    `other_plugins` provide the data set, model or recipe. `isolation` is None for a method of
    the suite, `trusted`, or the names of the sandbox's protections.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    started: str
    finished: str
    host: str
    device: str
    threads: int
    paibench: str
    commit: str | None = None
    dirty: bool | None = None
    python: str
    torch: str
    timm: str | None = None
    cuda: str | None = None
    driver: str | None = None
    plugin: str
    plugin_version: str
    plugin_origin: str | None = None
    plugin_sha256: Digest = None
    other_plugins: str | None = None
    isolation: str | None = None
    slurm_job: str | None = None


class CurvePoint(TypedDict):
    """One epoch of a training curve; `epoch` counts from 1, `loss` is None if it is not finite.

    The curve of a run is a list of these in a JSON file beside its record.
    """

    epoch: int
    train_loss: float
    loss: float | None
    accuracy: float


class Record(BaseModel):
    """The result of one run.

    Accuracies are fractions of the evaluation split. Losses are mean cross-entropies in nats.
    Costs are counted in examples and epochs of the training split, times in seconds. `accuracy`
    is measured after the last epoch and is the only one that is ranked. `accuracy_untrained` is
    that of the ticket before its weights are trained, with the statistics of norm layers
    re-estimated on training data. `native_accuracy` is that of a supermask as its own search
    would use it.
    """

    # strict: a value of another type in a submitted record is refused, not converted
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    # the field has an alias, because pydantic's BaseModel has a method called schema
    schema_number: int = Field(default=SCHEMA, alias="schema", ge=1)
    protocol: int = PROTOCOL
    key: str = Field(pattern="^[0-9a-f]{40}$")
    spec: dict[str, Any]
    status: Status
    reason: str | None = None
    notes: list[str] = []

    data_fingerprint: str | None = None
    data_name: str | None = None
    evaluated_on: Literal["test", "validation"] | None = None
    train_examples: Count = None
    test_examples: Count = None

    parameters: Count = None
    prunable: Count = None
    kept: Count = None
    density: Fraction = None
    density_effective: Fraction = None
    # pydantic copies a mutable default for each record
    layer_names: list[str] = []
    layer_sizes: list[Whole] = []
    layer_kept: list[Whole] = []
    collapsed: list[str] = []
    channels: Count = None
    channels_kept: Count = None
    ties: Count = None
    multiply_adds_dense: Count = None
    multiply_adds_sparse: Amount = None
    at_initialization: bool | None = None

    accuracy: Fraction = None
    accuracy_best: Fraction = None
    best_epoch: Count = None
    accuracy_untrained: Fraction = None
    native_accuracy: Fraction = None
    native_density: Fraction = None
    loss: Amount = None
    train_loss: Amount = None
    epochs_trained: Amount = None

    search_forward: Count = None
    search_backward: Count = None
    search_epochs: Amount = None
    search_seconds: Amount = None
    train_seconds: Amount = None
    evaluation_seconds: Amount = None
    peak_memory_mb: Amount = None

    mask_distances: list[list[Fraction]] = []
    mask_file: str | None = None
    curve_file: str | None = None
    predictions_file: str | None = None
    mask_sha256: Digest = None
    initial_sha256: Digest = None
    trained_sha256: Digest = None
    environment: Environment

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.status == "done" and self.accuracy is None:
            raise ValueError("accuracy: is missing from a record with status done")
        if self.status != "done" and not self.reason:
            raise ValueError(f"reason: is missing from a record with status {self.status}")
        if not len(self.layer_names) == len(self.layer_sizes) == len(self.layer_kept):
            raise ValueError("layer_names, layer_sizes and layer_kept differ in length")
        if self.kept is not None and sum(self.layer_kept) != self.kept:
            raise ValueError("layer_kept does not add up to kept")
        if self.prunable is not None and sum(self.layer_sizes) != self.prunable:
            raise ValueError("layer_sizes does not add up to prunable")
        if any(k > size for k, size in zip(self.layer_kept, self.layer_sizes, strict=True)):
            raise ValueError("layer_kept: a layer keeps more than it has")
        # exact equality holds, because a run computes the density by the same division
        if self.kept is not None and self.density != self.kept / (self.prunable or 1):
            raise ValueError("density: is not kept over prunable")
        return self

    @classmethod
    def read(cls, plain: dict[str, Any]) -> "Record":
        """Return the record in plain values, after recomputing its key from its spec.

        Raises ValueError in one line that names the field.
        """
        return cls.with_spec(plain)[0]

    @classmethod
    def with_spec(cls, plain: dict[str, Any]) -> "tuple[Record, Spec]":
        """Return the record as `read` does, and its spec."""
        try:
            record = cls.model_validate(plain)
        except ValueError as error:
            raise ValueError(_first_complaint(error)) from error
        try:
            spec = Spec.read(record.spec)
        except ValueError as error:
            raise ValueError(f"spec.{_first_complaint(error)}") from error
        # the checksum of a file protects against accidents only; this refuses an edited spec
        if record.key != spec.key:
            raise ValueError(f"key: {record.key} is not the key of its spec")
        return record, spec

    def plain(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return self.model_dump(mode="json", by_alias=True)

    def stable(self) -> dict[str, Any]:
        """Return the fields that another run of the same spec reproduces bit for bit."""
        return {key: value for key, value in self.plain().items() if key not in VOLATILE}


def schema() -> str:
    """Return the JSON Schema of a record, the text of docs/record.schema.json."""
    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(draft | Record.model_json_schema(), indent=2) + "\n"


def _first_complaint(error: ValueError) -> str:
    if not hasattr(error, "errors"):
        return " ".join(str(error).split())
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])[:80]
    message = str(first["msg"]).removeprefix("Value error, ")
    return " ".join(f"{field + ': ' if field else ''}{message}".split())
