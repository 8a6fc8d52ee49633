"""`Distiller`: a student that learns from a teacher, for `compile` and `fit`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import keras
import numpy as np

from litesmith.data.keras_sequence import SplitSequence
from litesmith.distillation import answers, core, outputs, places
from litesmith.distillation.config import Lesson, kinds, pairs
from litesmith.errors import DataError, LitesmithWarning, ModelError
from litesmith.parametrize import copy_model, is_parametrized, listening, outermost_layers


class _Mind:
    """What a distiller knows of layers it does not own: out of sight of Keras's tracking."""

    student_layers: list[Any]
    teacher_layers: list[tuple[str, Any]]
    heard: list[Any] | None = None
    kinds: list[tuple[str, str]] | None = None
    loss: Any = None
    outputs: int | None = None


class Distiller(keras.Model):
    """A student that is taught by a teacher while it trains.

    The loss is

        label_weight · L(y, s)
        + teacher_weight · T² · KL(p_T(t) ‖ p_T(s))
        + feature_weight · Σ (f_s − f_t)²

    with L what `compile` is given, s and t the answers of student and teacher, p_T their softmax
    (or sigmoid) at temperature T (Hinton, Vinyals, Dean, "Distilling the knowledge in a neural
    network", 2015; the plain squared difference where they are numbers), and f what a layer gives,
    as a mean over its elements (Romero et al., "FitNets", 2015), by way of a trained linear map
    where the student's layer is narrower or wider.

    Calling the distiller calls the student, which is trained in place: it may be a prepared model,
    and is stripped and saved on its own afterwards. The teacher is copied and answers in inference;
    the one that was given is never changed. Sample and class weights weigh the labels' loss.

        distiller = ls.Distiller(student, teacher, features={"block2": "block4"})
        distiller.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        distiller.fit(x, y, epochs=10, validation_data=(x_val, y_val))
        small = distiller.student

    Args:
        student: a built model: plain or prepared.
        teacher: a built model that takes the same inputs and has outputs of the same shapes; a
            prepared one is stripped first.
        temperature: T, above 0; more than 1 tells more of the classes that are not the right one.
        label_weight: from 0; with 0 no labels are needed.
        teacher_weight: from 0.
        features: layers to be made alike: `{"student layer": "teacher layer"}` by name or path,
            names of layers that both have, or a list of such.
        feature_weight: from 0, of all pairs together.
        outputs: how the student's outputs are read: "softmax", "logits", "sigmoid",
            "sigmoid_logits", "values", or one of these an output; "auto" goes by the last layer,
            and where that is linear by the loss.
        cache: a folder for the teacher's answers to the training samples. They are computed once,
            kept there (keyed to the teacher's weights and the samples), and read from there in
            each step, so that the teacher costs nothing. For arrays and `Split.keras(…)` only,
            where it is known which sample is which; random augmentation inside the student is not
            seen by the teacher then.
        name: the model's.

    Raises:
        RecipeError: a weight out of its range, or a layer that is not there.
        ModelError: the two do not go together, or one is not built.
    """

    def __init__(
        self,
        student: keras.Model,
        teacher: keras.Model,
        *,
        temperature: float = 1.0,
        label_weight: float = 0.1,
        teacher_weight: float = 0.9,
        features: Mapping[str, str] | Sequence[Any] | str | None = None,
        feature_weight: float = 1.0,
        outputs: str | Sequence[str] = "auto",
        cache: str | os.PathLike[str] | None = None,
        name: str | None = None,
    ):
        for role, model in (("student", student), ("teacher", teacher)):
            places.check_built(role, model)
        super().__init__(name=name or f"{student.name}_distiller")
        self.lesson = Lesson(
            temperature=temperature,
            label_weight=label_weight,
            teacher_weight=teacher_weight,
            feature_weight=feature_weight,
            features=pairs(features),
            outputs=kinds(outputs),
        )
        self.cache = cache
        self.student = student
        self.teacher = _own(teacher)
        self._mind = mind = _Mind()
        mind.student_layers = [
            places.find(student, ours, "student") for ours, _ in self.lesson.features
        ]
        mind.teacher_layers = [
            (theirs, places.find(self.teacher, theirs, "teacher"))
            for _, theirs in self.lesson.features
        ]
        self.projections: list[keras.layers.Layer | None] = []
        widths = places.match(
            student, self.teacher, mind.student_layers, mind.teacher_layers, self.lesson.features
        )
        mind.outputs = widths.outputs
        for number, (wide, narrow) in enumerate(widths.projections):
            projection = None
            if wide is not None:
                projection = keras.layers.Dense(wide, name=f"projection_{number}")
                projection.build((None, narrow))
            self.projections.append(projection)
        self.label_tracker = keras.metrics.Mean(name="label_loss")
        self.teacher_tracker = keras.metrics.Mean(name="teacher_loss")
        self.feature_tracker = keras.metrics.Mean(name="feature_loss")
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """What the student gives."""
        inputs, _ = answers.unpacked(inputs)
        with listening(self._mind.student_layers) as heard:
            given = self.student(inputs, training=training)
        self._mind.heard = heard
        return given

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, **options: Any) -> None:
        """As a Keras model's; `loss` is the labels'.

        Raises:
            ModelError: it cannot be told how an output is to be read.
        """
        super().compile(optimizer=optimizer, loss=loss, **options)
        self._mind.loss, self._mind.kinds = loss, None
        if self._mind.outputs is not None:
            self._read_as(self._mind.outputs)

    def _read_as(self, count: int) -> list[tuple[str, str]]:
        mind = self._mind
        if mind.kinds is None:
            names = list(getattr(self.student, "output_names", None) or [])
            names = names if len(names) == count else [str(number) for number in range(count)]
            mind.kinds = outputs.read_as(
                self.student, self.teacher, self.lesson.outputs, count, mind.loss, names
            )
        return mind.kinds

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The labels' loss, the teacher's and the features', each by its weight.

        Args:
            x: the inputs, as `call` had them.
            y: labels; None where there are none.
            y_pred: what `call` gave.
            sample_weight: of the labels' loss.
            training: whether it is a training step.

        Returns:
            A number.
        """
        lesson, parts = self.lesson, []
        if lesson.label_weight and y is not None and self._mind.loss is not None:
            # With what the student's layers add, such as weight decay.
            own = super().compute_loss(x, y, y_pred, sample_weight, training)
            added = sum(self.losses, start=keras.ops.zeros(()))
            labels = own - added
            self.label_tracker.update_state(labels)
            parts += [lesson.label_weight * labels, added]
        else:
            parts += list(self.losses)
        told, features = self._teacher_says(x)
        ours = keras.tree.flatten(y_pred)
        if lesson.teacher_weight:
            pairs = zip(ours, told, self._read_as(len(ours)), strict=True)
            soft = sum(core.soft_loss(s, t, kind, lesson.temperature) for s, t, kind in pairs)
            self.teacher_tracker.update_state(soft)
            parts.append(lesson.teacher_weight * soft)
        if features and lesson.feature_weight:
            alike = self._features(features)
            self.feature_tracker.update_state(alike)
            parts.append(lesson.feature_weight * alike)
        return sum(keras.ops.cast(part, "float32") for part in parts)

    def _teacher_says(self, x: Any) -> tuple[list[Any], list[Any]]:
        """The teacher's outputs and features: from files, or asked now."""
        x, told = answers.unpacked(x)
        if told is not None:
            count = len(told) - len(self._mind.teacher_layers)
            return told[:count], told[count:]
        with listening([layer for _, layer in self._mind.teacher_layers]) as heard:
            told = keras.tree.flatten(self.teacher(x, training=False))
        return told, [places.first(each) for each in heard]

    def _features(self, theirs: Sequence[Any]) -> Any:
        heard, self._mind.heard = self._mind.heard, None
        if heard is None or any(each is None for each in heard):
            raise ModelError(
                "distiller",
                expected="compute_loss right after a call of the distiller",
                received="no call, or one that does not come by the student's layers",
                fix="call the distiller on the batch first",
            )
        total: Any = 0.0
        for ours, teacher, projection in zip(heard, theirs, self.projections, strict=True):
            mine = places.first(ours)
            mine = mine if projection is None else projection(mine)
            total = total + core.feature_loss(mine, teacher)
        return total

    def fit(
        self, x: Any = None, y: Any = None, batch_size: int | None = None, **options: Any
    ) -> Any:
        """As a Keras model's; with `cache` the teacher answers all of `x` first, once.

        Args:
            x: what Keras takes; with `cache` arrays, or what `Split.keras(…)` gives.
            y: labels.
            batch_size: samples a step.
            **options: as Keras has them.

        Returns:
            Keras's `History`; `label_loss`, `teacher_loss` and `feature_loss` are in it.

        Raises:
            DataError: with `cache`, samples whose order is not known.
            OutputError: the cache cannot be written.
        """
        if self.cache is None:
            return super().fit(x, y, batch_size=batch_size, **options)
        shuffle = bool(options.pop("shuffle", True))
        weights = options.pop("sample_weight", None)
        seed = int(np.random.randint(2**31))  # by keras.utils.set_random_seed
        size = batch_size or 32
        if isinstance(x, SplitSequence):
            size, shuffle, seed = x.batch_size, x.shuffle, x.seed
            x, y = x.split.x, x.split.y
        for leaf in keras.tree.flatten(x):
            if not hasattr(leaf, "shape") or not hasattr(leaf, "__getitem__"):
                raise DataError(
                    "distiller: cache",
                    expected="arrays, or Split.keras(…): samples whose order is known",
                    received=type(leaf).__name__,
                    fix="leave cache out: the teacher then answers as training goes",
                )
        told = answers.answer(self.teacher, x, self._mind.teacher_layers, self.cache, size)
        taught = answers.Taught(x, y, weights, told, batch_size=size, shuffle=shuffle, seed=seed)
        return super().fit(taught, **options)

    def get_config(self) -> NoReturn:
        """Refuse.

        Raises:
            ModelError: always.
        """
        raise self._not_whole("copied or stripped")

    def save(self, *args: Any, **options: Any) -> NoReturn:
        """Refuse: what is worth keeping is the student.

        Raises:
            ModelError: always.
        """
        raise self._not_whole("saved")

    def export(self, *args: Any, **options: Any) -> NoReturn:
        """Refuse: what is worth keeping is the student.

        Raises:
            ModelError: always.
        """
        raise self._not_whole("exported")

    def _not_whole(self, done: str) -> ModelError:
        return ModelError(
            f"distiller {self.name!r} cannot be {done} whole",
            expected="its student",
            received="the student, the teacher and what joins them",
            fix="use distiller.student, or save_weights() to go on later",
        )


def _own(teacher: keras.Model) -> keras.Model:
    """A copy of a teacher that is not trained, and that no compiled step can take away."""
    if any(is_parametrized(layer) for _, layer in outermost_layers(teacher)):
        from litesmith.recipe import strip

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LitesmithWarning)
            copy = strip(teacher)
    else:
        copy = copy_model(teacher)
    copy.trainable = False
    return copy
