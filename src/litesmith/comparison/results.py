"""What one variant came to: the rows of a study, of its report and of `compare`.

The field names are those of `study.json`; other programs read them.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Row(BaseModel):
    model_config = ConfigDict(extra="allow")


class Size(_Row):
    """Bytes: the file as it is, after zlib level 9, and a lower bound from the weights' entropy."""

    file: int
    zip: int
    entropy: int


class Latency(_Row):
    """Milliseconds of one inference: the median and the 95th percentile."""

    p50: float
    p95: float


class Memory(_Row):
    """Bytes: peak resident memory above an empty process, and the tensor arena."""

    peak_rss: int | None = None
    arena: int | None = None


class Histogram(_Row):
    """Counts of a kernel's values in bins of equal width from `low` to `high`, and the baseline's.

    Values are real numbers: of integers what they stand for.
    """

    low: float
    high: float
    counts: list[int]
    before: list[int] = Field(default_factory=list)


class Layer(_Row):
    """One kernel of the `.tflite`, and the Keras variable it came from."""

    layer: str
    variable: str
    tensor: str
    dtype: str
    size: int  # weights
    zeros: int
    unique: int
    bytes: int
    pruned: bool = False
    histogram: Histogram | None = None


class FidelityTensor(_Row):
    """A tensor that the `.tflite` and its simulation in Keras both have."""

    layer: str
    kind: str  # "out", what the layer gives, or "pre", what its activation function takes
    signal_to_noise: float | None  # dB; None where they are equal
    equal: float  # share of elements that are the same integer
    within: float  # share that is within one quantum
    largest: float  # quanta


class FidelityResult(_Row):
    """How closely the `.tflite` does what training simulated, over some test samples."""

    samples: int
    agreement: float | None  # share of samples with the same class; None for other outputs
    tensors: int  # how many were compared
    logits: FidelityTensor | None  # the last before a softmax
    first: str | None  # the first layer where they part; None where they do not
    worst: list[FidelityTensor]  # of least signal to noise, at most five


class Sample(_Row):
    """A test sample whose answer changed: class numbers, and the picture as PNG in base64."""

    index: int  # in the test split
    label: int
    before: int  # the baseline's answer
    after: int
    picture: str | None = None  # None where samples are no pictures


class Changed(_Row):
    """Test samples that the `.tflite` answers otherwise than the baseline's; some of them shown."""

    total: int
    worse: int  # that the baseline had right
    better: int  # that are right now
    of: int | None = None  # test samples
    classes: list[str] | None = None  # names, where the study's data does not have them
    samples: list[Sample] = Field(default_factory=list)


class VariantResult(_Row):
    """One variant: its recipe, and what was measured on its `.tflite`."""

    name: str
    recipe: list[dict[str, Any]] = Field(default_factory=list)
    quantize: str = "float32"
    sparse: bool = False  # whether its zeros were to be left out of the file
    status: Literal["done", "failed"] = "done"
    error: str | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    keras_metrics: dict[str, float] = Field(default_factory=dict)
    agreement: float | None = None
    fidelity: FidelityResult | None = None  # of a variant that was trained quantized
    changed: Changed | None = None  # against the baseline's `.tflite`; None for regression
    size: Size | None = None
    dense_size: Size | None = None  # of the same file with its zeros stored
    sparsity: float | None = None
    unique_weights: int | None = None
    latency_ms: Latency | None = None
    load_ms: float | None = None
    memory: Memory | None = None
    seconds: dict[str, float] = Field(default_factory=dict)
    artifact: str | None = None
    sha256: str | None = None
    layers: list[Layer] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)  # what prepare skipped, operators left float, …
    timeline: str = ""  # the recipe along the training run, in text


class StudyResult(_Row):
    """`study.json`: the whole study."""

    schema_: int = Field(default=1, alias="schema")
    litesmith: str = ""
    keras: str = ""
    backend: str = ""
    machine: dict[str, Any] = Field(default_factory=dict)
    model: dict[str, Any] = Field(default_factory=dict)
    data: dict[str, Any] = Field(default_factory=dict)
    variants: list[VariantResult] = Field(default_factory=list)

    model_config = ConfigDict(extra="allow", populate_by_name=True)
