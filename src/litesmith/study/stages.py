"""Fine-tuning in stages, where a technique starts best from weights that others are done with.

Clusters are chosen once, for what they do to their layers' outputs: on weights that pruning is
still cutting that would be another network. The epochs are the same in all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from litesmith.recipe import Recipe
from litesmith.study.file import Training

# What the last stage gets of the epochs, and at least one: assignments are good from the start.
_LAST_SHARE = 1 / 3


@dataclasses.dataclass(frozen=True)
class Stage:
    """One preparation and the training that follows.

    Attributes:
        recipe: what it adds.
        training: how it is trained, every field set.
        steps: training steps.
    """

    recipe: Recipe
    training: Training
    steps: int = 0


def split(
    recipe: Recipe, settings: Training, policy: Callable[[Recipe], Training]
) -> list[tuple[Recipe, Training]]:
    """Cut a recipe, and the epochs it is trained for, where that serves it.

    Args:
        recipe: of one variant.
        settings: how all of it is to be trained, every field set.
        policy: how a part of the recipe would be trained, every field set.

    Returns:
        Recipes and settings, one after the other; just what was given where nothing is to be cut,
        where epochs were given a stage each, or where there is but one.
    """
    techniques, total = recipe.techniques, settings.total_epochs
    cuts = [n for n, each in enumerate(techniques) if n and each.wants_settled_weights]
    cuts = [n for n in cuts if any(not t.wants_settled_weights for t in techniques[:n])]
    if not cuts or total < 2 or isinstance(settings.epochs, list):
        return [(recipe, settings)]
    last = max(1, round(_LAST_SHARE * total))
    parts = [Recipe(*techniques[: cuts[0]]), Recipe(*techniques[cuts[0] :])]
    return [
        (part, policy(part).model_copy(update={"epochs": epochs}))
        for part, epochs in zip(parts, (total - last, last), strict=True)
    ]
