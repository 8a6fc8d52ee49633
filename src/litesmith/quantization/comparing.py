"""Whether a `.tflite` does what training simulated: layer by layer, not only at the end."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from litesmith.errors import EvaluationError, ModelError
from litesmith.parametrize import Place, is_parametrized, outermost_layers, record
from litesmith.parametrize import inner_layers as layers_inside

# Below so many decibels of signal to noise a tensor counts as another one: an error of a third of
# a quantum in each element of a tensor that fills a quarter of its range.
PARTED = 35.0


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor that both have.

    Attributes:
        layer: path of the Keras layer.
        kind: "out", what the layer gives, or "pre", what its activation function takes.
        tensor: its name in the file.
        signal_to_noise: in decibels; infinite where nothing differs.
        equal: share of elements that are the same integer.
        within: share of elements at most one quantum apart.
        largest: largest difference in quanta.
    """

    layer: str
    kind: str
    tensor: str
    signal_to_noise: float
    equal: float
    within: float
    largest: float


@dataclasses.dataclass(frozen=True)
class Fidelity:
    """What `fidelity` found. Printing it gives a table.

    Attributes:
        tensors: in the order in which the file computes them.
        samples: how many were compared.
        agreement: share of samples where both give the same class; None for other outputs.
        signal_to_noise: of the model's output, in decibels.
        notes: what was not compared.
    """

    tensors: tuple[Tensor, ...]
    samples: int
    agreement: float | None
    signal_to_noise: float
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Tensor | None:
        """The first tensor where the two part; None where they do not."""
        # What a concatenation rounds is not rounded yet where it is made.
        apart = (t for t in self.tensors if t.equal < 1.0 and t.signal_to_noise < PARTED)
        return next(apart, None)

    @property
    def last(self) -> Tensor | None:
        """The last tensor before a softmax, or the last of all: the logits."""
        before = [each for each in self.tensors if each.kind == "pre"]
        found = before or self.tensors
        return found[-1] if found else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            **dataclasses.asdict(self),
            "first": None if self.first is None else self.first.layer,
        }

    def __str__(self) -> str:
        rows = [("layer", "", "S/N dB", "equal", "±1", "largest")]
        for each in self.tensors:
            ratio = "exact" if math.isinf(each.signal_to_noise) else f"{each.signal_to_noise:.1f}"
            shares = (f"{100 * each.equal:.2f} %", f"{100 * each.within:.2f} %")
            rows.append((each.layer, each.kind, ratio, *shares, f"{each.largest:.0f}"))
        widths = [max(len(row[column]) for row in rows) for column in range(6)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        shown = "" if self.agreement is None else f", same class in {100 * self.agreement:.2f} %"
        lines.append(f"{self.samples} samples{shown}")
        if self.first is not None:
            lines.append(f"they part at {self.first.layer} ({self.first.kind})")
        return "\n".join([*lines, *self.notes])


class _Sums:
    """Running sums over batches for one tensor."""

    def __init__(self) -> None:
        self.count, self.sum, self.squares, self.noise = 0, 0.0, 0.0, 0.0
        self.equal, self.within, self.largest = 0, 0, 0.0

    def add(self, ours: np.ndarray, theirs: np.ndarray, scale: float | None) -> None:
        ours, theirs = np.ravel(ours).astype(np.float64), np.ravel(theirs).astype(np.float64)
        error = np.abs(ours - theirs)
        self.count += ours.size
        self.sum += float(ours.sum())
        self.squares += float(np.square(ours).sum())
        self.noise += float(np.square(error).sum())
        quanta = np.round(error / scale) if scale else np.ceil(error / 1e-6)
        self.equal += int((quanta == 0).sum())
        self.within += int((quanta <= 1).sum())
        self.largest = max(self.largest, float(quanta.max(initial=0.0)))

    @property
    def ratio(self) -> float:
        variance = self.squares - self.sum**2 / max(self.count, 1)
        # Float rounding alone gives about −140 dB.
        if self.noise <= 1e-13 * max(self.squares, 1e-30):
            return math.inf
        return 10 * math.log10(max(variance, 1e-30) / self.noise)


def fidelity(
    model: keras.Model,
    data: Any,
    *,
    artifact: Any = None,
    quantize: str | None = None,
    samples: int = 256,
    float_model: Any = None,
) -> Fidelity:
    """Compare a model prepared with `Quantize` with the `.tflite` made of it.

    Args:
        model: the prepared model.
        data: inputs, with or without labels: whatever `calibrate` takes.
        artifact: the file; default: one is made and thrown away.
        quantize: the preset of that one; default the one the model was trained for.
        samples: how many to compare at most.
        float_model: what `convert` makes of the model stripped, where that has been done.

    Returns:
        Each tensor both have, the agreement of the outputs, and where they part.

    Raises:
        ModelError: the model was not prepared with `Quantize`, or without activations.
        EvaluationError: the file is not one of this model.
    """
    from litesmith.data import batches
    from litesmith.export import convert, flatbuffer
    from litesmith.export.exporting import quantized

    if not isinstance(model, keras.Model) or not any(
        is_parametrized(layer) for _, layer in outermost_layers(model)
    ):
        raise ModelError(
            "fidelity",
            expected="a model prepared with Quantize, before strip",
            received=getattr(model, "name", type(model).__name__),
            fix="pass what prepare() returned",
        )
    source = convert(model) if float_model is None else float_model
    known = source.trained
    if known is None or known.activations is None:
        raise ModelError(
            f"model {model.name!r}",
            expected="one prepared with Quantize(activations=8 or 16)",
            received="one whose activations are float",
            fix="compare their accuracy with evaluate()",
        )
    if artifact is None:
        preset = quantize or ("int16x8" if known.activations == 16 else "int8")
        content, notes = quantized(source, preset)
    else:
        content, notes = Path(artifact).read_bytes(), ()
    graph = flatbuffer.read(content).subgraphs[0]
    tensors = {tensor.name: tensor for tensor in graph.tensors}
    wanted = {
        name: place
        for name, place in known.places.items()
        if name in tensors and tensors[name].scale is not None and place.kind != "mid"
    }
    if not wanted:
        raise EvaluationError(
            "fidelity: the file has no tensor of this model", fix="export it again"
        )
    sums: dict[str, _Sums] = {name: _Sums() for name in wanted}
    end, agreed, seen = _Sums(), [], 0
    for values, found, size in _runs(model, content, source, batches(data, 64, limit=samples)):
        seen += size
        outputs = [found[graph.tensors[index].name] for index in graph.outputs]
        given = keras.tree.flatten(values.outputs)
        theirs = [
            _real(array, graph.tensors[index])
            for array, index in zip(outputs, graph.outputs, strict=True)
        ]
        for one, other in zip(given, theirs, strict=True):
            end.add(one, other, None)
            if one.ndim == 2 and one.shape[1] > 1:
                agreed.append(one.argmax(axis=1) == other.argmax(axis=1))
        for name, place in wanted.items():
            if name in found and place in values.events:
                tensor = tensors[name]
                scale = None if tensor.scale is None else float(tensor.scale[0])
                sums[name].add(values.events[place], _real(found[name], tensor), scale)
    rows = []
    paths = dict(_paths(model))
    for name, place in wanted.items():
        total = sums[name]
        if total.count:
            share = total.equal / total.count, total.within / total.count
            where = paths[place.outer, place.inner]
            rows.append(Tensor(where, place.kind, name, total.ratio, *share, total.largest))
    agreement = float(np.concatenate(agreed).mean()) if agreed else None
    return Fidelity(tuple(rows), seen, agreement, end.ratio, tuple(notes))


@dataclasses.dataclass
class _Values:
    """What the Keras model gave for a batch."""

    outputs: Any
    events: dict[Place, np.ndarray]


def _runs(
    model: keras.Model, content: bytes, source: Any, data: Any
) -> Iterator[tuple[_Values, dict[str, np.ndarray], int]]:
    from litesmith.children import kept
    from litesmith.export import flatbuffer
    from litesmith.export.calibration import ordered
    from litesmith.quantization.mapping import structured

    graph = flatbuffer.read(content).subgraphs[0]
    edges = [graph.tensors[index] for index in graph.inputs]
    names = [tensor.name for tensor in graph.tensors if not tensor.constant and tensor.name]
    file = np.frombuffer(content, np.uint8)
    with kept("litesmith.export.litert_child", timeout=300) as child:
        for inputs, _ in data:
            arrays = ordered(inputs, source.inputs)
            values = _Values(None, {})

            def keep(outputs: Any, values: _Values = values) -> None:
                to_numpy = keras.ops.convert_to_numpy
                values.outputs = keras.tree.map_structure(to_numpy, outputs)

            for event in record(model, structured(model, arrays), result=keep):
                values.events.setdefault(event.place, event.value)
            stored = [_stored(a, edge) for a, edge in zip(arrays, edges, strict=True)]
            fields, found = child.call("values", [file, *stored], names=names, delegated=True)
            yield values, dict(zip(fields["names"], found, strict=True)), len(arrays[0])


def _stored(array: np.ndarray, tensor: Any) -> np.ndarray:
    """An input as the file takes it."""
    if tensor.scale is None or not tensor.type.startswith(("INT", "UINT")):
        return array
    kind = np.dtype(tensor.type.lower())
    limits = np.iinfo(kind)
    whole = np.round(array / tensor.scale[0]) + tensor.zero_point[0]
    return np.clip(whole, limits.min, limits.max).astype(kind)


def _real(array: np.ndarray, tensor: Any) -> np.ndarray:
    if tensor.scale is None or array.dtype.kind == "f":
        return np.asarray(array, np.float64)
    return (array.astype(np.float64) - tensor.zero_point[0]) * float(tensor.scale[0])


def _paths(model: keras.Model) -> Iterator[tuple[tuple[int, int], str]]:
    for number, (path, outer) in enumerate(outermost_layers(model)):
        for inner, (where, _) in enumerate(layers_inside(outer, path)):
            yield (number, inner), where
