"""Distillation as pure math: distances between what a student and a teacher give."""

from __future__ import annotations

from typing import Any

from keras import ops

# Probabilities are at least this, so that their logarithms are finite in float32.
LEAST = 1e-7

# How an output is read. Those of one family can be compared: a student that ends in softmax with a
# teacher that gives logits.
FAMILIES = {
    "softmax": "classes",
    "logits": "classes",
    "sigmoid": "bits",
    "sigmoid_logits": "bits",
    "values": "values",
}


def logits(outputs: Any, kind: str) -> Any:
    """The numbers whose softmax, or sigmoid, the outputs are; up to a constant, for softmax.

    Args:
        outputs: [batch, …, classes].
        kind: a key of `FAMILIES`.

    Returns:
        float32, of the same shape.
    """
    outputs = ops.cast(ops.convert_to_tensor(outputs), "float32")
    if kind == "softmax":
        return ops.log(ops.maximum(outputs, LEAST))
    if kind == "sigmoid":
        outputs = ops.clip(outputs, LEAST, 1.0 - LEAST)
        return ops.log(outputs) - ops.log(1.0 - outputs)
    return outputs


def soft_loss(
    student: Any, teacher: Any, kinds: tuple[str, str], temperature: float | int = 1.0
) -> Any:
    """How far a student's answers are from a teacher's.

    T² · KL(softmax(z_t/T) ‖ softmax(z_s/T)) for classes (Hinton, Vinyals, Dean, "Distilling the
    knowledge in a neural network", 2015; T² keeps the size of the gradient), the same between
    Bernoulli distributions for bits, (z_s − z_t)² for values. Its gradient is that of the cross
    entropy with the teacher's answers as labels; unlike that, it is 0 where both agree.

    Args:
        student: [batch, …, units].
        teacher: of the same shape; no gradient goes into it.
        kinds: of the student's and the teacher's, keys of `FAMILIES`, of one family.
        temperature: T, above 0.

    Returns:
        A number: the mean over the batch and all but the classes.
    """
    ours, theirs = logits(student, kinds[0]), ops.stop_gradient(logits(teacher, kinds[1]))
    family = FAMILIES[kinds[0]]
    if family == "values":
        return ops.mean(ops.square(ours - theirs))
    ours, theirs = ours / temperature, theirs / temperature
    if family == "classes":
        share = ops.softmax(theirs, axis=-1)
        apart = share * (ops.log_softmax(theirs, axis=-1) - ops.log_softmax(ours, axis=-1))
        apart = ops.sum(apart, axis=-1)
    else:
        share = ops.sigmoid(theirs)
        apart = share * (ops.log_sigmoid(theirs) - ops.log_sigmoid(ours))
        apart += (1.0 - share) * (ops.log_sigmoid(-theirs) - ops.log_sigmoid(-ours))
    return temperature**2 * ops.mean(apart)


def feature_loss(student: Any, teacher: Any) -> Any:
    """Mean squared difference (Romero et al., "FitNets: hints for thin deep nets", 2015).

    Args:
        student: [batch, …, channels], projected to the teacher's width where that differs.
        teacher: of the same shape; no gradient goes into it.
    """
    theirs = ops.cast(ops.stop_gradient(ops.convert_to_tensor(teacher)), "float32")
    return ops.mean(ops.square(ops.cast(student, "float32") - theirs))
