"""The training half of a study: the baseline, and for each variant prepare, fine-tune, strip."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import keras

from litesmith import evaluation, files
from litesmith.comparison.results import VariantResult
from litesmith.errors import LitesmithWarning
from litesmith.recipe import prepare, strip
from litesmith.report import Report
from litesmith.study import teaching, training
from litesmith.study.plan import Job, Plan
from litesmith.study.progress import Event, Progress
from litesmith.study.settings import Training
from litesmith.study.store import EVENTS, Store, fingerprint
from litesmith.summaries import Summaries

# Times what is inside of it, and tells of it.
Phase = Callable[[VariantResult, str], AbstractContextManager[None]]


@dataclasses.dataclass
class Trained:
    """A Keras model that is ready to be exported, and what has been made of it so far."""

    model: keras.Model
    report: Report | None = None
    simulation: keras.Model | None = None  # where the file is simulated by the prepared model
    float_model: Any = None
    calibration: Any = None
    keras_metrics: dict[str, float] | None = None
    outputs: Any = None


class Trainer:
    """Trains what a plan asks for.

    Args:
        plan: the study's.
        store: where baseline, histories and stripped models go.
        pass_on: told what happens.
        phase: what times a phase of a variant.
    """

    def __init__(self, plan: Plan, store: Store, pass_on: Progress, phase: Phase):
        self.plan, self.store, self.study = plan, store, plan.study
        self.pass_on, self.phase = pass_on, phase
        self.seconds = 0.0  # that training the baseline took
        self.taught: tuple[Any, Any] | None = None

    def baseline(self, versions: dict[str, Any]) -> keras.Model:
        """The baseline: as its source gives it, or trained here, or trained here before."""
        settings = self.plan.baseline
        if settings is None:
            return self.plan.model
        path, record = self.store.folder / "baseline.keras", self.store.folder / "baseline.json"
        mark = fingerprint(
            source=self.plan.source(),
            data=self.plan.summary["sha256"],
            training=settings.model_dump(exclude={"distill"}),  # a baseline has no teacher
            loss=self.study.model.loss,
            seed=self.study.seed,
            versions=versions,
        )
        if not (self.store.resume and _is_baseline(path, record, mark)):
            self.pass_on(Event(kind="phase", name="baseline", text="training the baseline"))
            start = time.perf_counter()
            history = training.fit(
                self.plan.model,
                self.plan.data,
                settings,
                loss=self.plan.loss,
                metrics=self.plan.fit_metrics,
                seed=self.study.seed,
                name="baseline",
                progress=self.pass_on,
            )
            seconds = time.perf_counter() - start
            record.unlink(missing_ok=True)
            with files.atomic(path) as temporary:
                self.plan.model.save(temporary)
            content = {
                "fingerprint": mark,
                "sha256": files.sha256(path),
                "seconds": seconds,
                "history": history,
            }
            self.store.write_json(record, content)
        self.seconds = float(json.loads(record.read_text())["seconds"])
        # Also where it was trained just now: a resumed study starts from the very same state.
        self.plan.model.load_weights(path)
        return self.plan.model

    def variant(
        self, job: Job, result: VariantResult, folder: Path, baseline: keras.Model
    ) -> Trained:
        """Prepare, fine-tune and strip a copy of the baseline."""
        assert job.recipe is not None and job.training is not None
        keras.utils.set_random_seed(job.seed)
        result.timeline = "\n".join(str(stage.recipe) for stage in job.stages)
        self.store.log(f"{job.variant.name}: the recipe's time line\n{result.timeline}")
        model = baseline
        history: dict[str, list[float]] = {}
        samples = self.plan.data.train.take(self.study.data.calibration_samples).x
        for number, stage in enumerate(job.stages):
            with warnings.catch_warnings():  # the plan has noted what it warns of
                warnings.simplefilter("ignore", LitesmithWarning)
                with self.phase(result, "prepare"):
                    model = prepare(model, stage.recipe, steps=stage.steps, calibration=samples)
                    training.reseed(model, job.seed + number)
            if stage.steps:
                with self.phase(result, "fit"):
                    taught, loss = self._lesson(stage.training, result, baseline)
                    told = training.fit(
                        model,
                        taught,
                        stage.training,
                        loss=loss,
                        metrics=self.plan.fit_metrics,
                        seed=job.seed + number,
                        name=job.variant.name,
                        progress=self.pass_on,
                        callbacks=self._summaries(folder, number, len(job.stages)),
                        total=stage.steps,
                    )
                for name, values in told.items():
                    history.setdefault(name, []).extend(values)
                self.store.write_json(folder / "history.json", history)
        prepared = model
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", LitesmithWarning)
            stripped = strip(prepared)
        result.notes.extend(str(warning.message) for warning in caught)
        with files.atomic(folder / "stripped.keras") as temporary:
            stripped.save(temporary)
        simulates = any(technique.simulates for technique in job.recipe)
        return Trained(stripped, prepared.report, prepared if simulates else None)

    def _summaries(self, folder: Path, stage: int, stages: int) -> list[keras.callbacks.Callback]:
        """What writes the techniques' progress for TensorBoard, where the study asks for it."""
        if not self.study.tensorboard:
            return []
        if stage == 0:
            shutil.rmtree(folder / EVENTS, ignore_errors=True)  # of a run that did not end
        name = f"{EVENTS}/stage-{stage + 1}" if stages > 1 else EVENTS
        return [Summaries(folder / name, metrics=True)]

    def _lesson(
        self, settings: Training, result: VariantResult, baseline: keras.Model
    ) -> tuple[Any, Any]:
        """The data and the loss to fine-tune with: the baseline's answers beside the labels."""
        plan = self.plan
        if not settings.distill:
            return plan.data, plan.loss
        if not teaching.affordable(len(plan.data.train), plan.head):
            result.notes.append("not distilled: the baseline's answers would take over a gigabyte")
            return plan.data, plan.loss
        if self.taught is None:
            with evaluation.runner(baseline) as teacher:
                answers = evaluation.predict(teacher, plan.data.train)[0]
            self.taught = teaching.lesson(plan.data, plan.head, answers, self.study.model.loss)
        return self.taught


@contextmanager
def timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    """Add the seconds that what is inside takes, under a name."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[what] = round(seconds.get(what, 0.0) + time.perf_counter() - start, 4)


def _is_baseline(path: Path, record: Path, mark: str) -> bool:
    """Whether the folder holds the baseline that would be trained now, whole."""
    try:
        content = json.loads(record.read_text())
        return content["fingerprint"] == mark and files.sha256(path) == content["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
