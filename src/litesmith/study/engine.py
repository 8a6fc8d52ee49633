"""The local engine: runs a plan on this machine, one variant after the other."""

from __future__ import annotations

import gc
import os
import shlex
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import keras

from litesmith import evaluation, files
from litesmith._version import __version__
from litesmith.benchmarking import benchmark
from litesmith.benchmarking.machine import machine
from litesmith.comparison import compare
from litesmith.comparison.results import Latency, Memory, Size, StudyResult, VariantResult
from litesmith.errors import LitesmithError, OutputError
from litesmith.export import calibrate, convert, export
from litesmith.export.presets import CALIBRATED
from litesmith.study import changed, fidelity, histograms, measure
from litesmith.study.file import Study
from litesmith.study.plan import Job, Plan, make_plan
from litesmith.study.progress import Event, Kind, Progress
from litesmith.study.replay import Recorder, Replay
from litesmith.study.store import Store, fingerprint
from litesmith.study.trainer import Trained, Trainer, timed

BUILTIN = "builtin:digits"  # what runs where no file is named
_PHASES = ("prepare", "fit", "export", "evaluate", "benchmark")
_VERSIONS = ("keras", "tensorflow", "jax", "torch", "ai-edge-litert", "litert-quantizer", "numpy")


def run(
    study: Study | str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    resume: bool = False,
    progress: Progress | None = None,
) -> StudyResult:
    """Run a study: train, prepare, export, evaluate and measure every variant, and report.

    A variant that fails is recorded with its error and does not end the others. Each variant
    starts from the baseline's weights with a fresh optimizer and a seed of its own, so results
    depend neither on the order of the variants nor on interruptions.

    Args:
        study: a `Study`, the path of a study file, or `"builtin:digits"`.
        output: the folder that everything is written to.
        resume: go on with the study that is there; what is finished is not done again.
        progress: told what happens.

    Returns:
        What `study.json` holds.

    Raises:
        InputError: the study, its model or its data is wrong, or the folder is in use. Nothing
            was trained or written.
    """
    command = ["litesmith", "study", "-o", os.fspath(output)]
    if isinstance(study, Study):
        command[2:2] = study.arguments
    if not isinstance(study, Study):
        if os.fspath(study) != BUILTIN:
            command.insert(2, os.fspath(study))
        study = Study.load(study)
    store = Store(output, resume=resume)
    store.check()
    plan = make_plan(study)
    with store.opened():
        engine = _Engine(plan, store, progress or (lambda event: None), shlex.join(command))
        return engine.run()


