"""`Recipe`, `prepare` and `strip`: the ends of the training side of the flow."""

from litesmith.recipe.origins import Origin, origin, remember
from litesmith.recipe.preparing import prepare, strip
from litesmith.recipe.value import VERSION, Recipe

__all__ = ["VERSION", "Origin", "Recipe", "origin", "prepare", "remember", "strip"]
