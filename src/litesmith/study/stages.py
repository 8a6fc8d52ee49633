"""Fine-tuning in stages, where a technique starts best from weights that others are done with.

Clusters are chosen once, for what they do to their layers' outputs: on weights that pruning is
still cutting that would be another network. The epochs are the same in all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from litesmith.recipe import Recipe
from litesmith.study.settings import Training

# What the last stage gets of the steps: assignments are good from the start. And how warm it is at
# least (`Technique.warmth`): few steps, and what pruning lost is still being won back.
_LAST_SHARE, _LAST_WARMTH = 1 / 6, 1.0


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
    recipe: Recipe,
    settings: Training,
    policy: Callable[..., Training],
    steps: int,
) -> list[Stage]:
    """Cut a recipe, and the training steps it gets, where that serves it.

    Args:
        recipe: of one variant.
        settings: how all of it is to be trained, every field set.
        policy: how a part of the recipe would be trained, every field set; also given how warm it
            is at least.
        steps: training steps in all.

    Returns:
        The stages, schedules laid out along each; just one where nothing is to be cut, or where
        epochs or learning rates were given one by one.
    """
    techniques = recipe.techniques
    cuts = [n for n, each in enumerate(techniques) if n and each.wants_settled_weights]
    cuts = [n for n in cuts if any(not t.wants_settled_weights for t in techniques[:n])]
    last = round(_LAST_SHARE * steps)
    given = isinstance(settings.epochs, list) or isinstance(settings.learning_rate, list)
    if not cuts or not last or given:
        return [Stage(recipe.laid_out(steps), settings, steps)]
    parts = [Recipe(*techniques[: cuts[0]]), Recipe(*techniques[cuts[0] :])]
    rounds = zip(parts, (steps - last, last), (0.0, _LAST_WARMTH), strict=True)
    return [
        Stage(part.laid_out(count), policy(part, least=least), count)
        for part, count, least in rounds
    ]
