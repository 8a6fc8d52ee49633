"""Everything a study is going to do, checked before anything is trained or written."""

from __future__ import annotations

import dataclasses
import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import keras

from litesmith import data, evaluation, files, models
from litesmith.data import Dataset, Split
from litesmith.errors import (
    InputError,
    LitesmithError,
    LitesmithWarning,
    ModelError,
    StudyError,
)
from litesmith.evaluation.metrics import metrics_by_output
from litesmith.export.presets import check_preset, rules_of
from litesmith.export.trained import check_fits
from litesmith.parametrize import copy_model
from litesmith.recipe import Recipe
from litesmith.study import losses, training
from litesmith.study.file import Study, Variant
from litesmith.study.settings import FINE_TUNE_POLICY, Training
from litesmith.study.stages import Stage, split
from litesmith.study.store import derived_seed
from litesmith.summaries import check_tensorboard

_LOOK = 64  # samples shown to the model, the loss and the metrics before anything is trained


@dataclasses.dataclass(frozen=True)
class Job:
    """One variant to make.

    Attributes:
        variant: as the study has it.
        recipe: with its schedules laid out along the training; None for post-training only.
        training: every field set; None for post-training only.
        seed: this variant's own.
        steps: training steps in all.
        stages: the recipe and the training, in the parts they are done in.
        notes: what is worth telling about the recipe on this model.
    """

    variant: Variant
    recipe: Recipe | None
    training: Training | None
    seed: int
    steps: int = 0
    stages: tuple[Stage, ...] = ()
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Plan:
    """A study that can be run.

    Attributes:
        study: as it was read.
        data: loaded.
        summary: what the data says of itself.
        model: as its source gives it.
        baseline: how to train the model first; None where it is trained.
        loss: to compile with.
        fit_metrics: Keras metrics to follow while training.
        head: the model's one output.
        jobs: the variants, the baseline first.
    """

    study: Study
    data: Dataset
    summary: dict[str, Any]
    model: keras.Model
    baseline: Training | None
    loss: Any
    fit_metrics: list[str]
    head: losses.Head
    jobs: list[Job]

    def source(self) -> dict[str, Any]:
        """What tells this model's source from another: its name, arguments, and file's hash."""
        source = self.study.model.source
        name = source if _is_file(source) else source.rpartition(":")[0]
        path = self.study.root / name
        content = files.sha256(path) if path.is_file() else None
        return {"source": source, "arguments": self.study.model.arguments, "sha256": content}


def make_plan(study: Study) -> Plan:
    """Load what a study needs and check all of it.

    Args:
        study: as it was read.

    Returns:
        The plan; nothing has been trained or written.

    Raises:
        InputError: a preset, a recipe, the data, the model, or how they go together is wrong.
    """
    if study.tensorboard:
        with _named("", "tensorboard"):
            check_tensorboard()
    with _named("", "[baseline]"):
        baseline = study.training
        if baseline is not None:
            training.optimizer(baseline, 1)
    with _named("", "[fine_tune]"):
        study.fine_tune.over(FINE_TUNE_POLICY)
    for variant in study.variants:
        with _named(variant.name):
            check_preset(variant.quantize)
            study.fine_tuning(variant)
    recipes: dict[str, Recipe] = {}
    for variant in study.variants:
        if variant.recipe:
            with _named(variant.name):
                recipes[variant.name] = Recipe.from_dict(variant.recipe)
                _check_preset_fits(recipes[variant.name], variant.quantize)
                training.optimizer(study.fine_tuning(variant), 1)
    metrics_by_output(study.model.metrics, [])  # an unknown name is an error
    dataset = _load_data(study)
    model, about = _load_model(study, dataset)
    look = dataset.train.take(_LOOK)
    loss, head = _fit_loss(study, model, dataset, look)
    follow = ["accuracy"] if "accuracy" in study.model.metrics else []
    _try_scores(study, model, look, loss, follow)
    if baseline is not None:
        _check_savable(model)
    if recipes:
        copy_model(model)  # as `prepare` will: it says why a model cannot be made again
    jobs = [_job(study, variant, recipes, model, dataset) for variant in study.variants]
    jobs[0] = dataclasses.replace(jobs[0], notes=about + jobs[0].notes)
    return Plan(study, dataset, dataset.summary(), model, baseline, loss, follow, head, jobs)


def _check_preset_fits(recipe: Recipe, preset: str) -> None:
    """Refuse a preset that contradicts the recipe's `Quantize`."""
    rules: list[Any] = [technique for technique in recipe if technique.name == "quantize"]
    for each in rules:
        check_fits(each.activations, rules_of(preset), min(rule.weights for rule in rules))


def _load_data(study: Study) -> Dataset:
    section = study.data
    dataset = data.load(
        section.source,
        validation=section.validation,
        image_size=section.image_size,
        seed=study.seed,
        root=study.root,
    )
    if dataset.train.y is None:  # and so in the other splits: `data.load` has checked
        raise StudyError(
            f"[data] source {section.source!r}",
            expected="samples with labels",
            received="samples without labels",
            fix="name a source that has labels",
        )
    return dataset


def _load_model(study: Study, dataset: Dataset) -> tuple[keras.Model, tuple[str, ...]]:
    """The model, and what is worth telling of it."""
    keras.utils.set_random_seed(study.seed)  # an untrained model's first weights
    shape = dataset.input_shape
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LitesmithWarning)
        model = models.load(
            study.model.source,
            study.model.arguments or None,
            root=study.root,
            input_shape=shape if isinstance(shape, tuple) else None,
            classes=dataset.num_classes,
        )
    for each in caught:
        if each.category is not LitesmithWarning:  # the user's own code may warn of something
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    notes = tuple(str(each.message) for each in caught if each.category is LitesmithWarning)
    return model, notes


