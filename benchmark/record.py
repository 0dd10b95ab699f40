"""A record is what one run gave: flat, plain, versioned, readable without paibench."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from paibench.benchmark.spec import Spec

SCHEMA = 1
PROTOCOL = 1

Status = Literal["done", "diverged", "failed", "skipped"]
Fraction = float | None

# What two runs of one spec may differ in; everything else is equal bit for bit.
VOLATILE = (
    "environment",
    "search_seconds",
    "train_seconds",
    "evaluation_seconds",
    "peak_memory_mb",
)


class Environment(BaseModel):
    """Where a record was made: enough to tell like from unlike, and to find the code again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    slurm_job: str | None = None


class Record(BaseModel):
    """One run's outcome.

    Accuracies are fractions of the evaluation split, losses mean cross-entropies in nats,
    costs are examples and epochs of the training split, times seconds. `accuracy` is that of
    the last epoch, the only one that is ranked; `accuracy_untrained` that of the ticket before
    its weights are trained, with norm statistics re-estimated on training data;
    `native_accuracy` that of the supermasks as the search itself would deploy them.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True
    )

    schema_number: int = Field(default=SCHEMA, alias="schema", ge=1)
    protocol: int = PROTOCOL
    key: str = Field(pattern="^[0-9a-f]{40}$")
    spec: dict[str, Any]
    status: Status
    reason: str | None = None

    data_fingerprint: str | None = None
    data_name: str | None = None
    evaluated_on: Literal["test", "validation"] | None = None
    train_examples: int | None = None
    test_examples: int | None = None

    prunable: int | None = None
    kept: int | None = None
    density: Fraction = Field(default=None, ge=0, le=1)
    density_effective: Fraction = Field(default=None, ge=0, le=1)
    layer_names: list[str] = []
    layer_sizes: list[int] = []
    layer_kept: list[int] = []
    collapsed: list[str] = []
    multiply_adds_dense: int | None = None
    multiply_adds_sparse: float | None = None
    at_initialization: bool | None = None

    accuracy: Fraction = Field(default=None, ge=0, le=1)
    accuracy_best: Fraction = Field(default=None, ge=0, le=1)
    best_epoch: int | None = None
    accuracy_untrained: Fraction = Field(default=None, ge=0, le=1)
    native_accuracy: Fraction = Field(default=None, ge=0, le=1)
    native_density: Fraction = Field(default=None, ge=0, le=1)
    loss: float | None = None
    train_loss: float | None = None
    epochs_trained: float | None = None

    search_forward: int | None = None
    search_backward: int | None = None
    search_epochs: float | None = None
    search_seconds: float | None = None
    train_seconds: float | None = None
    evaluation_seconds: float | None = None
    peak_memory_mb: float | None = None

    mask_file: str | None = None
    curve_file: str | None = None
    mask_sha256: str | None = None
    initial_sha256: str | None = None
    trained_sha256: str | None = None
    environment: Environment

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.status == "done" and self.accuracy is None:
            raise ValueError("accuracy: is missing from a record that is done")
        if self.status != "done" and not self.reason:
            raise ValueError(f"reason: is missing from a record that is {self.status}")
        if not len(self.layer_names) == len(self.layer_sizes) == len(self.layer_kept):
            raise ValueError("layer_names, layer_sizes and layer_kept differ in length")
        if self.kept is not None and sum(self.layer_kept) != self.kept:
            raise ValueError("layer_kept does not add up to kept")
        if self.prunable is not None and sum(self.layer_sizes) != self.prunable:
            raise ValueError("layer_sizes does not add up to prunable")
        if any(k > size for k, size in zip(self.layer_kept, self.layer_sizes, strict=True)):
            raise ValueError("layer_kept: a layer keeps more than it has")
        return self

    @classmethod
    def read(cls, plain: dict[str, Any]) -> "Record":
        """A record from plain values, its key recomputed from its spec.

        Raises ValueError in one line that names the field.
        """
        try:
            record = cls.model_validate(plain)
        except ValueError as error:
            raise ValueError(_first_complaint(error)) from error
        if record.key != Spec.model_validate(record.spec).key:
            raise ValueError(f"key: {record.key} is not the key of its spec")
        return record

    def plain(self) -> dict[str, Any]:
        """The record as JSON values."""
        return self.model_dump(mode="json", by_alias=True)

    def stable(self) -> dict[str, Any]:
        """What another run of the same spec must give again, bit for bit."""
        return {key: value for key, value in self.plain().items() if key not in VOLATILE}


def _first_complaint(error: ValueError) -> str:
    if not hasattr(error, "errors"):
        return " ".join(str(error).split())
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ")
    return " ".join(f"{place + ': ' if place else ''}{message}".split())
