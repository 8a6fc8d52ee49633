"""Which tensors of a float `.tflite` litert-quantizer would quantize, and whose range each has.

The quantizer is asked, not guessed: every tensor gets a range of its own, and the parameters that
come back tell whose range was used. Scales that operators share (pooling, reshaping, concatenation)
and those that are fixed (softmax, sigmoid, tanh) show themselves that way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from litesmith.errors import ExportError
from litesmith.export import flatbuffer, post_training
from litesmith.export.operators import FIXED, PRODUCTS, SAME_SCALE


@dataclass(frozen=True)
class Activation:
    """A tensor that is computed in integers.

    Attributes:
        tensor: its name.
        source: the tensor whose range it has: itself, or another; None where it is fixed.
        low, high: the range, where it is fixed.
        operator: what computes it; "INPUT" for an input.
        bits: 8 or 16.
    """

    tensor: str
    source: str | None
    operator: str
    bits: int
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class Product:
    """An operator with a constant weight.

    Attributes:
        operator: its name.
        weight, bias, input, output: names of its tensors; no bias is "".
        scales: how many scales the weight has.
        bits: of the weight as it is stored.
    """

    operator: str
    weight: str
    bias: str
    input: str
    output: str
    scales: int
    bits: int


@dataclass(frozen=True)
class Placement:
    """What will be quantized.

    Attributes:
        activations: by tensor.
        products: by weight tensor; a shared layer's weight has several.
        floats: weight tensors of operators that stay float.
        requantized: pairs of a tensor that an operator takes with another scale than the one it was
            made with, and the operator's output.
    """

    activations: Mapping[str, Activation] = field(default_factory=dict)
    products: Mapping[str, tuple[Product, ...]] = field(default_factory=dict)
    floats: frozenset[str] = frozenset()
    requantized: tuple[tuple[str, str], ...] = ()

    def root(self, tensor: str) -> Activation | None:
        """The tensor whose range a tensor has in the end; None where it is float."""
        seen = set()
        found = self.activations.get(tensor)
        while found is not None and found.source not in (None, found.tensor):
            if found.tensor in seen:
                return None
            seen.add(found.tensor)
            found = self.activations.get(found.source or "")
        return found

    def takes_over(self, tensor: str) -> bool:
        """Whether a tensor is made in the scale of another one, further on."""
        found = self.activations.get(tensor)
        return found is not None and found.source not in (None, tensor)


# Operators of which a constant is one side, or which look it up: it is rounded as it is.
_SIDES = frozenset("ADD SUB MUL DIV GATHER".split())


def parts(content: bytes) -> frozenset[str]:
    """Constants of a float `.tflite` that only sums, products and look-ups take, by name.

    They have no grid of their own: the quantizer rounds them by their smallest and largest value.
    """
    graph = flatbuffer.read(content).subgraphs[0]
    found: set[str] = set()
    others: set[str] = set()
    for operator in graph.operators:
        for index in operator.inputs:
            if index >= 0 and graph.tensors[index].constant:
                (found if operator.name in _SIDES else others).add(graph.tensors[index].name)
    return frozenset(found - others)


def manager(
    read: flatbuffer.Flatbuffer,
    bits: Mapping[str, int | None],
    activations: int,
    *,
    unknown: frozenset[str] = frozenset(),
    io: bool = True,
) -> Any:
    """The quantizer's recipe for a model that was trained quantized.

    Args:
        read: the float `.tflite`.
        bits: by weight tensor, 4 or 8; None leaves the operator in float.
        activations: 8 or 16.
        unknown: tensors whose range nobody knows; operators that touch one compute in float, with
            weights that are integers in the file.
        io: whether inputs and outputs are integers.
    """
    from litert_quantizer import qtyping, recipe_manager

    made = recipe_manager.RecipeManager()
    names = qtyping.TFLOperationName
    floats = _floats(read, bits)
    made.add_static_config(".*", names.ALL_SUPPORTED, activations, 8)
    for place in post_training.places(read):
        scope = post_training.exactly(place)
        if place.name in ("INPUT", "OUTPUT") and not io and place.main:
            post_training.add(made, scope, "float32", place.name)
        if not place.main:  # nobody calibrates the bodies of loops
            post_training.add(made, scope, "float32", place.name)
            post_training.add(made, scope, "dynamic_int8", place.name)
            continue
        if floats.issuperset(place.gives) and place.gives:
            post_training.add(made, scope, "float32", place.name)
            continue
        if unknown.intersection(place.tensors):
            post_training.add(made, scope, "float32", place.name)
            for asked in [bits[name] for name in place.weights if bits.get(name)]:
                post_training.add(made, scope, f"weight_int{asked}", place.name)
            continue
        for asked in [bits[name] for name in place.weights if name in bits]:
            if asked is None:
                post_training.add(made, scope, "float32", place.name)
            elif asked == 4 and place.name in ("CONV_2D", "FULLY_CONNECTED"):
                made.add_static_config(scope, names(place.name), activations, 4)
    return made


def _floats(read: flatbuffer.Flatbuffer, bits: Mapping[str, int | None]) -> frozenset[str]:
    """Tensors that stay float because somebody has left layers out.

    Operators with weights follow their bits. The others compute in integers where something they
    take is in integers; those that only inputs of the model reach, where something that takes them
    does.
    """
    graph = read.subgraphs[0]
    products = {id(each): bits[weight] for each, weight, *_ in _products(read) if weight in bits}
    if None not in products.values():
        return frozenset()
    whole: dict[int, bool] = {}  # whether a tensor is in integers, where that is known
    open_ones = []
    for operator in graph.operators:
        taken = [i for i in operator.inputs if i >= 0 and not graph.tensors[i].constant]
        if id(operator) in products:
            known: bool | None = products[id(operator)] is not None
        else:
            told = [whole[index] for index in taken if index in whole]
            known = any(told) if told else None
        if known is None:
            open_ones.append(operator)
        else:
            whole.update(dict.fromkeys(operator.outputs, known))
    takers: dict[int, list[flatbuffer.Operator]] = {}
    for operator in graph.operators:
        for index in operator.inputs:
            takers.setdefault(index, []).append(operator)
    for operator in reversed(open_ones):
        users = [user for index in operator.outputs for user in takers.get(index, ())]
        known = any(whole.get(index, False) for user in users for index in user.outputs)
        whole.update(dict.fromkeys(operator.outputs, known))
    return frozenset(graph.tensors[index].name for index, known in whole.items() if not known)


def place(
    content: bytes,
    bits: Mapping[str, int | None] | None = None,
    activations: int = 8,
    unknown: frozenset[str] = frozenset(),
) -> Placement:
    """Ask the quantizer what it would do to a float `.tflite`.

    Args:
        content: the file.
        bits: by weight tensor, see `manager`.
        activations: 8 or 16.
        unknown: tensors that stay float, see `manager`.

    Raises:
        ExportError: the quantizer cannot take an operator.
    """
    from litert_quantizer import params_generator
    from litert_quantizer.utils import tfl_flatbuffer_utils

    read = flatbuffer.read(content)
    graph = read.subgraphs[0]
    names = [t.name for t in graph.tensors if not t.constant and t.type == "FLOAT32"]
    # Range number n is −(1 + n/2^k) … 2(1 + n/2^k): its scale tells n.
    step = 2.0 ** -(max(len(names), 2) - 1).bit_length()
    ranks = {tensor.name: len(tensor.shape) for tensor in graph.tensors}
    ranges = {}
    for number, name in enumerate(names):
        size = 1.0 + number * step
        form = (1,) * ranks[name]
        ranges[name] = {
            "min": np.full(form, -size, np.float32),
            "max": np.full(form, 2 * size, np.float32),
        }
    ranges |= post_training.table_ranges(read)
    model = tfl_flatbuffer_utils.read_model(bytearray(content))
    with post_training.quiet():
        try:
            parameters = params_generator.ParamsGenerator(model).generate_quantization_parameters(
                manager(read, bits or {}, activations, unknown=unknown),
                ranges,
                enable_progress_bar=False,
            )
        except Exception as error:
            text = str(error).strip() or type(error).__name__
            raise ExportError(
                f"litert-quantizer cannot take this model: {text.splitlines()[0][:300]}",
                fix="leave that layer out by `where`",
            ) from error
    levels = 255 if activations == 8 else 32767
    found: dict[str, Activation] = {}
    makers = {
        graph.tensors[i].name: op.name for op in graph.operators for i in op.outputs if i >= 0
    }
    inputs = {graph.tensors[index].name for index in graph.inputs}
    for name in names:
        each = parameters.get(name)
        quantized = [p for p in (each and each.producer, *((each and each.consumers) or ())) if p]
        quantized = [p.parameters for p in quantized if p.parameters is not None]
        if not quantized or quantized[0].scale.size != 1:
            continue
        first = quantized[-1] if _taken_over(each, makers.get(name, "")) else quantized[0]
        scale, zero = float(first.scale.ravel()[0]), int(first.zero_point.ravel()[0])
        size = scale * levels / (3.0 if activations == 8 else 2.0)
        number = round((size - 1.0) / step)
        operator = "INPUT" if name in inputs else makers.get(name, "")
        known = 0 <= number < len(names) and abs(1.0 + number * step - size) < step / 8
        if known:
            found[name] = Activation(name, names[number], operator, first.num_bits)
        else:
            least = -(2 ** (first.num_bits - 1))
            low, high = (least - zero) * scale, (-least - 1 - zero) * scale
            found[name] = Activation(name, None, operator, first.num_bits, low, high)
    products: dict[str, tuple[Product, ...]] = {}
    floats = set()
    for maker, weight, bias, taken in _products(read):
        each = parameters.get(weight)
        given = [c.parameters for c in (each.consumers if each else None) or () if c.parameters]
        if not given or taken not in found:
            floats.add(weight)
            continue
        output = graph.tensors[maker.outputs[0]].name
        size, stored = given[0].scale.size, given[0].num_bits
        product = Product(maker.name, weight, bias, taken, output, size, stored)
        products[weight] = (*products.get(weight, ()), product)
    again = tuple(
        (name, graph.tensors[graph.operators[each.subgraph_op_id].outputs[0]].name)
        for name in found
        for each in parameters[name].consumers or ()
        if each.subgraph_op_id >= 0
        and _differ(parameters[name].producer, each)
        and not _taken_over(parameters[name], makers.get(name, ""))
    )
    return Placement(found, products, frozenset(floats), again)


def _taken_over(each: Any, maker: str) -> bool:
    """Whether a tensor is made in the scale of the one operator that takes it.

    The quantizer does not requantize where the operator before could give the other scale itself.
    """
    consumers = list(each.consumers or [])
    if (
        maker in SAME_SCALE
        or maker in FIXED
        or each.producer is None
        or each.producer.parameters is None
    ):
        return False
    return len(consumers) == 1 and _differ(each.producer, consumers[0])


def _differ(made: Any, taken: Any) -> bool:
    """Whether two parameters of a tensor have different scales."""
    if made is None or made.parameters is None or taken.parameters is None:
        return False
    return bool(np.any(made.parameters.scale.ravel() != taken.parameters.scale.ravel()))


def _products(
    read: flatbuffer.Flatbuffer,
) -> Iterator[tuple[flatbuffer.Operator, str, str, str]]:
    """Operator, weight, bias and input of each product in the main graph."""
    graph = read.subgraphs[0]
    for operator in graph.operators:
        if operator.name not in PRODUCTS:
            continue
        places = [
            place if place < len(operator.inputs) else -1 for place in PRODUCTS[operator.name]
        ]
        indices = [operator.inputs[place] if place >= 0 else -1 for place in places]
        weight, bias, taken = (graph.tensors[i] if i >= 0 else None for i in indices)
        if weight is not None and taken is not None and weight.constant:
            yield operator, weight.name, bias.name if bias is not None else "", taken.name
