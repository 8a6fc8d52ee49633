"""Training a baseline, fine-tuning a variant.

The default policy for fine-tuning is Adam, its learning rate taken up to 1e-3 over the first 5 %
of the steps and then down to zero along a cosine (Loshchilov & Hutter, "SGDR", 2017). The weights
of the last epoch are the ones used: a sparsity schedule makes earlier ones another model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from litesmith.errors import LitesmithError, StudyError, did_you_mean
from litesmith.study.progress import Event, Progress
from litesmith.study.settings import Training

WARM_UP = 0.05  # share of the steps
_KERAS_STEP = ("train_step", "compute_loss", "compute_metrics")


def steps_per_epoch(samples: int, settings: Training) -> int:
    """Training steps in one epoch; the last batch may be smaller."""
    return max(1, math.ceil(samples / (settings.batch_size or 1)))


def learning_rate(settings: Training, steps: int, total: int | None = None) -> Any:
    """The learning rate along training, for a Keras optimizer.

    Args:
        settings: every field set.
        steps: training steps in an epoch.
        total: training steps in all, where they are no whole epochs.

    Returns:
        A number, or a `keras.optimizers.schedules.LearningRateSchedule`.
    """
    stages = settings.stages
    if isinstance(settings.learning_rate, list) and len(stages) > 1:
        ends, end = [], 0
        for epochs, _ in stages[:-1]:
            end += epochs * steps
            ends.append(end - 1)  # Keras keeps a value up to and including its boundary
        return keras.optimizers.schedules.PiecewiseConstantDecay(ends, [rate for _, rate in stages])
    peak = stages[0][1]
    total = total or settings.total_epochs * steps
    if settings.decay != "cosine" or isinstance(settings.learning_rate, list) or total < 2:
        return peak
    warm = max(1, round(WARM_UP * total))
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.1 * peak,
        decay_steps=max(1, total - warm),
        warmup_target=peak,
        warmup_steps=warm,
    )


def optimizer(
    settings: Training, steps: int, total: int | None = None
) -> keras.optimizers.Optimizer:
    """A fresh optimizer.

    Raises:
        StudyError: Keras has no optimizer of that name.
    """
    name = settings.optimizer or "adam"
    try:
        kind = type(keras.optimizers.get(name))
    except ValueError:
        known = sorted(
            each.lower()
            for each, value in vars(keras.optimizers).items()
            if isinstance(value, type) and issubclass(value, keras.optimizers.Optimizer)
        )
        raise StudyError(
            "optimizer",
            expected="the name of a Keras optimizer",
            received=repr(name),
            fix=did_you_mean(name, known),
        ) from None
    return kind(learning_rate=learning_rate(settings, steps, total))


class _Tell(keras.callbacks.Callback):
    """Hands each epoch's figures on."""

    def __init__(self, name: str, epochs: int, progress: Progress):
        super().__init__()
        self.name, self.epochs, self.progress = name, epochs, progress

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        figures = "  ".join(f"{key} {float(value):.4f}" for key, value in (logs or {}).items())
        self.progress(
            Event(
                kind="epoch",
                name=self.name,
                text=figures,
                number=epoch + 1,
                total=self.epochs,
            )
        )


def fit(
    model: keras.Model,
    data: Any,
    settings: Training,
    *,
    loss: Any,
    metrics: list[str],
    seed: int,
    name: str,
    progress: Progress,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    total: int | None = None,
) -> dict[str, list[float]]:
    """Compile and train a model in place.

    Args:
        model: built.
        data: a `litesmith.data.Dataset`.
        settings: every field set.
        loss: from `losses.loss_for`.
        metrics: Keras metrics to follow.
        seed: order of the samples, dropout.
        name: the variant's, for `progress`.
        progress: told each epoch.
        callbacks: of Keras, besides.
        total: training steps, where they are no whole epochs: the last one is cut short then.

    Returns:
        The history: a list an epoch for each figure.

    Raises:
        LitesmithError: the loss became infinite or no number.
    """
    keras.utils.set_random_seed(seed)
    steps = steps_per_epoch(len(data.train), settings)
    whole, rest = divmod(total or settings.total_epochs * steps, steps)
    model.compile(optimizer=optimizer(settings, steps, total), loss=loss, metrics=metrics)
    size = settings.batch_size or 1
    complete(model, data.train.take(2).keras(2)[0])
    told = [_Tell(name, whole + bool(rest), progress), *callbacks]
    history: dict[str, list[Any]] = {}
    for first, last_epoch, count in ((0, whole, None), (whole, whole + 1, rest)):
        if first == last_epoch or count == 0:
            continue
        part = model.fit(
            data.train.keras(size, shuffle=True, seed=seed + first),
            validation_data=data.validation.keras(size),
            initial_epoch=first,
            epochs=last_epoch,
            steps_per_epoch=count,
            callbacks=told,
            verbose=0,
        ).history
        for key, values in part.items():
            history.setdefault(key, []).extend(values)
    figures = {key: [float(value) for value in values] for key, values in history.items()}
    last = figures.get("loss", [0.0])
    if last and not math.isfinite(last[-1]):
        raise LitesmithError(
            f"training diverged: the loss is {last[-1]}", fix="lower the learning rate"
        )
    return figures


def complete(model: keras.Model, batch: Any) -> None:
    """Make the variables that the first step of a compiled model would make.

    TensorFlow traces a step that makes variables twice, and tracing is what the first step of a
    prepared model takes its time for. Models with a step, loss or metrics of their own are left as
    they are: theirs may not be Keras's.

    Args:
        model: built and compiled.
        batch: (inputs, targets) of a few samples.
    """
    if keras.backend.backend() != "tensorflow":
        return  # Keras does so on the others
    if any(getattr(type(model), n) is not getattr(keras.Model, n) for n in _KERAS_STEP):
        return
    inputs, targets = batch
    told = {"x": inputs, "y": targets, "y_pred": model(inputs, training=False)}
    model.compute_loss(**told)
    model.compute_metrics(**told)
    model.reset_metrics()
    model.optimizer.build(model.trainable_variables)


def reseed(model: keras.Model, seed: int) -> None:
    """Start a model's own random numbers (dropout, noise) anew.

    Their state goes on counting while a model trains and is copied with it: a variant would
    depend on what was trained before it in the same process.
    """
    states = [v for v in model.variables if v.path.endswith("seed_generator_state")]
    for index, state in enumerate(states):
        drawn = np.random.default_rng([seed, index]).integers(2**31, size=tuple(state.shape))
        state.assign(drawn.astype(str(state.dtype)))
