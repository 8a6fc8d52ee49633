"""Layers that LiteRT computes in many steps, run step by step with what lies between them changed.

Normalization, LayerNormalization, MultiHeadAttention, Dense layers whose bias is an operator of its
own, and the cells of unrolled recurrent layers: the steps are those of the graph that the converter
makes of them. Each tensor that lies between is a "mid" place; its number is the one it has here.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import keras
from keras import ops

from litesmith.parametrize import decomposing, internals

layers = keras.layers


class Change(Protocol):
    """What happens to the tensors between a layer's steps."""

    def __call__(self, value: Any, number: int) -> Any:
        """What the tensor of this number becomes."""

    def constant(self, value: Any, number: int) -> Any:
        """What becomes of a constant that the tensor of this number is made with."""


Steps = Callable[[Any, Change, Callable[..., Any], Any, Any], Any]

# A loop longer than this is left a loop: each step has a copy of the cell's operators in the file.
LONGEST = 64


def steps_of(layer: Any) -> Steps | None:
    """How to run a layer step by step; None where it is one step, or not one of these.

    Returns:
        A function of the layer, of what to change a tensor by (the tensor, its number), of the
        layer's own call, and of that one's arguments.
    """
    if decomposing.is_separable(layer) and _has_call_of(
        layer, layers.SeparableConv1D, layers.SeparableConv2D
    ):
        return _separable
    if _has_call_of(layer, layers.LayerNormalization):
        return None if layer.rms_scaling else _layer_norm
    if _has_call_of(layer, layers.Normalization):
        return None if layer.invert or not layer.built else _normalization
    if _has_call_of(layer, layers.MultiHeadAttention):
        return _attention if internals.attention(layer).plain else None
    if _has_call_of(layer, layers.Dense, layers.EinsumDense):
        return _dense if layer.bias is not None else None
    if is_cell(layer):
        if _has_call_of(layer, layers.LSTMCell):
            return _lstm
        return _gru if _has_call_of(layer, layers.GRUCell) else _simple
    return None


def _has_call_of(layer: Any, *classes: Any) -> bool:
    """Whether a layer's call is that of one of these classes, and not a subclass's own."""
    own = inspect.unwrap(type(layer).call)
    return any(isinstance(layer, each) and own is inspect.unwrap(each.call) for each in classes)


def is_cell(layer: Any) -> bool:
    """Whether a layer is a recurrent cell that can be run step by step."""
    if _has_call_of(layer, layers.LSTMCell):
        return layer.implementation == 2 and decomposing.between(layer.activation) is None
    if _has_call_of(layer, layers.GRUCell):
        plain = layer.implementation == 2 and layer.reset_after
        return plain and decomposing.between(layer.activation) is None
    return (
        _has_call_of(layer, layers.SimpleRNNCell) and decomposing.between(layer.activation) is None
    )


def loops(layer: Any) -> bool:
    """Whether a layer runs those inside it in a loop, where nothing can be seen."""
    if isinstance(layer, layers.Bidirectional):
        return loops(layer.forward_layer) or loops(layer.backward_layer)
    if isinstance(layer, layers.RNN):
        return not layer.unroll
    return isinstance(layer, layers.TimeDistributed)


def unroll(layer: Any) -> bool:
    """Have a recurrent layer of a known, small number of steps run without a loop.

    LiteRT has no integers inside of loops. It is a setting of Keras's own, which the stripped model
    and its conversion keep.

    Args:
        layer: any layer of a plain copy.

    Returns:
        Whether it is one, and now unrolled.
    """
    if not isinstance(layer, (layers.RNN, layers.Bidirectional)):
        return False
    try:
        steps = layer.input.shape[1]
    except (AttributeError, ValueError, IndexError):
        return False
    sides = (
        [layer.forward_layer, layer.backward_layer]
        if isinstance(layer, layers.Bidirectional)
        else [layer]
    )
    cells = [getattr(side, "cell", None) for side in sides]
    if not isinstance(steps, int) or steps > LONGEST or not all(map(is_cell, cells)):
        return False
    for side in sides:
        side.unroll = True
    return True


