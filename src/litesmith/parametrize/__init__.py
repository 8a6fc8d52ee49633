"""The mechanism: the weight a layer uses is a function of the weight it stores."""

from litesmith.parametrize.baking import bake
from litesmith.parametrize.copying import copy_model
from litesmith.parametrize.folding import factors, spread, unfold
from litesmith.parametrize.internals import without_weights
from litesmith.parametrize.kernels import Kernel, Layout, find_kernels
from litesmith.parametrize.neighbours import Scale, find_scales
from litesmith.parametrize.parametrization import Holder, Parametrization
from litesmith.parametrize.subclassed import mark_subclassed
from litesmith.parametrize.swap import (
    attach,
    count_calls,
    holder_of,
    is_parametrized,
    plain_weights,
    used_weights,
)
from litesmith.parametrize.walking import inner_layers, outermost_layers

__all__ = [
    "Holder",
    "Kernel",
    "Layout",
    "Parametrization",
    "Scale",
    "attach",
    "bake",
    "copy_model",
    "count_calls",
    "factors",
    "find_kernels",
    "find_scales",
    "holder_of",
    "inner_layers",
    "is_parametrized",
    "mark_subclassed",
    "outermost_layers",
    "plain_weights",
    "spread",
    "unfold",
    "used_weights",
    "without_weights",
]
