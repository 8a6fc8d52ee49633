"""Training written by hand on TensorFlow, and two replicas of a model."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable("litesmith_testing")
class CustomStep(keras.Model):
    """A model with a training step of its own, as Keras's guide has it."""

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step."""
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        return {"loss": loss}


def loop(
    model: keras.Model, batches: Iterable[tuple[np.ndarray, np.ndarray]], learning_rate: float
) -> None:
    """Train with a `tf.GradientTape`, by plain gradient descent."""
    optimizer = keras.optimizers.SGD(learning_rate)
    loss_function = keras.losses.SparseCategoricalCrossentropy()

    @tf.function
    def step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_function(y, model(x, training=True)) + sum(model.losses)
        gradients = tape.gradient(loss, model.trainable_weights)
        optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))
        return loss

    for x, y in batches:
        step(tf.constant(x), tf.constant(y))


def two_devices() -> AbstractContextManager[Any]:
    """The scope of a `MirroredStrategy` over two logical devices of the processor.

    TensorFlow makes them once, before its first operation: in a fresh process.
    """
    return _strategy().scope()


@functools.cache  # two strategies in one process mix up each other's sums over replicas
def _strategy() -> tf.distribute.Strategy:
    (processor,) = tf.config.list_physical_devices("CPU")
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(processor, two)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def on_each_device(variable: keras.Variable) -> list[np.ndarray]:
    """A variable's value on each of the devices."""
    return [value.numpy() for value in _strategy().experimental_local_results(variable.value)]
