"""Folding: the scale of the BatchNorm after a layer, multiplied into its kernel.

The converter does that. A promise about values, such as "no more than sixteen", is therefore about
the folded kernel, w · γ/σ; a parametrization can ask to work on that one (`folded`). `strip` then
writes the folded kernel into the plain model, and gives the BatchNorm statistics with which its
scale is one for all channels (or one power of two), so that the promise holds whether the converter
folds it or not.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from litesmith.parametrize import internals
from litesmith.parametrize.telling import told

layers = keras.layers

# A channel whose variance is less than so many ε of its BatchNorm is as good as constant.
_CONSTANT = 1e-3


def factors(scale: keras.layers.Layer) -> Any:
    """What a layer multiplies each channel by in inference: γ/σ; 1 where it is 0.

    Returns:
        float32 tensor [channels] that no gradient goes through.
    """
    with internals.without_autocast():
        if isinstance(scale, layers.BatchNormalization):
            factor = ops.rsqrt(ops.cast(scale.moving_variance, "float32") + scale.epsilon)
            if scale.scale:
                factor = factor * ops.cast(scale.gamma, "float32")
        else:
            factor = ops.cast(ops.copy(internals.own_variables(scale)[0]), "float32")
    factor = ops.stop_gradient(factor)
    return factor + ops.cast(ops.equal(factor, 0.0), "float32")


def spread(factor: Any, shape: Sequence[int], axes: Sequence[int]) -> Any:
    """Factors [channels] in a shape that broadcasts to the kernel's."""
    return ops.reshape(factor, [size if axis in axes else 1 for axis, size in enumerate(shape)])


def felt(scale: keras.layers.Layer, shape: Sequence[int], axes: Sequence[int]) -> np.ndarray | None:
    """Which weights change what the layer gives, as the BatchNorm's statistics tell.

    A unit that never fires has no variance, so that its BatchNorm divides by √ε alone: the folded
    weights of such a channel are the largest of all, and nothing depends on them but a bias.

    Args:
        scale: the layer that scales the kernel.
        shape: the kernel's.
        axes: the kernel's axes that the channels are.

    Returns:
        bool, of a shape that broadcasts to the kernel's; None where there is nothing to tell, or
        all channels are constant.
    """
    if not isinstance(scale, layers.BatchNormalization):
        return None
    variance = ops.convert_to_numpy(scale.moving_variance)
    alive = variance >= _CONSTANT * scale.epsilon
    if alive.all() or not alive.any():
        return None
    return alive.reshape([n if axis in axes else 1 for axis, n in enumerate(shape)])


def unfold(
    folded: np.ndarray, bias: np.ndarray | None, scale: keras.layers.Layer
) -> tuple[np.ndarray, np.ndarray | None, list[tuple[str, np.ndarray]]]:
    """Give a plain layer its folded kernel, and the scaling layer what goes with it.

    A kernel K = f·k with a BatchNorm of γ′ = |γ|, μ′ = f·μ, σ′² = f²·σ² computes what k with γ, μ
    and σ does, training included, and its own scale is γ′/σ′ = 1. Where some γ is smaller than the
    square root of ε, all are enlarged by one power of two, which changes no digit.

    Args:
        folded: the kernel as it is after folding.
        bias: the layer's bias, or None.
        scale: the layer that scales it.

    Returns:
        Kernel, bias, and for each variable of `scale` that changes its name and value.
    """

    def read(name: str) -> np.ndarray:
        return ops.convert_to_numpy(getattr(scale, name)).astype(np.float64)

    if not isinstance(scale, layers.BatchNormalization):
        gamma = ops.convert_to_numpy(internals.own_variables(scale)[0]).astype(np.float64)
        alive = gamma != 0
        power = -round(math.log2(np.abs(gamma[alive]).mean())) if alive.any() else 0
        ratio = np.where(alive, gamma, 1.0) * 2.0**power
        new = np.where(alive, 2.0**-power, 0.0)
        values = [(internals.own_variables(scale)[0].name, new)]
    else:
        channels = int(scale.moving_variance.shape[0])
        gamma = read("gamma") if scale.scale else np.ones(channels)
        alive = gamma != 0
        least = float(np.abs(gamma[alive]).min()) if alive.any() else 1.0
        power = max(0, math.ceil(math.log2(math.sqrt(2 * scale.epsilon) / least)))
        factor = gamma / np.sqrt(read("moving_variance") + scale.epsilon)
        ratio = np.where(alive, factor, 1.0) * 2.0**power
        variance = (np.abs(gamma) * 2.0**power) ** 2 - scale.epsilon
        values = [
            ("moving_mean", read("moving_mean") * ratio),
            ("moving_variance", np.where(alive, variance, read("moving_variance"))),
        ]
        if scale.scale:
            values.append(("gamma", np.abs(gamma)))
    kernel = np.ldexp(folded, power).astype(np.float32)
    if bias is not None:
        bias = (bias.astype(np.float64) * ratio).astype(np.float32)
    return kernel, bias, [(name, value.astype(np.float32)) for name, value in values]


