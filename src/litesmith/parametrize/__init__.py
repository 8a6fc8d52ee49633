"""The mechanism: the weight a layer uses is a function of the weight it stores."""

from litesmith.parametrize.baking import bake
from litesmith.parametrize.copying import copy_model
from litesmith.parametrize.decomposing import is_norm, norm_factors
from litesmith.parametrize.folding import factors, felt, spread, unfold
from litesmith.parametrize.inputs import hear_inputs
from litesmith.parametrize.internals import (
    bare_operations,
    consumers,
    edges,
    following,
    has_values,
    is_functional,
    list_parameters,
    outside_of_traces,
    preceding,
    set_input_shape,
    surrounding,
    traced,
    without_weights,
)
from litesmith.parametrize.kernels import Kernel, Layout, find_kernels
from litesmith.parametrize.listening import listening, shapes_of
from litesmith.parametrize.marking import Mark, mark_of, put, take_off
from litesmith.parametrize.neighbours import Scale, find_scales
from litesmith.parametrize.operators import is_operator
from litesmith.parametrize.parametrization import Holder, Parametrization
from litesmith.parametrize.recording import Event, record
from litesmith.parametrize.sites import Place, Tap, Use, is_value
from litesmith.parametrize.stepwise import is_cell, unroll
from litesmith.parametrize.subclassed import mark_subclassed
from litesmith.parametrize.swap import (
    attach,
    count_calls,
    detach,
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
    "Mark",
    "Parametrization",
    "Place",
    "Scale",
    "Tap",
    "Use",
    "attach",
    "bake",
    "bare_operations",
    "consumers",
    "copy_model",
    "count_calls",
    "detach",
    "edges",
    "factors",
    "felt",
    "find_kernels",
    "find_scales",
    "following",
    "has_values",
    "holder_of",
    "inner_layers",
    "is_cell",
    "is_functional",
    "is_norm",
    "is_operator",
    "is_value",
    "is_parametrized",
    "hear_inputs",
    "list_parameters",
    "listening",
    "mark_of",
    "mark_subclassed",
    "norm_factors",
    "outermost_layers",
    "outside_of_traces",
    "plain_weights",
    "preceding",
    "put",
    "record",
    "shapes_of",
    "set_input_shape",
    "spread",
    "surrounding",
    "take_off",
    "tell",
    "told",
    "traced",
    "unfold",
    "unroll",
    "used_weights",
    "without_weights",
]
