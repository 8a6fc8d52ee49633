"""The mechanism: the weight a layer uses is a function of the weight it stores."""

from litesmith.parametrize.baking import bake
from litesmith.parametrize.copying import copy_model
from litesmith.parametrize.decomposing import is_norm, norm_factors
from litesmith.parametrize.folding import factors, spread, unfold
from litesmith.parametrize.inputs import hear_inputs
from litesmith.parametrize.internals import without_weights
from litesmith.parametrize.kernels import Kernel, Layout, find_kernels
from litesmith.parametrize.listening import listening, shapes_of
from litesmith.parametrize.neighbours import Scale, find_scales
from litesmith.parametrize.parametrization import Holder, Parametrization
from litesmith.parametrize.recording import Event, record
from litesmith.parametrize.sites import Place, Tap, Use
from litesmith.parametrize.subclassed import mark_subclassed
from litesmith.parametrize.swap import (
    attach,
    count_calls,
    holder_of,
    is_parametrized,
    plain_weights,
    used_weights,
)
from litesmith.parametrize.telling import tell, told
from litesmith.parametrize.walking import inner_layers, outermost_layers

__all__ = [
    "Event",
    "Holder",
    "Kernel",
    "Layout",
    "Parametrization",
    "Place",
    "Scale",
    "Tap",
    "Use",
    "attach",
    "bake",
    "copy_model",
    "count_calls",
    "factors",
    "find_kernels",
    "find_scales",
    "holder_of",
    "inner_layers",
    "is_norm",
    "is_parametrized",
    "hear_inputs",
    "listening",
    "mark_subclassed",
    "norm_factors",
    "outermost_layers",
    "plain_weights",
    "record",
    "shapes_of",
    "spread",
    "tell",
    "told",
    "unfold",
    "used_weights",
    "without_weights",
]
