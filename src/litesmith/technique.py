"""What a technique is: settings that choose kernels and make parametrizations for them.

To add one: a frozen keyword-only dataclass derived from `Technique` with a `name`, and a
`Parametrization`. Defining the class registers it; `litesmith.testing.check_technique` tells
whether it keeps the contract.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import keras
import numpy as np

from litesmith import selection
from litesmith.errors import RecipeError
from litesmith.options import Option
from litesmith.parametrize import Kernel, Parametrization

# Rooms whose techniques a recipe's file may name without anyone having imported them.
ROOMS = ("litesmith.clustering", "litesmith.pruning", "litesmith.quantization")

BY_DEFAULT = frozenset({"conv", "dense", "recurrent"})
WHEN_ASKED = frozenset({"depthwise", "embedding", "other"})


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a technique will do to one kernel.

    Attributes:
        kernel: the kernel.
        reason: why it is skipped; "" where it is taken.
        settings: what the parametrization needs to know beyond the technique's fields.
        detail: figures for the report, JSON-able.
    """

    kernel: Kernel
    reason: str = ""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    detail: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Wiring:
    """What a technique does to what layers take and give.

    Attributes:
        plans: its plans again, with what their parametrizations need to know of it.
        taps: by the number of the outermost layer, each site (`parametrize.Place.site`) and the
            tap (`parametrize.Tap`) to put there.
        notes: for the report.
        incomplete: whether something is left out; an error with `strict`.
    """

    plans: list[dict[int, Plan]]
    taps: dict[int, list[tuple[dict[str, Any], Any]]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    incomplete: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Technique(Option):
    """Base of the techniques.

    Args:
        where: which layers it is about: a regular expression matched in full against the layer's
            path, a layer class, a predicate, or a list of these. None takes every kernel: conv,
            dense, einsum-dense, recurrent, attention. Depthwise kernels, embeddings and a custom
            layer's other weights are taken where a `where` matches them; biases and norms never.

    Raises:
        RecipeError: a `where` that is none of these.
    """

    family: ClassVar[str] = "technique"
    key: ClassVar[str] = "technique"
    # Whether its plans want to know what scales a kernel's outputs (`Kernel.scale`).
    asks_scales: ClassVar[bool] = False
    # Whether the first of its kind in a recipe that takes a kernel has it for itself.
    exclusive: ClassVar[bool] = False
    # By name, the techniques whose promise about a kernel it would break coming after, and how.
    breaks: ClassVar[Mapping[str, str]] = {}

    where: Any = None

    @classmethod
    def registered(cls) -> dict[str, type[Option]]:
        """The techniques, by name: litesmith's own and those that were imported."""
        for room in ROOMS:
            importlib.import_module(room)
        return super().registered()

    def __post_init__(self) -> None:
        object.__setattr__(self, "where", selection.normalize(self.where))

    def field_to_dict(self, field: str, value: Any) -> Any:
        """One field's value as JSON has it."""
        if field == "where":
            return selection.to_data(value)
        return super().field_to_dict(field, value)

    @classmethod
    def field_from_dict(cls, field: str, value: Any) -> Any:
        """One field's value from JSON."""
        return selection.from_data(value) if field == "where" else value

    def selects(self, kernel: Kernel) -> bool:
        """Whether `where`, or the default, is about this kernel."""
        if self.where is None:
            return kernel.kind in BY_DEFAULT
        return any(selection.matches(self.where, path, layer) for path, layer in kernel.owners)

    def plan(self, kernels: Sequence[Kernel]) -> list[Plan]:
        """Decide what to do to the selected kernels of a model, seen together.

        Args:
            kernels: those that `selects` is true for, in the model's order.

        Returns:
            One plan a kernel.
        """
        return [Plan(kernel) for kernel in kernels]

    def informed(
        self, model: keras.Model, plans: Mapping[int, Plan], samples: Sequence[Any]
    ) -> Mapping[int, Plan]:
        """The plans, with what some data say of the model added to their settings.

        Args:
            model: the model to prepare, which must not be changed.
            plans: those that are not skipped, by the kernel's place in `find_kernels(model)`.
            samples: batches of inputs as the model takes them, numpy.
        """
        return plans

    def parametrization(self, plan: Plan, name: str, calls_per_step: int) -> Parametrization:
        """Make the layer that does it.

        Args:
            plan: one that is not skipped.
            name: the parametrization's name.
            calls_per_step: how often a training step calls the layer.
        """
        raise NotImplementedError(f"{type(self).__name__} must define parametrization(…)")

    @property
    def simulates(self) -> bool:
        """Whether the prepared model does what only the `.tflite` will do, and `strip` leaves out.

        Such a model is to be compared with the file, and the stripped one is not the same.
        """
        return False

    @classmethod
    def wire(
        cls, model: keras.Model, taken: Sequence[tuple[Technique, Mapping[int, Plan]]]
    ) -> Wiring:
        """Decide what passes through a function besides weights.

        Args:
            model: a plain copy of the model, which must not be changed.
            taken: the techniques of this class in the recipe, and their plans by the kernel's
                place in `find_kernels(model)`.
        """
        return Wiring([dict(plans) for _, plans in taken])

    def broken_promise(self, values: np.ndarray, plan: Plan, *, finished: bool) -> str | None:
        """What is broken of what the technique promised for a weight, or None.

        The contract asks this of the weight as Keras uses it and as the `.tflite` stores it.

        Args:
            values: the weight that is used; of the kernel's shape, or flat and in another order
                where it comes from a `.tflite`.
            plan: the kernel and the report's figures.
            finished: whether training has gone past the schedule.
        """
        raise NotImplementedError(f"{type(self).__name__} must define broken_promise(…)")

    @property
    def warmth(self) -> float:
        """How many times the baseline's highest learning rate serves it best in a short run.

        A study goes by the largest in a recipe: what loses most has the longest way back.
        """
        return 8.0

    @property
    def wants_settled_weights(self) -> bool:
        """Whether it starts best from weights that techniques before it have finished changing."""
        return False

    def laid_out(self, steps: int, after: int = 0) -> Self:
        """The same technique with a schedule along this many training steps, where it has none.

        Args:
            steps: training steps in all.
            after: the step by which the techniques before it have come to rest.
        """
        return self

    @property
    def keeps_zeros(self) -> bool:
        """Whether zeros that a kernel comes with are zeros afterwards."""
        return False

    @property
    def span(self) -> tuple[int, int | None]:
        """Training steps at which it begins and comes to rest; None where it never does."""
        return 0, 0

    @property
    def label(self) -> str:
        """What it does to a kernel, in a few words."""
        return "done from the first step on"

    def resume(self, kernel: Kernel, detail: Mapping[str, Any]) -> tuple[Technique, Plan] | None:
        """How it goes on with a kernel of a stripped model, so that what it promised stays.

        Args:
            kernel: of the model that was stripped; its values are those that were baked.
            detail: the report's figures for it.

        Returns:
            The technique, its training behind it, and its plan; None where it does not go on.
        """
        return None

    def settled(self, steps: int | None) -> Self:
        """The same technique with steps where its fields are shares of a run of so many."""
        return self

    def notes(self, steps: int | None) -> list[str]:
        """What is wrong with this technique in a training run of so many steps, for the report."""
        return []


def check_technique_value(value: Any) -> Technique:
    """A technique, or what a file says of one.

    Raises:
        RecipeError: it is neither.
    """
    if isinstance(value, Technique):
        return value
    if isinstance(value, dict):
        return Technique.from_dict(value)
    if isinstance(value, type) and issubclass(value, Technique):
        raise RecipeError(
            "recipe",
            expected="techniques with their settings",
            received=value.__name__,
            fix=f"write {value.__name__}(…)",
        )
    raise RecipeError("recipe", expected="techniques", received=value)
