"""How a study trains: `[baseline]`, `[fine_tune]`, and what holds where they say nothing."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from litesmith.errors import StudyError


class Section(BaseModel):
    """A table of the study file: what it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False)


class Training(Section):
    """How long and how fast to train; the fields of `[baseline]` and `[fine_tune]`.

    Attributes:
        epochs: a number, or one a stage.
        learning_rate: a number, or one a stage (constant within the stage).
        batch_size: samples a step.
        optimizer: the name of a Keras optimizer.
        decay: `"cosine"` takes a single learning rate up over the first 5 % of the steps and then
            down to zero (Loshchilov & Hutter 2017); `"none"` keeps it.
        distill: whether the baseline's answers teach beside the labels; for fine-tuning only.
    """

    epochs: int | list[int] | None = None
    learning_rate: float | list[float] | None = None
    batch_size: int | None = Field(default=None, ge=1)
    optimizer: str | None = None
    decay: Literal["cosine", "none"] | None = None
    distill: bool | None = None

    @field_validator("epochs")
    @classmethod
    def _whole_epochs(cls, value: int | list[int] | None) -> int | list[int] | None:
        stages = value if isinstance(value, list) else [] if value is None else [value]
        if value == [] or any(stage < 0 for stage in stages):
            raise ValueError("a number of epochs from 0, or a list of them")
        return value

    @field_validator("learning_rate")
    @classmethod
    def _positive_rate(cls, value: float | list[float] | None) -> float | list[float] | None:
        stages = value if isinstance(value, list) else [] if value is None else [value]
        if value == [] or any(stage <= 0 for stage in stages):
            raise ValueError("a learning rate above 0, or a list of them")
        return value

    @model_validator(mode="after")
    def _same_stages(self) -> Self:
        if isinstance(self.learning_rate, list):
            count = len(self.epochs) if isinstance(self.epochs, list) else 1
            if self.epochs is not None and len(self.learning_rate) != count:
                raise ValueError(
                    f"as many learning rates as stages of epochs ({count}), "
                    f"received {len(self.learning_rate)}"
                )
        return self

    def over(self, base: Training) -> Training:
        """These settings, and those of `base` where nothing is set here.

        `base`'s learning rates give way to their first where they do not fit epochs given here.

        Args:
            base: every field set.

        Raises:
            StudyError: learning rates given here do not fit the epochs of `base`.
        """
        merged = {
            name: getattr(self, name) if getattr(self, name) is not None else getattr(base, name)
            for name in Training.model_fields
        }
        rates, epochs = merged["learning_rate"], merged["epochs"]
        stages = len(epochs) if isinstance(epochs, list) else 1
        if isinstance(rates, list) and len(rates) != stages:
            if self.learning_rate is not None:
                raise StudyError(
                    "learning_rate",
                    expected=f"as many as stages of epochs ({stages}: epochs = {epochs})",
                    received=f"{len(rates)}",
                    fix="give epochs as a list of the same length",
                )
            merged["learning_rate"] = rates[0]
        return Training(**merged)

    @property
    def stages(self) -> list[tuple[int, float]]:
        """Epochs and learning rate of each stage, once every field is set."""
        assert self.epochs is not None and self.learning_rate is not None
        epochs = self.epochs if isinstance(self.epochs, list) else [self.epochs]
        rates = self.learning_rate
        rates = rates if isinstance(rates, list) else [rates] * len(epochs)
        return list(zip(epochs, rates, strict=True))

    @property
    def total_epochs(self) -> int:
        """Epochs of all stages together."""
        return sum(epochs for epochs, _ in self.stages)


BASELINE_POLICY = Training(
    epochs=[8, 2],
    learning_rate=[1e-3, 1e-4],
    batch_size=128,
    optimizer="adam",
    decay="none",
    distill=False,
)
FINE_TUNE_POLICY = Training(
    epochs=3, learning_rate=1e-3, batch_size=128, optimizer="adam", decay="cosine", distill=True
)
