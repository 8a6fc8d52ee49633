"""`tfmot.quantization.keras`: quantization-aware training."""

from litesmith.tfmot.quantization.annotating import (
    quantize_annotate_layer,
    quantize_annotate_model,
)
from litesmith.tfmot.quantization.applying import (
    QuantizeWrapper,
    QuantizeWrapperV2,
    quantize_apply,
    quantize_model,
    quantize_scope,
)
from litesmith.tfmot.quantization.configs import QuantizeConfig
from litesmith.tfmot.quantization.keras import (
    collab_opts,
    default_8bit,
    experimental,
    graph_transformations,
    quantizers,
)
from litesmith.tfmot.quantization.schemes import (
    QuantizeLayoutTransform,
    QuantizeRegistry,
    QuantizeScheme,
)
from litesmith.tfmot.quantization.unsupported import fix_input_output_range, remove_input_range

__all__ = [
    "QuantizeConfig",
    "QuantizeLayoutTransform",
    "QuantizeRegistry",
    "QuantizeScheme",
    "QuantizeWrapper",
    "QuantizeWrapperV2",
    "collab_opts",
    "default_8bit",
    "experimental",
    "fix_input_output_range",
    "graph_transformations",
    "quantize_annotate_layer",
    "quantize_annotate_model",
    "quantize_apply",
    "quantize_model",
    "quantize_scope",
    "quantizers",
    "remove_input_range",
]
