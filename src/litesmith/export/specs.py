"""What goes into a `.tflite` and comes out of it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from litesmith.export.flatbuffer import Flatbuffer, Subgraph, Tensor


class TensorSpec(BaseModel):
    """One input or output.

    Attributes:
        name: as Keras calls it, where the model came from Keras.
        dtype: numpy's name of the element type.
        shape: -1 stands for a dynamic dimension.
        scale: real value of one step, or None where not quantized.
        zero_point: the stored integer that stands for 0.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float | None = None
    zero_point: int | None = None


def specs(model: Flatbuffer) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of the main subgraph, in its order, named by the signature if any."""
    graph = model.subgraphs[0]
    signature = next((s for s in model.signatures if s.subgraph == 0), None)
    inputs = _side(graph, graph.inputs, signature.inputs if signature else {})
    return inputs, _side(graph, graph.outputs, signature.outputs if signature else {})


def _side(
    graph: Subgraph, indices: tuple[int, ...], names: dict[str, int]
) -> tuple[TensorSpec, ...]:
    waiting = list(names.items())
    result = []
    for index in indices:
        # Two outputs may be one tensor: names are used up in turn.
        place = next((i for i, (_, tensor) in enumerate(waiting) if tensor == index), None)
        name = graph.tensors[index].name if place is None else waiting.pop(place)[0]
        result.append(_spec(name, graph.tensors[index]))
    return tuple(result)


def _spec(name: str, tensor: Tensor) -> TensorSpec:
    quantized = tensor.scale is not None and tensor.scale.size == 1
    zero = tensor.zero_point
    return TensorSpec(
        name=name,
        dtype=tensor.type.lower(),
        shape=tensor.shape_signature,
        scale=float(tensor.scale[0]) if quantized and tensor.scale is not None else None,
        zero_point=(0 if zero is None else int(zero[0])) if quantized else None,
    )
