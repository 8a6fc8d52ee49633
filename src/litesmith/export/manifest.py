"""The manifest: what a `.tflite` is, counted in the finished file, beside it as JSON."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from litesmith._version import __version__
from litesmith.comparison.results import Size
from litesmith.export import flatbuffer
from litesmith.export.flatbuffer import Flatbuffer, Tensor
from litesmith.export.float_model import FloatModel
from litesmith.export.post_training import float_operators
from litesmith.export.presets import Rules
from litesmith.export.sizes import sizes
from litesmith.export.sparse import Sparse
from litesmith.export.specs import TensorSpec, specs

SCHEMA = 1


class KernelEntry(BaseModel):
    """One kernel, counted in the finished file.

    Attributes:
        layer: path of the Keras layer.
        variable: path of the Keras variable.
        tensor: name of the tensor.
        dtype: element type as stored (``"int4"`` is packed two to a byte).
        shape: the tensor's shape.
        size: number of weights.
        zeros: how many stand for exactly 0.
        unique: distinct values in the tensor, as stored.
        bytes: bytes of its data in the file, indices included where it is stored sparse.
        sparse: whether its zeros are left out of the file.
    """

    layer: str
    variable: str
    tensor: str
    dtype: str
    shape: tuple[int, ...]
    size: int
    zeros: int
    unique: int
    bytes: int
    sparse: bool = False


class Manifest(BaseModel):
    """What is in a `.tflite`, and where it came from.

    Attributes:
        schema_: version of this form (``"schema"`` in JSON).
        litesmith, keras, tensorflow, litert, quantizer: versions; None where not installed.
        backend: the Keras backend of the model; None where it came from a file.
        model: the Keras model's name, or the file's.
        recipe: the recipe it was trained with, as `Recipe.to_dict` gives it, or None.
        quantize: the preset's name, or the rules.
        io: element types of the inputs and outputs, each once: "int8", or "int32, int8" where
            token ids go in; `inputs` and `outputs` tell them one by one.
        inputs, outputs: in order.
        operators: how often each occurs.
        float_operators: those that compute on float tensors in a file that is quantized
            with its activations; empty in others.
        select_tf_ops: whether it needs TensorFlow's own kernels.
        kernels: where each Keras kernel is.
        unmapped: paths of Keras kernels that were not found.
        notes: what the conversion had to work around, and what the trial run gave.
        calibration: how many samples, and by which rule; None without.
        sparse: which weights are stored sparse, which are not and why, and the size of the dense
            file; None where that was not asked for.
        sha256: of the `.tflite`.
        size: bytes; the formula of ``entropy`` is in `litesmith.export.sizes`.
    """

    model_config = ConfigDict(populate_by_name=True, extra="allow")

    schema_: int = Field(default=SCHEMA, alias="schema")
    litesmith: str
    keras: str | None
    backend: str | None
    tensorflow: str | None
    litert: str | None
    quantizer: str | None
    model: str
    recipe: dict[str, Any] | None
    quantize: str | dict[str, Any]
    io: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: dict[str, int]
    float_operators: dict[str, int]
    select_tf_ops: bool
    kernels: tuple[KernelEntry, ...]
    unmapped: tuple[str, ...]
    notes: tuple[str, ...]
    calibration: dict[str, Any] | None
    sparse: Sparse | None = None
    sha256: str
    size: Size

    def to_json(self) -> str:
        """As indented JSON, the field `schema_` written ``"schema"``."""
        return self.model_dump_json(by_alias=True, indent=2) + "\n"


def describe(
    content: bytes,
    model: FloatModel,
    rules: Rules,
    *,
    calibration: dict[str, Any] | None = None,
    sparse: Sparse | None = None,
) -> Manifest:
    """Count everything in a finished file.

    Args:
        content: the finished `.tflite`.
        model: the float conversion it was derived from.
        rules: how.
        calibration: what is to be told of it.
        sparse: what was stored sparse, where that was asked for.
    """
    read = flatbuffer.read(content)
    inputs, outputs = specs(read)
    kernels, lost = _kernels(model, read)
    return Manifest(
        litesmith=__version__,
        keras=_version("keras"),
        backend=model.backend,
        tensorflow=_version("tensorflow", "tensorflow-cpu"),
        litert=_version("ai-edge-litert"),
        quantizer=_version("litert-quantizer"),
        model=model.name,
        recipe=_recipe(model.origin),
        quantize=rules.to_json(),
        io=", ".join(dict.fromkeys(spec.dtype for spec in (*inputs, *outputs))),
        inputs=inputs,
        outputs=outputs,
        operators=read.operator_counts(),
        float_operators=float_operators(read) if rules.needs_calibration else {},
        select_tf_ops=model.select_tf_ops,
        kernels=kernels,
        unmapped=model.unmapped + lost,
        notes=model.notes,
        calibration=calibration,
        sparse=sparse,
        sha256=hashlib.sha256(content).hexdigest(),
        size=Size(**sizes(content, read)),
    )


def _kernels(
    model: FloatModel, read: Flatbuffer
) -> tuple[tuple[KernelEntry, ...], tuple[str, ...]]:
    """The kernels, and the paths of those whose values cannot be read in the file."""
    tensors: dict[str, Tensor] = {}
    for graph in read.subgraphs:
        for tensor in graph.tensors:
            if tensor.constant:
                tensors.setdefault(tensor.name, tensor)
    entries, lost = [], []
    for kernel in model.kernels:
        stored = tensors.get(kernel.tensor)
        data = None if stored is None else stored.data
        if stored is None or data is None:
            lost.append(kernel.variable)
            continue
        entries.append(
            KernelEntry(
                layer=kernel.layer,
                variable=kernel.variable,
                tensor=stored.name,
                dtype=stored.type.lower(),
                shape=stored.shape,
                size=data.size,
                zeros=_zeros(stored, data),
                unique=stored.unique,
                bytes=stored.stored,
                sparse=stored.sparse,
            )
        )
    return tuple(entries), tuple(lost)


def _zeros(tensor: Tensor, data: np.ndarray) -> int:
    if tensor.zero_point is None or not tensor.zero_point.any():
        return int(data.size - np.count_nonzero(data))
    values = tensor.dequantized()
    return 0 if values is None else int(data.size - np.count_nonzero(values))


def _recipe(origin: Any) -> dict[str, Any] | None:
    if origin is None or origin.recipe is None:
        return None
    from litesmith.errors import RecipeError

    try:
        return origin.recipe.to_dict()
    except RecipeError:  # a `where` that is a predicate: no file can hold it
        return {"techniques": [repr(technique) for technique in origin.recipe.techniques]}


@functools.cache
def _version(*packages: str) -> str | None:
    for package in packages:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
