"""Training written by hand on JAX, and two devices that share the batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import keras
import numpy as np


@keras.saving.register_keras_serializable("litesmith_testing")
class CustomStep(keras.Model):
    """A model with a training step of its own, as Keras's guide has it."""

    def loss_and_updates(self, trainable: Any, others: Any, x: Any, y: Any) -> Any:
        """The loss, and the state after the step but for what the gradient moves."""
        outputs, others, losses = self.stateless_call(
            trainable, others, x, training=True, return_losses=True
        )
        return keras.ops.mean(self.loss(y, outputs)) + sum(losses), others

    def train_step(self, state: Any, data: Any) -> Any:
        """One step."""
        trainable, others, optimizer, metrics = state
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        gradient = jax.value_and_grad(self.loss_and_updates, has_aux=True)
        (loss, others), gradients = gradient(trainable, others, x, y)
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        return {"loss": loss}, (trainable, others, optimizer, metrics)


def loop(
    model: keras.Model, batches: Iterable[tuple[np.ndarray, np.ndarray]], learning_rate: float
) -> None:
    """Train with `stateless_call` and `jax.value_and_grad`, by plain gradient descent."""
    loss_function = keras.losses.SparseCategoricalCrossentropy()
    optimizer = keras.optimizers.SGD(learning_rate)
    optimizer.build(model.trainable_variables)

    def loss_and_updates(trainable: Any, others: Any, x: Any, y: Any) -> Any:
        outputs, others, losses = model.stateless_call(
            trainable, others, x, training=True, return_losses=True
        )
        return loss_function(y, outputs) + sum(losses), others

    gradient = jax.value_and_grad(loss_and_updates, has_aux=True)

    @jax.jit
    def step(state: Any, x: Any, y: Any) -> Any:
        trainable, others, moments = state
        (_, others), gradients = gradient(trainable, others, x, y)
        trainable, moments = optimizer.stateless_apply(moments, gradients, trainable)
        return trainable, others, moments

    variables = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
    state: Any = tuple([variable.value for variable in group] for group in variables)
    for x, y in batches:
        state = step(state, x, y)
    for group, values in zip(variables, state, strict=True):
        for variable, value in zip(group, values, strict=True):
            variable.assign(value)


@contextlib.contextmanager
def two_devices() -> Iterator[None]:
    """Keras's `DataParallel` over two devices of the processor.

    JAX has them where `XLA_FLAGS` says `--xla_force_host_platform_device_count=2` at its start.
    """
    before = keras.distribution.distribution()
    devices = keras.distribution.list_devices("cpu")[:2]
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def on_each_device(variable: keras.Variable) -> list[np.ndarray]:
    """A variable's value on each of the devices."""
    return [np.asarray(shard.data) for shard in variable.value.addressable_shards]