@contextlib.contextmanager
def cells_called(outer: Any) -> Iterator[None]:
    """Within the body recurrent layers call their cells, whatever loop a backend has of its own.

    Args:
        outer: a recurrent or a bidirectional layer, or any other.
    """
    sides = (
        [outer.forward_layer, outer.backward_layer]
        if isinstance(outer, layers.Bidirectional)
        else [outer]
    )
    own = [side for side in sides if hasattr(side, "use_cudnn") and not loops(side)]
    before = [side.use_cudnn for side in own]
    for side in own:
        internals.set_plainly(side, "use_cudnn", False)
    try:
        yield
    finally:
        for side, value in zip(own, before, strict=True):
            internals.set_plainly(side, "use_cudnn", value)


def _separable(layer: Any, change: Change, original: Any, args: Any, kwargs: Any) -> Any:
    inputs = args[0] if args else kwargs["inputs"]
    return decomposing.separable(layer, inputs, lambda value: change(value, 0))


def _dense(layer: Any, change: Change, original: Any, args: Any, kwargs: Any) -> Any:
    inputs = args[0] if args else kwargs["inputs"]
    if isinstance(layer, layers.EinsumDense):
        total = ops.einsum(layer.equation, inputs, layer.kernel)
    else:
        total = ops.matmul(inputs, layer.kernel)
    # Of more than two dimensions; the bias of a plain matrix product is part of it.
    total = ops.add(change(total, 0), change.constant(layer.bias, 0))
    return total if layer.activation is None else layer.activation(total)


def _normalization(layer: Any, change: Change, original: Any, args: Any, kwargs: Any) -> Any:
    inputs = args[0] if args else kwargs["inputs"]
    inputs = ops.cast(inputs, layer.compute_dtype)
    centred = change(inputs - change.constant(ops.cast(layer.mean, inputs.dtype), 0), 0)
    spread = ops.maximum(ops.sqrt(ops.cast(layer.variance, "float32")), keras.backend.epsilon())
    return centred * change.constant(ops.cast(1.0 / spread, inputs.dtype), 0)


def _layer_norm(layer: Any, change: Change, original: Any, args: Any, kwargs: Any) -> Any:
    inputs = args[0] if args else kwargs["inputs"]
    x = ops.cast(inputs, "float32")
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    axes = sorted(axis % len(x.shape) for axis in axes)
    form = [x.shape[axis] if axis in axes else 1 for axis in range(len(x.shape))]
    mean = change(ops.mean(x, axis=axes, keepdims=True), 0)
    negative = change(-mean, 1)
    square = change(ops.square(x - mean), 2)
    exact = change(ops.mean(square, axis=axes, keepdims=True), 3)
    exact = exact + change.constant(ops.convert_to_tensor(layer.epsilon, "float32"), 4)
    variance = change(exact, 4)
    # A variance that was rounded to 0: LiteRT gives the end of the range.
    variance = ops.where(variance > 0, variance, ops.maximum(exact, layer.epsilon))
    factor = change(ops.rsqrt(variance), 5)
    if layer.gamma is not None:
        gamma = ops.reshape(ops.cast(ops.convert_to_tensor(layer.gamma), "float32"), form)
        factor = change(factor * change.constant(gamma, 6), 6)
    shift = change(negative * factor, 7)
    if layer.beta is not None:
        beta = ops.reshape(ops.cast(ops.convert_to_tensor(layer.beta), "float32"), form)
        shift = change(shift + change.constant(beta, 8), 8)
    return ops.cast(change(x * factor, 9) + shift, layer.compute_dtype)


