"""Training written by hand on PyTorch."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import keras
import numpy as np
import torch
import torch._dynamo


@keras.saving.register_keras_serializable("litesmith_testing")
class CustomStep(keras.Model):
    """A model with a training step of its own, as Keras's guide has it."""

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step."""
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        self.zero_grad()
        loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
        loss.backward()
        weights = list(self.trainable_weights)
        with torch.no_grad():
            self.optimizer.apply([weight.value.grad for weight in weights], weights)
        return {"loss": loss}


def loop(
    model: keras.Model, batches: Iterable[tuple[np.ndarray, np.ndarray]], learning_rate: float
) -> None:
    """Train with `backward` and an optimizer of torch, by plain gradient descent."""
    optimizer = torch.optim.SGD(model.parameters(), learning_rate)
    loss_function = keras.losses.SparseCategoricalCrossentropy()
    for batch in batches:
        x, y = map(keras.ops.convert_to_tensor, batch)
        optimizer.zero_grad()
        loss = loss_function(y, model(x, training=True))
        (loss + sum(model.losses)).backward()
        optimizer.step()


def compiling() -> AbstractContextManager[Any]:
    """Each function is compiled once or twice, not up to nine times, before it runs as it is.

    Keras's own break the graph in dozens of places, and are compiled again for each layer.
    """
    return torch._dynamo.config.patch(recompile_limit=1)
