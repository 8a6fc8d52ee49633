"""The study file: a model, data, and the variants to make of it.

Every field but the two sources has a default, so the shortest study is

    [model]
    source = "model.keras"
    [data]
    source = "digits"

Unknown fields, wrong types and impossible values are refused with one line that names the place.
What needs the model, the data or the recipes to be judged is checked in `litesmith.study.plan`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Self

from pydantic import (
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from litesmith.errors import StudyError, did_you_mean
from litesmith.study import presets
from litesmith.study.settings import BASELINE_POLICY, FINE_TUNE_POLICY, Section, Training
from litesmith.study.wording import one_line

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


class ModelSection(Section):
    """`[model]`: where the model comes from and how it is judged.

    Attributes:
        source: a `.keras` or `.h5` file, `builtin:NAME`, `applications:NAME` or `module:function`.
        arguments: handed to `applications:` and `module:` sources.
        loss: `"auto"`, or the name of a Keras loss.
        metrics: names that `litesmith.evaluate` takes.
    """

    source: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    loss: str = "auto"
    metrics: list[str] = Field(default=["accuracy"], min_length=1)


class DataSection(Section):
    """`[data]`: where the data comes from.

    Attributes:
        source: `digits`, `idx:DIR`, `npz:FILE`, `images:DIR`, `keras:NAME`, `tfds:NAME` or
            `module:function`.
        validation: share of the training data held back where the source has no such split,
            above 0.
        calibration_samples: how many training samples give post-training ranges.
        image_size: height and width, for `images:` and `tfds:`.
    """

    source: str
    validation: float = Field(default=0.1, gt=0, lt=1)
    calibration_samples: int = Field(default=200, ge=1)
    image_size: tuple[int, int] | None = None


# A network that the study trained itself is known to bear its baseline's learning rate. Much more,
# for a short time and decaying, is what lets one that lost most of its weights recover; of a model
# that comes trained nobody has told the rate, so it gets the policy's (docs/decisions.md). How much
# warmer is the technique's to say (`Technique.warmth`).
_WARMEST = 8e-3


def _warmth(recipe: Any) -> float:
    from litesmith.recipe import Recipe

    return max((each.warmth for each in Recipe.of(recipe)), default=1.0)


class Variant(Section):
    """`[[variant]]`: one thing to make of the baseline.

    Attributes:
        name: unique in the study, and fit to be the name of a folder.
        recipe: techniques as `Recipe.to_dict` writes them; empty for post-training only. A
            `Recipe` object is taken too.
        quantize: an export preset.
        sparse: whether weights are stored without their zeros where that makes the file smaller.
        distill: short for `fine_tune = { distill = … }`.
        fine_tune: overrides of `[fine_tune]`.
    """

    name: str
    recipe: list[dict[str, Any]] = Field(default_factory=list)
    quantize: str = "float32"
    sparse: bool = False
    distill: bool | None = None
    fine_tune: Training = Field(default_factory=Training)

    @field_validator("recipe", mode="before")
    @classmethod
    def _plain_recipe(cls, value: Any) -> Any:
        if hasattr(value, "to_dict"):
            value = value.to_dict()
        if isinstance(value, Mapping):
            from litesmith.recipe import Recipe  # needs Keras

            Recipe.from_dict(value)  # of this version, or an error
            value = value["techniques"]
        return value

    @field_validator("name")
    @classmethod
    def _file_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value) or value.endswith("."):
            raise ValueError(
                "a name that can be a folder's: up to 64 letters, digits and . _ + -, "
                "beginning with a letter or a digit"
            )
        return value


class Study(Section):
    """A whole study; `Study.load` reads one from a file.

    Attributes:
        seed: each variant derives its own from it and from its name.
        model: where the model comes from.
        data: where the data comes from.
        baseline: how to train a model that is not trained yet; None where it is.
        fine_tune: how variants whose recipe trains are trained.
        preset: "size", "speed", "balanced" or "tour": variants beside the study's own
            (`litesmith.study.presets`); one of the study's own goes before one of its name.
        variant: what to make; a `baseline` in float32 is put first unless one is named.
        tensorboard: whether each variant that trains writes its progress for TensorBoard, into
            `variants/NAME/tensorboard`.
    """

    seed: int = Field(default=0, ge=0, lt=2**32)
    model: ModelSection
    data: DataSection
    baseline: Training | None = None
    fine_tune: Training = Field(default_factory=Training)
    preset: str | None = None
    variant: list[Variant] = Field(default_factory=list)
    tensorboard: bool = False

    _root: Path = PrivateAttr(default_factory=Path.cwd)
    _text: str | None = PrivateAttr(default=None)
    _arguments: tuple[str, ...] = PrivateAttr(default=())

    @field_validator("preset")
    @classmethod
    def _known_preset(cls, value: str | None) -> str | None:
        return None if value is None else presets.check(value)

    @property
    def root(self) -> Path:
        """The folder that relative paths start from."""
        return self._root

    @property
    def text(self) -> str | None:
        """The file as it was written; None for a study made in Python."""
        return self._text

    @property
    def arguments(self) -> tuple[str, ...]:
        """Of the command that makes it, where it is made without a file."""
        return self._arguments

    @property
    def variants(self) -> list[Variant]:
        """All variants, the baseline first, those of the preset last."""
        named = [variant for variant in self.variant if variant.name == "baseline"]
        others = [variant for variant in self.variant if variant.name != "baseline"]
        if self.preset is not None:
            own = {variant.name.casefold() for variant in self.variant}
            made = (Variant.model_validate(each) for each in presets.variants(self.preset))
            others += [variant for variant in made if variant.name not in own]
        return [*(named or [Variant(name="baseline")]), *others]

    def with_preset(self, name: str, file: str | None = None) -> Study:
        """This study with the variants of a preset beside its own.

        Args:
            name: of the preset.
            file: what the command that is to be told of calls this study's file.

        Raises:
            StudyError: no such preset, or the study names one already.
        """
        if self.preset is not None:
            raise StudyError(
                "--preset",
                expected="a study that names no preset",
                received=f"preset = {self.preset!r} in the file",
                fix="leave one of the two out",
            )
        made = self.model_copy(update={"preset": presets.check(name)})
        if self._text is not None:
            made._text = f"preset = {name!r}\n{self._text}"
        made._arguments = (*([file] if file else []), "--preset", name)
        return made

    def fine_tuning(self, variant: Variant, recipe: Any = None, least: float = 0.0) -> Training:
        """How `variant` is trained: its own settings over the study's over the default policy.

        Args:
            variant: one of the study's.
            recipe: the part of its recipe that is trained; None for all of it.
            least: how warm the policy is at least (`Technique.warmth`).

        Raises:
            StudyError: learning rates do not fit epochs.
        """
        own = variant.fine_tune
        if variant.distill is not None:
            own = own.model_copy(update={"distill": variant.distill})
        policy = self._policy(variant.recipe if recipe is None else recipe, least)
        return own.over(self.fine_tune.over(policy))

    @property
    def training(self) -> Training | None:
        """How the model is trained before anything else; None where it comes trained."""
        if self.baseline is not None:
            return self.baseline.over(BASELINE_POLICY)
        source, given = self.model.source, self.model.arguments
        untrained = given.get("transfer") or not given.get("weights")
        if source.startswith("builtin:") or (source.startswith("applications:") and untrained):
            return BASELINE_POLICY
        return None

    def _policy(self, recipe: Any, least: float) -> Training:
        """The policy for fine-tuning, warmer where the study trained the network itself."""
        warmth = max(least, _warmth(recipe))
        trained = self.training
        assert isinstance(FINE_TUNE_POLICY.learning_rate, float)
        rate = min(warmth, 1.0) * FINE_TUNE_POLICY.learning_rate
        if trained is not None and trained.optimizer == FINE_TUNE_POLICY.optimizer:
            rate = min(warmth * max(rate for _, rate in trained.stages), _WARMEST)
        return FINE_TUNE_POLICY.model_copy(update={"learning_rate": rate})

    @model_validator(mode="after")
    def _check_variants(self) -> Self:
        if self.baseline is not None and self.baseline.distill:
            raise ValueError("[baseline] distill to be false: the baseline is the teacher")
        seen: dict[str, str] = {}
        for variant in self.variant:
            key = variant.name.casefold()
            if key in seen:  # some file systems know no capitals
                raise ValueError(
                    "variant names that differ by more than capitals, received "
                    f"{seen[key]!r} and {variant.name!r}"
                )
            seen[key] = variant.name
            plain = not variant.recipe and variant.quantize == "float32" and not variant.sparse
            if variant.name == "baseline" and not plain:
                raise ValueError(
                    "the variant 'baseline' to have no recipe, quantize = \"float32\" and "
                    "sparse = false, since all others are compared with it"
                )
        return self

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Study:
        """Read a study file.

        Args:
            path: a TOML file; relative paths in it start from its folder. `builtin:digits` names
                the study that ships with litesmith.

        Raises:
            StudyError: the file cannot be read, is no TOML, or says something that is wrong.
        """
        source = os.fspath(path)
        if source.startswith("builtin:"):
            name = source.removeprefix("builtin:")
            folder = resources.files("litesmith.study") / "builtin"
            names = [Path(f.name).stem for f in folder.iterdir() if f.name.endswith(".toml")]
            if name not in names:
                raise StudyError(
                    "unknown built-in study", received=name, fix=did_you_mean(name, sorted(names))
                )
            return cls.parse((folder / f"{name}.toml").read_text("utf-8"), source, Path.cwd())
        file = Path(path)
        if file.is_dir() or not file.exists():
            raise StudyError(
                "study file",
                expected="the path of a TOML file",
                received=f"{source} ({'a folder' if file.is_dir() else 'no such file'})",
                fix="docs/study.md has an example; leave it out to run the built-in study",
            )
        if file.suffix in (".keras", ".h5", ".hdf5", ".tflite"):
            raise StudyError(
                "study file",
                expected="a TOML file",
                received=f"the model {source}",
                fix=f"write --model {source} --data DATA, with a --preset",
            )
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "bytes that are no UTF-8"
            raise StudyError(
                source,
                expected="a TOML file that can be read",
                received=(why or str(error)).lower(),
                fix="write it as UTF-8 text, as in docs/study.md",
            ) from None
        return cls.parse(text, file.name, file.resolve().parent)

    @classmethod
    def parse(cls, text: str, name: str, root: Path) -> Study:
        """Read a study from TOML text.

        Args:
            text: the TOML.
            name: what errors call the file.
            root: the folder that relative paths start from.

        Raises:
            StudyError: the text is no TOML or says something that is wrong.
        """
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise StudyError(
                name,
                expected="valid TOML",
                received=str(error),
                fix="mend that place; docs/study.md has an example",
            ) from None
        study = cls.from_dict(content, name)
        study._root, study._text = root, text
        return study

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], name: str = "study") -> Study:
        """Read a study from a dictionary laid out as the file is.

        Raises:
            StudyError: a field is unknown, missing or wrong.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise one_line(error, cls, content, name) from None
