"""Names of tfmot that have no meaning here: using one says at once what to use instead."""

from __future__ import annotations

from typing import Any, NoReturn

from litesmith.errors import InputError

TRANSFORMS = (
    "ConcatTransform",
    "ConcatTransform3Inputs",
    "ConcatTransform4Inputs",
    "ConcatTransform5Inputs",
    "ConcatTransform6Inputs",
    "Conv2DBatchNormActivationQuantize",
    "Conv2DBatchNormQuantize",
    "Conv2DBatchNormReLUQuantize",
    "Conv2DReshapeBatchNormActivationQuantize",
    "Conv2DReshapeBatchNormQuantize",
    "Conv2DReshapeBatchNormReLUQuantize",
    "InputLayerQuantize",
    "LayerReLUQuantize",
    "LayerReluActivationQuantize",
    "SeparableConv1DQuantize",
    "SeparableConvQuantize",
)


def transform(name: str) -> type:
    """A class of that name that cannot be made, nor derived from.

    Args:
        name: of a class of tfmot's graph rewriting.
    """

    def refuse() -> NoReturn:
        raise InputError(
            f"tfmot's {name}",
            expected="no rewriting of the graph: where to round is read off the graph that LiteRT "
            "will have, folding and fusing included",
            received=name,
            fix="call quantize_apply(model); which layers: quantize_annotate_layer",
        )

    def new(cls: type, *args: Any, **kwargs: Any) -> NoReturn:
        refuse()

    def init_subclass(cls: type, **kwargs: Any) -> NoReturn:
        refuse()

    members = {
        "__doc__": f"tfmot's {name}; using it raises an InputError that says what to use.",
        "__new__": new,
        "__init_subclass__": classmethod(init_subclass),
        "__module__": __name__,
    }
    return type(name, (), members)


def fix_input_output_range(
    model: Any,
    num_bits: int = 8,
    input_min: float = 0.0,
    input_max: float = 1.0,
    output_min: float = 0.0,
    output_max: float = 1.0,
    narrow_range: bool = False,
) -> NoReturn:
    """Not supported: ranges are learned, or taken from calibration.

    Raises:
        InputError: always; it says what to do instead.
    """
    raise InputError(
        "fix_input_output_range",
        expected="ranges that follow the data: LiteRT fixes those of softmax, sigmoid and tanh",
        received=f"input {input_min:g}…{input_max:g}, output {output_min:g}…{output_max:g}",
        fix="train on, or calibrate with (litesmith.prepare(…, calibration=…)), inputs that reach "
        "both ends",
    )


def remove_input_range(model: Any) -> NoReturn:
    """Not supported: an exported file can take floats instead.

    Raises:
        InputError: always; it says what to do instead.
    """
    raise InputError(
        "remove_input_range",
        expected="a choice at export",
        received="a change to the model",
        fix='litesmith.export(model, path, quantize="int8_float_io") takes and gives floats',
    )
