"""What LiteRT's operators do with the scales of their tensors."""

from __future__ import annotations

# Operators of a constant weight: where it is, where the bias is, and what it is multiplied with.
PRODUCTS = {
    "CONV_2D": (1, 2, 0),
    "DEPTHWISE_CONV_2D": (1, 2, 0),
    "FULLY_CONNECTED": (1, 2, 0),
    "TRANSPOSE_CONV": (1, 3, 2),
}
# What gives the values it takes, or some of them, or zero: the same grid needs no new rounding.
KEEPS_VALUES = frozenset(
    "RESHAPE SQUEEZE EXPAND_DIMS TRANSPOSE SLICE STRIDED_SLICE SPLIT SPLIT_V UNPACK PACK PAD PADV2 "
    "MIRROR_PAD MAX_POOL_2D GATHER GATHER_ND SPACE_TO_DEPTH DEPTH_TO_SPACE BROADCAST_TO TILE "
    "RESIZE_NEAREST_NEIGHBOR REVERSE_V2 SELECT SELECT_V2 REDUCE_MAX REDUCE_MIN".split()
)
# What these give has the scale of what they take.
SAME_SCALE = KEEPS_VALUES | {"AVERAGE_POOL_2D", "RESIZE_BILINEAR"}
# These give a scale that is always the same: of so large a range.
FIXED = {"SOFTMAX": 1.0, "LOGISTIC": 1.0, "TANH": 2.0}