def unfold_input(
    folded: np.ndarray, scale: keras.layers.Layer
) -> tuple[np.ndarray, list[tuple[str, np.ndarray]]]:
    """Give a plain layer its folded kernel, and the BatchNorm before it what goes with it.

    With γ′ = σ and β′ = β·σ/γ the BatchNorm's own scale γ′/σ is one.

    Args:
        folded: the kernel as it is after folding.
        scale: the BatchNorm whose output the layer takes.

    Returns:
        Kernel, and for each variable of `scale` that changes its name and value.
    """

    def read(name: str) -> np.ndarray:
        return ops.convert_to_numpy(getattr(scale, name)).astype(np.float64)

    sigma = np.sqrt(read("moving_variance") + scale.epsilon)
    gamma = read("gamma")
    alive = gamma != 0
    shift = read("beta") * sigma / np.where(alive, gamma, 1.0)
    values = [
        ("gamma", np.where(alive, sigma, 0.0)),
        ("beta", np.where(alive, shift, read("beta"))),
    ]
    return folded, [(name, value.astype(np.float32)) for name, value in values]


# Least share of a batch's statistics in the moving ones. A weight that changes its value moves the
# mean of its channel at once, and Keras's usual 0.01 is a hundred steps behind.
_LEAST_RATE = 0.05


def gain(used: Any, stored: Any, axes: Sequence[int]) -> Any:
    """How much more variance the weights in use give each channel than the stored ones would.

    Args:
        used: the folded kernel in use.
        stored: the folded kernel as it is stored and trained.
        axes: the kernel's axes that are its channels.

    Returns:
        Σ used² ÷ Σ stored², float32 [channels]: the ratio of variances for inputs that do not
        depend on each other; 1 where either is 0. No gradient goes through.
    """
    others = [axis for axis in range(len(used.shape)) if axis not in axes]
    above, below = (
        ops.reshape(
            ops.sum(ops.square(ops.cast(ops.stop_gradient(each), "float32")), axis=others), (-1,)
        )
        for each in (used, stored)
    )
    alive = ops.logical_and(above > 0, below > 0)
    one = ops.ones_like(above)  # 0 ÷ 0 would be found by whoever has numbers checked
    return ops.where(alive, above, one) / ops.where(alive, below, one)


def gain_key(scale: keras.layers.Layer) -> str:
    """Under which key what scales a layer is told the `gain` of the call it is going to scale."""
    return f"gain:{id(scale)}"


def hold(scale: keras.layers.Layer) -> None:
    """Make a BatchNorm train with the scale it has in inference.

    Normalizing by the batch would undo, channel by channel, the scale that the values of a folded
    kernel give it: the model would train with other values than it predicts with. As in batch
    renormalization (Ioffe, 2017), the output is multiplied by the batch's σ over the moving one, as
    a constant; gradients are those of BatchNorm. Moving statistics follow faster than Keras has it.
    The moving variance, of which the folded kernel is made, follows what the *stored* kernel would
    give, which is the batch's over its `gain`: if it followed the batch's, a channel whose values
    in use are too large would be scaled down, and its values in use scaled up, without end.

    Args:
        scale: what scales a layer that is used folded; for others than BatchNorm nothing is done.
    """
    if not isinstance(scale, layers.BatchNormalization) or "call" in vars(scale):
        return

    @functools.wraps(type(scale).call)
    def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if not training or not scale.trainable:
            return type(scale).call(scale, inputs, training=training, mask=mask)
        values = ops.cast(inputs, "float32")
        mean, variance = internals.batch_moments(scale, values, mask)
        with internals.without_autocast():
            moving_mean, moving = ops.copy(scale.moving_mean), ops.copy(scale.moving_variance)
            gamma = ops.copy(scale.gamma) if scale.scale else ops.ones_like(moving)
            beta = ops.copy(scale.beta) if scale.center else None
        batch_mean, batch = ops.stop_gradient(mean), ops.stop_gradient(variance)
        ratio = ops.sqrt((batch + scale.epsilon) / (moving + scale.epsilon))
        normal = ops.batch_normalization(
            values,
            mean=mean,
            variance=variance,
            axis=scale.axis,
            offset=beta,
            scale=gamma * ratio,
            epsilon=scale.epsilon,
        )
        rate = max(1.0 - scale.momentum, _LEAST_RATE)
        more = told(gain_key(scale))
        own = batch if more is None else batch / more
        scale.moving_mean.assign(moving_mean + (batch_mean - moving_mean) * rate)
        scale.moving_variance.assign(moving + (own - moving) * rate)
        return ops.cast(normal, scale.compute_dtype)

    internals.set_plainly(scale, "call", call)


class Hidden:
    """Keeps layers where Keras's saver, which walks attributes and lists, does not see them."""

    layer: keras.layers.Layer | None = None
    places: Any = None