class _Engine:
    def __init__(self, plan: Plan, store: Store, progress: Progress, command: str):
        self.plan, self.store, self.progress, self.command = plan, store, progress, command
        self.study = plan.study
        self.versions = {name: _version(name) for name in _VERSIONS}
        self.versions |= {"litesmith": __version__, "backend": keras.backend.backend()}
        # The baseline's conversion and calibration serve many variants, and are charged to none.
        self.seconds = {"convert": 0.0, "calibrate": 0.0}
        self.trainer = Trainer(plan, store, self._pass_on, self._phase)
        self.weights: histograms.Weights | None = None  # the baseline's, folded
        self.changes = changed.Changes(plan.head.kind, plan.data.test)

    def run(self) -> StudyResult:
        jobs = self.plan.jobs
        self._tell("study", text=f"{len(jobs)} variants of {self.study.model.source}")
        if self.study.text is not None:
            files.write_text(self.store.folder / "study.toml", self.study.text)
        self.result = self._result()
        self.store.save(self.result)
        self.baseline = Trained(self.trainer.baseline(self.versions))
        if self.plan.baseline is not None:
            self.seconds["baseline"] = self.trainer.seconds
        self.identity = self._identity()
        for number, job in enumerate(jobs, 1):
            self._tell("variant", job.variant.name, number=number, total=len(jobs))
            self.result.variants.append(self._variant(job))
            self.store.save(self.result)
            gc.collect()  # the variant's models and their compiled functions
        self._report()
        return self.result

    def _identity(self) -> dict[str, Any]:
        """What a finished variant depends on, apart from its own settings."""
        return {
            "source": self.plan.source(),
            "weights": measure.weights_hash(self.baseline.model),
            "data": self.plan.summary["sha256"],
            "calibration_samples": self.study.data.calibration_samples,
            "loss": self.study.model.loss,
            "metrics": self.study.model.metrics,
            "versions": self.versions,
        }

    # ----------------------------------------------------------------- one variant

    def _variant(self, job: Job) -> VariantResult:
        """Make a variant, take it from an earlier run, or record why it cannot be made."""
        name = job.variant.name
        mark = fingerprint(
            **self.identity,
            recipe=job.recipe.to_dict() if job.recipe else None,
            quantize=job.variant.quantize,
            sparse=job.variant.sparse,
            training=job.training.model_dump() if job.training else None,
            seed=job.seed,
        )
        found = self.store.finished(name, mark)
        if found is not None:
            self._tell("reused", name, measure.summary(found))
            return found
        self.store.forget_variant(name)
        about = job.variant.model_dump(include={"name", "recipe", "quantize", "sparse"})
        result = VariantResult.model_validate({**about, "seed": job.seed})
        result.seconds = dict.fromkeys(_PHASES, 0.0)
        try:
            self._make(job, result)
        except OutputError:  # the disk is full: nothing more could be recorded
            raise
        except Exception as error:  # noqa: BLE001  one variant's failure does not end the others
            self.store.log(traceback.format_exc())
            first = (str(error).strip().splitlines() or [""])[0]
            ours = type(error).__module__.startswith("litesmith.")
            result.status = "failed"
            result.error = (first if ours else f"{type(error).__name__}: {first}")[:500]
            self._tell("failed", name, result.error)
        else:
            self._tell("done", name, measure.summary(result))
        self.store.save_variant(result, mark)
        return result

    def _make(self, job: Job, result: VariantResult) -> None:
        folder = self.store.variant(job.variant.name)
        result.notes.extend(job.notes)
        if job.recipe is None:
            trained = self.baseline
            self._convert(job, trained, self.seconds)
        else:
            trained = self.trainer.variant(job, result, folder, self.baseline.model)
        with self._phase(result, "export"):
            self._convert(job, trained, {})
            artifact = self._export(job, trained, folder / "model.tflite")
        with self._phase(result, "evaluate"):
            self._evaluate(trained, artifact, result)
            self._fidelity(job, trained, artifact, result)
        with self._phase(result, "benchmark"):
            speed = benchmark(artifact)
        result.size = Size.model_validate(speed.size)
        result.latency_ms = Latency.model_validate(speed.latency_ms)
        result.memory = Memory.model_validate(speed.memory)
        result.load_ms = speed.load_ms
        result.layers = measure.layers(artifact.manifest.kernels, trained.report)
        if job.recipe is not None:
            self._histograms(artifact, result)
        result.sparsity = measure.sparsity(result.layers)
        result.unique_weights = measure.unique_weights(result.layers, trained.report)
        if artifact.manifest.sparse is not None:
            result.dense_size = artifact.manifest.sparse.dense_size
        result.notes.extend(measure.export_notes(artifact.manifest))
        result.artifact = self.store.relative(Path(artifact.path))
        result.sha256 = artifact.sha256

    def _convert(self, job: Job, trained: Trained, seconds: dict[str, float]) -> None:
        """Convert and, where the preset needs it, calibrate: both once a Keras model."""
        if trained.float_model is None:
            with timed(seconds, "convert"):
                trained.float_model = convert(trained.model)
        wanted = job.variant.quantize in CALIBRATED and trained.float_model.trained is None
        if wanted and trained.calibration is None:
            samples = self.study.data.calibration_samples
            with timed(seconds, "calibrate"):
                trained.calibration = calibrate(
                    trained.float_model, self.plan.data.train.take(samples).x, samples=samples
                )

    def _export(self, job: Job, trained: Trained, path: Path) -> Any:
        """Write the `.tflite`."""
        return export(
            trained.float_model,
            path,
            quantize=job.variant.quantize,
            calibration=trained.calibration,
            sparse=job.variant.sparse,
        )

    def _histograms(self, artifact: Any, result: VariantResult) -> None:
        """How training changed each kernel's weights, both as a `.tflite` has them."""
        if self.weights is None:
            if self.baseline.float_model is None:  # the baseline's variant was made earlier
                self.baseline.float_model = convert(self.baseline.model)
            source = self.baseline.float_model
            self.weights = histograms.weights(source.content, source.kernels)
        after = histograms.weights(Path(artifact.path).read_bytes(), artifact.manifest.kernels)
        histograms.add(result.layers, after, self.weights)

    def _evaluate(self, trained: Trained, artifact: Any, result: VariantResult) -> None:
        """Score the `.tflite` and its Keras model on the test split."""
        test, metrics = self.plan.data.test, self.study.model.metrics
        if trained.outputs is None:
            with evaluation.runner(trained.simulation or trained.model) as opened:
                outputs = evaluation.predict(opened, test)
                answers = Replay(trained.model.name, outputs, opened.outputs)
            trained.keras_metrics = evaluation.evaluate(answers, test, metrics).metrics
            trained.outputs = answers.recorded, answers.outputs
        keras_answers = Replay(trained.model.name, *trained.outputs)
        with evaluation.runner(artifact) as opened:
            recorder = Recorder(opened)
            scored = evaluation.evaluate(recorder, test, metrics, reference=keras_answers)
        if result.name == "baseline":
            self.changes.before(recorder.answers)
        else:
            first = self.result.variants[0].artifact  # the baseline's; None where it failed
            made = None if first is None else self.store.folder / first
            result.changed = self.changes.of(recorder.answers, made)
        result.metrics = dict(scored.metrics)
        result.keras_metrics = dict(trained.keras_metrics or {})
        result.agreement = scored.agreement

    def _fidelity(self, job: Job, trained: Trained, artifact: Any, result: VariantResult) -> None:
        """Compare an integer file with what its training simulated."""
        if trained.simulation is not None and job.variant.quantize in CALIBRATED:
            test = self.plan.data.test.take(fidelity.SAMPLES)
            try:
                result.fidelity = fidelity.measure(
                    trained.simulation, trained.float_model, artifact, test.x
                )
            except LitesmithError as error:  # the file is good; only the table lacks it
                result.notes.append(f"fidelity was not measured: {error}")

    # ----------------------------------------------------------------- the study

    def _result(self) -> StudyResult:
        model = self.plan.model
        about = {
            "source": self.study.model.source,
            "name": model.name,
            "parameters": model.count_params(),
            "metrics": list(self.study.model.metrics),
            "trained": "by the study" if self.plan.baseline is not None else "as given",
        }
        return StudyResult.model_validate(
            {
                "schema": 1,
                "command": self.command,
                "litesmith": __version__,
                "keras": keras.__version__,
                "backend": keras.backend.backend(),
                "machine": machine(),
                "model": about,
                "data": self.plan.summary,
                "study": self.study.model_dump(mode="json", exclude_none=True),
                "versions": self.versions,
                "seconds": self.seconds,
            }
        )

    def _report(self) -> None:
        compared = compare(self.result)
        for name in ("report.html", "report.md"):
            compared.save(self.store.folder / name)
        self._tell("report", text=str(self.store.folder / "report.html"))

    @contextmanager
    def _phase(self, result: VariantResult, phase: str) -> Iterator[None]:
        self._tell("phase", result.name, phase)
        with timed(result.seconds, phase):
            yield

    def _tell(
        self, kind: Kind, name: str = "", text: str = "", *, number: int = 0, total: int = 0
    ) -> None:
        self._pass_on(Event(kind=kind, name=name, text=text, number=number, total=total))

    def _pass_on(self, event: Event) -> None:
        place = f" {event.number}/{event.total}" if event.total else ""
        self.store.log(f"{event.name or 'study'}: {event.kind}{place} {event.text}")
        self.progress(event)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