def _is_file(source: str) -> bool:
    return Path(source).suffix in (".keras", ".h5", ".hdf5")


def _fit_loss(
    study: Study, model: keras.Model, dataset: Dataset, look: Split
) -> tuple[Any, losses.Head]:
    batch, _ = next(data.batches(look, _LOOK))
    try:
        outputs = losses.heads(model, batch)
    except Exception as error:  # noqa: BLE001  whatever Keras says of a wrong shape
        first = _gist(error)
        raise StudyError(
            "the data does not fit the model",
            expected=f"samples of shape {_shapes(model)}",
            received=f"{dataset.input_shape} from {study.data.source!r} ({first})",
            fix="check [data] source, or image_size",
        ) from error
    if len(outputs) > 1:  # a split holds one array of labels
        raise StudyError(
            f"[model] source {study.model.source!r}",
            expected="a model with one output",
            received=f"{len(outputs)} outputs: {', '.join(each.name for each in outputs)}",
            fix="name the output to study in a model of its own",
        )
    labels = [split.y for split in dataset.splits.values() if split.y is not None]
    for each in labels[1:]:  # a test split may hold a class that the training split lacks
        losses.loss_for(study.model.loss, outputs, each)
    return losses.loss_for(study.model.loss, outputs, labels[0]), outputs[0]


def _try_scores(
    study: Study, model: keras.Model, look: Split, loss: Any, follow: list[str]
) -> None:
    """Compute the loss and every metric once: whether they fit is seen before training."""
    assert look.y is not None
    answers = evaluation.predict(model, look)[0]
    try:
        for _, _, metric in metrics_by_output(study.model.metrics, []):
            metric.update(look.y, answers)  # not its result: so few samples may lack a class
    except Exception as error:  # noqa: BLE001  whatever a metric of Keras raises
        raise StudyError(f"[model] metrics: {_gist(error)}") from error
    # Compiled as for training, around the answers: the user's model is left as it is.
    judge = keras.Sequential([keras.Input(answers.shape[1:]), keras.layers.Identity()])
    judge.compile(loss=loss, metrics=follow, run_eagerly=True)
    try:
        judge.test_on_batch(answers, look.y)
    except Exception as error:  # noqa: BLE001  whatever a loss of Keras raises
        raise StudyError(
            "[model] loss",
            expected=f"one that takes labels of shape {look.y.shape[1:]} "
            f"and answers of shape {answers.shape[1:]}",
            received=f"{study.model.loss!r} ({_gist(error)})",
            fix='write loss = "auto"',
        ) from error


def _check_savable(model: keras.Model) -> None:
    """Refuse a model whose trained baseline could not be written."""
    try:
        json.dumps(keras.saving.serialize_keras_object(model))
    except Exception as error:
        raise ModelError(
            f"model {model.name!r} cannot be saved",
            expected="a model that its own get_config() can make again",
            received=" ".join(str(error).split())[:160],
            fix="give its class a get_config() that returns its constructor's arguments",
        ) from error


def _gist(error: Exception) -> str:
    """The line of a Keras error that says what is wrong: the first that names no place."""
    if isinstance(error, LitesmithError):
        return str(error)
    lines = [line.strip() for line in re.sub(r"\x1b\[\d+m", "", str(error)).splitlines()]
    telling = [line for line in lines if line and not line.startswith("Exception encountered")]
    return (telling or [type(error).__name__])[0][:160]


def _shapes(model: keras.Model) -> str:
    shape = getattr(model, "input_shape", None)
    return str(shape[1:] if isinstance(shape, tuple) and shape and shape[0] is None else shape)


def _job(
    study: Study,
    variant: Variant,
    recipes: dict[str, Recipe],
    model: keras.Model,
    dataset: Dataset,
) -> Job:
    seed = derived_seed(study.seed, variant.name)
    recipe = recipes.get(variant.name)
    if recipe is None:
        return Job(variant, None, None, seed)
    settings = study.fine_tuning(variant)
    with _named(variant.name):
        steps = settings.total_epochs * training.steps_per_epoch(len(dataset.train), settings)
        stages = tuple(split(recipe, settings, partial(study.fine_tuning, variant), steps))
        laid = Recipe(*(each for stage in stages for each in stage.recipe))
        if len(stages) == 1:
            laid = stages[0].recipe
        with warnings.catch_warnings():  # what it warns of is among the notes
            warnings.simplefilter("ignore", LitesmithWarning)
            report = laid.check(model, steps=steps)
    skipped: dict[tuple[str, str], list[str]] = {}
    for entry in report.skipped:
        skipped.setdefault((entry.technique, entry.reason), []).append(entry.layer)
    notes = [
        f"{technique} skipped {_few(layers)}: {reason}"
        for (technique, reason), layers in skipped.items()
    ]
    notes.extend(report.notes)
    if len(stages) > 1:
        parts = (
            f"{' and '.join(each.name for each in stage.recipe)} for {stage.steps:,}"
            for stage in stages
        )
        notes.append(f"trained in stages, by steps: {', then '.join(parts)}")
    return Job(variant, laid, settings, seed, steps, stages, tuple(notes))


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


@contextmanager
def _named(variant: str, place: str = "") -> Iterator[None]:
    """Begin the message of what is wrong inside with the variant it is wrong in."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{place or f'variant {variant!r}'}: {error}") from error