def _attention(layer: Any, change: Change, original: Any, args: Any, kwargs: Any) -> Any:
    about = internals.attention(layer)

    def instead(own: Any) -> Any:
        def compute(query: Any, key: Any, value: Any, *rest: Any, **named: Any) -> Any:
            masked = [*rest[:1], named.get("attention_mask"), named.get("use_causal_mask")]
            scores = rest[2:3] or [named.get("return_attention_scores")]
            if any(each is not None and each is not False for each in (*masked, *scores)):
                return own(query, key, value, *rest, **named)
            if len(query.shape) != 4:
                return own(query, key, value, *rest, **named)
            training = rest[1] if len(rest) > 1 else named.get("training")
            if about.dropout > 0:  # Keras scales first then
                query = change(query * ops.cast(about.scale, query.dtype), 0)
            logits = ops.einsum("btnh,bsnh->bnts", query, key)
            logits = change(logits, 1)
            if about.dropout == 0:
                logits = change(logits * ops.cast(about.scale, logits.dtype), 2)
            shares = change(ops.softmax(logits, axis=-1), 3)
            if about.dropout > 0:
                shares = about.drop(shares, training=training)
            mixed = change(ops.einsum("bnts,bsnh->bnth", shares, value), 4)
            return ops.transpose(mixed, (0, 2, 1, 3)), None

        return compute

    with internals.attention_replaced(layer, instead):
        return original(*args, **kwargs)


def _given(cell: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Inputs, with dropout, and states of a cell's call."""
    inputs = args[0] if args else kwargs["inputs"]
    states = args[1] if len(args) > 1 else kwargs["states"]
    if kwargs.get("training") and 0.0 < cell.dropout < 1.0:
        inputs = inputs * cell.get_dropout_mask(inputs)
    return inputs, states


def _lstm(cell: Any, change: Change, original: Any, args: Any, kwargs: Any) -> Any:
    inputs, (hidden, carry) = _given(cell, args, kwargs)
    total = change(ops.matmul(inputs, cell.kernel), 0)
    total = change(total + change(ops.matmul(hidden, cell.recurrent_kernel), 1), 2)
    if cell.use_bias:
        total = change(total + change.constant(cell.bias, 3), 3)
    first, second, third, fourth = ops.split(total, 4, axis=1)
    gate_in = change(cell.recurrent_activation(first), 4)
    gate_kept = change(cell.recurrent_activation(second), 5)
    new = change(cell.activation(third), 6)
    kept = change(gate_kept * carry, 7)
    carry = change(kept + change(gate_in * new, 8), 9)
    gate_out = change(cell.recurrent_activation(fourth), 10)
    hidden = change(gate_out * change(cell.activation(carry), 11), 12)
    return hidden, [hidden, carry]


def _gru(cell: Any, change: Change, original: Any, args: Any, kwargs: Any) -> Any:
    inputs, states = _given(cell, args, kwargs)
    hidden = states[0] if isinstance(states, (list, tuple)) else states
    given = ops.matmul(inputs, cell.kernel)
    inner = ops.matmul(hidden, cell.recurrent_kernel)
    if cell.use_bias:
        biases = [ops.squeeze(each, axis=0) for each in ops.split(cell.bias, 2, axis=0)]
        given, inner = given + biases[0], inner + biases[1]
    given, inner = change(given, 0), change(inner, 1)
    update, reset, new = ops.split(given, 3, axis=-1)
    inner_update, inner_reset, inner_new = ops.split(inner, 3, axis=-1)
    update = change(cell.recurrent_activation(change(update + inner_update, 2)), 3)
    reset = change(cell.recurrent_activation(change(reset + inner_reset, 4)), 5)
    new = change(new + change(reset * inner_new, 6), 7)
    new = change(cell.activation(new), 8)
    rest = change(1.0 - update, 9)
    hidden = change(change(update * hidden, 10) + change(rest * new, 11), 12)
    return hidden, [hidden] if isinstance(states, (list, tuple)) else hidden


def _simple(cell: Any, change: Change, original: Any, args: Any, kwargs: Any) -> Any:
    inputs, states = _given(cell, args, kwargs)
    hidden = states[0] if isinstance(states, (list, tuple)) else states
    total = ops.matmul(inputs, cell.kernel)
    if cell.use_bias:
        total = total + cell.bias
    total = change(total, 0)
    if kwargs.get("training") and 0.0 < cell.recurrent_dropout < 1.0:
        hidden = hidden * cell.get_recurrent_dropout_mask(hidden)
    total = change(total + change(ops.matmul(hidden, cell.recurrent_kernel), 1), 2)
    hidden = change(total if cell.activation is None else cell.activation(total), 3)
    return hidden, [hidden] if isinstance(states, (list, tuple)) else hidden
