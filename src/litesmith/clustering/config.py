"""`Cluster`: how many values, how they are found, and how they follow training."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import keras
import numpy as np

from litesmith.clustering import moments
from litesmith.clustering.core import group_ids
from litesmith.clustering.initialization import INITIALIZATIONS
from litesmith.clustering.parametrization import Codebook
from litesmith.errors import RecipeError
from litesmith.granularity import (
    Granularity,
    PerChannel,
    PerChannelGroup,
    PerTensor,
    granularity_from,
)
from litesmith.options import whole_number
from litesmith.parametrize import Kernel
from litesmith.technique import Plan, Technique
from litesmith.timeline import settled

# Where a study lays the recipe out, assignments stay as they are after this share of training: of
# few clusters later, since most of what they lose is won back by weights that change theirs.
FROZEN_SHARE, FEW, FROZEN_SHARE_OF_FEW = 0.5, 4, 0.8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster(Technique):
    """Weight clustering (Han et al., "Deep compression", 2016): at most K distinct values a kernel.

    Each weight is one of K centroids wherever the layer uses it. Where a BatchNorm follows, that
    is true of the folded kernel, w·γ/σ, which is what the `.tflite` holds.

    Args:
        where: see `Technique`.
        clusters: K, 2 to 256: distinct values in a kernel (or channel, or group of channels).
        initialization: "optimal" (k-means of least squared error), "linear", "density", "random"
            or "kmeans++".
        granularity: what shares a codebook: `PerTensor()`, `PerChannel()` (output channels), or
            `PerChannelGroup(8)`.
        assignment: "nearest" moves each weight, as it is stored and trained, to the neighbouring
            centroid when it crosses the middle; "fixed" leaves it in the cluster it starts in.
        frequency: training steps from one renewal of the centroids, which become the means of
            their members, to the next.
        freeze: training step from which on assignments stay as they are, so that BatchNorm's
            statistics and the centroids settle; None never, but half of the run (four fifths for
            four clusters or fewer) where a study lays the recipe out.
        preserve_zeros: zeros stay zeros; where the weights have none, one centroid is zero. After
            pruning that is so without asking, and no other weight becomes zero.

    Raises:
        RecipeError: a field is out of its range.
    """

    name: ClassVar[str] = "cluster"
    asks_scales: ClassVar[bool] = True
    breaks: ClassVar[Mapping[str, str]] = {
        "quantize": "the means of clusters do not lie on the grid"
    }

    clusters: int
    initialization: Literal["optimal", "linear", "density", "random", "kmeans++"] = "optimal"
    granularity: Granularity = PerTensor()
    assignment: Literal["nearest", "fixed"] = "nearest"
    frequency: int = 10
    freeze: int | None = None
    preserve_zeros: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "granularity", granularity_from(self.granularity))
        whole_number("cluster: clusters", self.clusters, least=2, most=256)
        whole_number("cluster: frequency", self.frequency, least=1)
        if self.freeze is not None:
            whole_number("cluster: freeze", self.freeze, least=0)
        choices: dict[str, Sequence[Any]] = {
            "initialization": list(INITIALIZATIONS),
            "assignment": ["nearest", "fixed"],
            "preserve_zeros": [True, False],
        }
        for field, allowed in choices.items():
            value = getattr(self, field)
            if not any(value is each or value == each and value != 1 for each in allowed):
                raise RecipeError(
                    f"cluster: {field}", expected=" or ".join(map(repr, allowed)), received=value
                )
        right = isinstance(self.granularity, (PerTensor, PerChannel, PerChannelGroup))
        if not right or getattr(self.granularity, "axis", -1) != -1:
            raise RecipeError(
                "cluster: granularity",
                expected="PerTensor(), PerChannel() or PerChannelGroup(…)",
                received=self.granularity,
            )

    @classmethod
    def field_from_dict(cls, field: str, value: Any) -> Any:
        """One field's value from JSON."""
        if field == "granularity":
            return Granularity.from_dict(value)
        return super().field_from_dict(field, value)

    @property
    def channels(self) -> int | None:
        """Output channels that share a codebook; None for all."""
        if isinstance(self.granularity, PerTensor):
            return None
        return getattr(self.granularity, "channels", 1)

    def plan(self, kernels: Sequence[Kernel]) -> list[Plan]:
        """The codebooks of each kernel, or why it is skipped."""
        return [self._plan(kernel) for kernel in kernels]

    def _plan(self, kernel: Kernel) -> Plan:
        scale = kernel.scale
        if scale is not None and scale.reason and self.channels == 1 and not scale.before:
            scale = None  # a scale a channel does no harm to codebooks that are a channel's own
        if scale is not None and scale.reason:
            return Plan(kernel, reason=scale.reason)
        _, groups = group_ids(kernel.shape, kernel.layout.outputs, self.channels)
        detail: dict[str, Any] = {"clusters": self.clusters, "weights": math.prod(kernel.shape)}
        if groups > 1:
            detail |= {"codebooks": groups, "channels": self.channels}
        if scale is not None:
            detail["folded with"] = scale.layer.name
        return Plan(kernel, settings={"folded": scale is not None}, detail=detail)

    def informed(
        self, model: keras.Model, plans: Mapping[int, Plan], samples: Sequence[Any]
    ) -> Mapping[int, Plan]:
        """With the second moments of what each kernel multiplies, for the best assignments."""
        if self.initialization != "optimal":
            return plans
        found = moments.gather(
            model, {place: plan.kernel for place, plan in plans.items()}, samples
        )
        return {
            place: dataclasses.replace(
                plan, settings={**plan.settings, "moments": found.get(place)}
            )
            for place, plan in plans.items()
        }

    def parametrization(self, plan: Plan, name: str, calls_per_step: int) -> Codebook:
        """The codebook of one kernel."""
        book = self._codebook(plan, name, calls_per_step)
        book.moments = plan.settings.get("moments")
        return book

    def _codebook(self, plan: Plan, name: str, calls_per_step: int) -> Codebook:
        return Codebook(
            name=name,
            shape=plan.kernel.shape,
            calls_per_step=calls_per_step,
            clusters=self.clusters,
            initialization=self.initialization,
            assignment=self.assignment,
            frequency=self.frequency,
            freeze=self.freeze,
            channels=self.channels,
            zero="pinned" if self.preserve_zeros else "free",
            outputs=plan.kernel.layout.outputs,
            folded=plan.settings["folded"],
        )

    @property
    def warmth(self) -> float:
        """Assignments that are right from the start are lost by large steps.

        Adam moves each weight by about the learning rate a step, whatever its gradient. What counts
        is how many centroids that crosses, and they are the closer, the more there are. (Kernels
        whose inputs are not followed begin at the best k-means, not at what data chose.)
        """
        return min(1.0, 4.0 / self.clusters) if self.initialization == "optimal" else 1.0

    @property
    def wants_settled_weights(self) -> bool:
        """Where calibration data choose the assignments to start with."""
        return self.initialization == "optimal"

    def laid_out(self, steps: int, after: int = 0) -> Self:
        """With assignments that stay at the end of the run, where nothing else is said."""
        if self.freeze is not None or steps < 1:
            return self
        share = FROZEN_SHARE_OF_FEW if self.clusters <= FEW else FROZEN_SHARE
        return dataclasses.replace(self, freeze=settled(share, steps, after))

    @property
    def keeps_zeros(self) -> bool:
        """Where that was asked."""
        return self.preserve_zeros

    @property
    def span(self) -> tuple[int, int | None]:
        """Until assignments stay."""
        return 0, 0 if self.assignment == "fixed" else self.freeze

    @property
    def label(self) -> str:
        """The number of values."""
        return f"{self.clusters} values"

    def resume(self, kernel: Kernel, detail: Mapping[str, Any]) -> tuple[Technique, Plan] | None:
        """With the values there are; assignments that had come to rest stay so."""
        freeze = None if self.freeze is None else 0
        return dataclasses.replace(self, freeze=freeze), self._plan(kernel)

    def broken_promise(self, values: np.ndarray, plan: Plan, *, finished: bool) -> str | None:
        """No more distinct values than clusters, in the kernel or in each group of channels."""
        ids, groups = group_ids(plan.kernel.shape, plan.kernel.layout.outputs, self.channels)
        asked, allowed = self.clusters, groups * self.clusters
        found = len(np.unique(values))
        if found > allowed:
            return f"{found} distinct values where {allowed} are allowed"
        if groups > 1 and values.shape == plan.kernel.shape:
            ids = np.broadcast_to(ids, values.shape)
            worst = max(len(np.unique(values[ids == group])) for group in range(groups))
            if worst > asked:
                return f"{worst} distinct values in a group of channels where {asked} are allowed"
        return None
