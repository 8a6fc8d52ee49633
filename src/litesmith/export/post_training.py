"""Every preset from one float `.tflite`, by litert-quantizer.

Only its parameter generator and its graph rewriting are used, which are Python: nothing native
opens the model here. The converter's own quantization is never called.
"""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from litesmith.errors import ExportError, PresetError, did_you_mean
from litesmith.export import edit, flatbuffer, scales
from litesmith.export.calibration import Calibration
from litesmith.export.float_model import FloatModel
from litesmith.export.presets import CALIBRATED, Rule, Rules, check_io

# Kernels of these have four-bit forms in LiteRT; others get eight bits.
_FOUR_BIT = ("CONV_2D", "FULLY_CONNECTED", "EMBEDDING_LOOKUP")
# In a quantized file, what these touch may be float: they are the seams.
_SEAMS = ("QUANTIZE", "DEQUANTIZE", "DENSIFY")
# Presets under which an embedding's table becomes int8.
_TABLES = ("dynamic_int8", "dynamic_int4", "weight_int8", "weight_int4")
# A kernel with fewer weights gains a few hundred bytes by eight bits and loses accuracy like a
# large one: in the dynamic presets it stays float, as in the converter's dynamic range mode,
# unless a rule asks for it.
_LEAST_ELEMENTS = 1024
# These look at a tensor's shape, not at its numbers.
_SHAPES = ("SHAPE", "RANK")
# Where the quantizer calls an operator otherwise than LiteRT.
_QUANTIZER_NAMES = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}


def quantize(
    model: FloatModel,
    rules: Rules,
    calibration: Calibration | None = None,
    *,
    io_dtype: str = "int8",
) -> bytes:
    """Derive a quantized `.tflite`.

    Args:
        model: the float conversion.
        rules: a preset for all, or rules.
        calibration: ranges of the model's tensors, where a preset needs them.
        io_dtype: ``"int8"`` or ``"uint8"``: inputs and outputs of the ``"int8"`` preset.

    Returns:
        The `.tflite`'s bytes.

    Raises:
        PresetError: no calibration where one is needed; a rule that matches nothing.
        ExportError: the quantizer cannot take an operator.
    """
    check_io(rules.default, io_dtype)
    if rules.presets == ("float32",):
        return model.content
    if rules.needs_calibration and calibration is None:
        raise PresetError(
            f"quantize={rules.default!r}",
            expected="calibration data",
            received="none",
            fix="pass calibration= (some 200 samples of the training data)",
        )
    if calibration is not None:
        calibration.check(model)
    with quiet():
        manager = recipe_for(model, model.view, rules)
    ranges = calibration.for_quantizer(model.view) if calibration is not None else {}
    ranges = table_ranges(model.view) | ranges | model.codebook_ranges
    content = run(model, manager, ranges, rules)
    if io_dtype == "uint8":
        content = edit.unsigned_edges(content)
    return content


def float_operators(read: flatbuffer.Flatbuffer) -> dict[str, int]:
    """Operators of a quantized file that compute on float tensors, and how often.

    QUANTIZE and DEQUANTIZE at the edges do not count, nor does what handles no numbers (shapes).
    """
    counts: dict[str, int] = {}
    for graph in read.subgraphs:
        for operator in graph.operators:
            touched = [graph.tensors[i] for i in (*operator.inputs, *operator.outputs) if i >= 0]
            if operator.name not in _SEAMS + _SHAPES and any(t.type == "FLOAT32" for t in touched):
                counts[operator.name] = counts.get(operator.name, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True)
class _Place:
    """An operator as the quantizer's rules see it: its kind and the names of its outputs."""

    name: str
    scope: str
    weights: tuple[str, ...]
    main: bool
    table: bool = False  # whether its first input is a float constant
    tensors: tuple[str, ...] = ()  # all it takes and gives
    gives: tuple[str, ...] = ()


def places(read: flatbuffer.Flatbuffer) -> Iterator[_Place]:
    """Every operator of a file, and the file's edges, as the quantizer's rules see them."""
    for number, graph in enumerate(read.subgraphs):
        names = [tensor.name for tensor in graph.tensors]

        def scope(indices: tuple[int, ...], names: list[str] = names) -> str:
            # As litert-quantizer builds it: output names, each followed by a semicolon.
            return ";".join(name for i in indices if i >= 0 and (name := names[i])) + ";"

        for operator in graph.operators:
            constants = tuple(
                names[i] for i in operator.inputs if i >= 0 and graph.tensors[i].constant
            )
            around = (
                operator.outputs if any(names[i] for i in operator.outputs) else operator.inputs
            )
            first = graph.tensors[operator.inputs[0]] if operator.inputs else None
            table = first is not None and first.constant and first.type == "FLOAT32"
            touched = tuple(names[i] for i in (*operator.inputs, *operator.outputs) if i >= 0)
            gives = tuple(names[i] for i in operator.outputs)
            yield _Place(
                operator.name, scope(around), constants, number == 0, table, touched, gives
            )
        yield _Place("INPUT", scope(graph.inputs), (), number == 0)
        yield _Place("OUTPUT", scope(graph.outputs), (), number == 0)


def recipe_for(model: FloatModel, read: flatbuffer.Flatbuffer, rules: Rules) -> Any:
    """The quantizer's recipe for a preset or rules."""
    from litert_quantizer import recipe_manager

    manager = recipe_manager.RecipeManager()
    every = list(places(read))
    add(manager, ".*", rules.default, least=_LEAST_ELEMENTS)
    if rules.default != "int8":
        for place in every:
            if place.name in ("INPUT", "OUTPUT"):
                add(manager, exactly(place), "float32", place.name)
    if rules.default in _TABLES:
        # Keras' Embedding is a GATHER, which the quantizer shrinks in its static form only; the
        # table's own range is all that needs.
        for place in every:
            if place.name == "GATHER" and place.table and place.main:
                add(manager, exactly(place), "int8", place.name)
    # The quantizer lets the last match decide; ours is the first.
    for rule in reversed(rules.rules):
        layers = None if rule.where is None else _tensors_of(model, rule.where)
        matched = [
            place
            for place in every
            if (rule.op is None or place.name == rule.op)
            and (layers is None or any(name in layers for name in place.weights))
        ]
        taken = [add(manager, exactly(place), rule.preset, place.name) for place in matched]
        if not any(taken):
            _refuse(rule, matched, every)
    if rules.needs_calibration:
        # Bodies of loops are calibrated by nobody: they stay float, but their kernels shrink.
        for place in every:
            if not place.main:
                add(manager, exactly(place), "float32", place.name)
                add(manager, exactly(place), "dynamic_int8", place.name)
    return manager


def _refuse(rule: Rule, matched: list[_Place], places: list[_Place]) -> NoReturn:
    if matched:
        raise PresetError(
            f"rule: preset {rule.preset!r}",
            expected="one that litert-quantizer has for the operator",
            received=matched[0].name,
        )
    known = sorted({place.name for place in places})
    raise PresetError(
        "rule: op",
        expected="an operator of the model" + (f" in {rule.where!r}" if rule.where else ""),
        received=rule.op,
        fix=did_you_mean(str(rule.op), known),
    )


def table_ranges(read: flatbuffer.Flatbuffer) -> dict[str, dict[str, np.ndarray]]:
    """The range of what is looked up in constant tables: the table's own."""
    ranges: dict[str, dict[str, np.ndarray]] = {}
    graph = read.subgraphs[0]
    for operator in graph.operators:
        table = graph.tensors[operator.inputs[0]] if operator.inputs else None
        if operator.name != "GATHER" or table is None or table.type != "FLOAT32":
            continue
        if table.constant and (data := table.data) is not None and data.size:
            low, high = data.min(), data.max()
            for tensor in (table, graph.tensors[operator.outputs[0]]):
                form = (1,) * len(tensor.shape)
                ranges[tensor.name] = {"min": np.full(form, low), "max": np.full(form, high)}
    return ranges


def exactly(place: _Place) -> str:
    """The regular expression that is about one operator."""
    return f"^{re.escape(place.scope)}$"


def _tensors_of(model: FloatModel, where: str) -> set[str]:
    found = {kernel.tensor for kernel in model.kernels if re.fullmatch(where, kernel.layer)}
    if not found:
        layers = sorted({kernel.layer for kernel in model.kernels})
        raise PresetError(
            "rule: where",
            expected="the path of a layer with a kernel",
            received=where,
            fix=did_you_mean(where, layers),
        )
    return found


def add(
    manager: Any, scope: str, preset: str, operator: str | None = None, *, least: int = 0
) -> bool:
    """Translate a preset into the quantizer's configuration.

    Args:
        manager: the quantizer's recipe.
        scope: regular expression for the names of operators' outputs.
        preset: what they get.
        operator: only operators of this name (an output of the file goes by the same name as the
            operator that computes it); None means all, as far as the quantizer can.
        least: in a dynamic preset, weights with fewer elements stay float.

    Returns:
        Whether the quantizer has such a form of the operator.
    """
    from litert_quantizer import algorithm_manager, qtyping

    algorithms, names = algorithm_manager.AlgorithmName, qtyping.TFLOperationName
    operator = _QUANTIZER_NAMES.get(operator or "", operator)
    if operator is not None and operator not in names.__members__:
        return preset == "float32"
    target = names.ALL_SUPPORTED if operator is None else names(operator)
    try:
        if preset == "float32":
            manager.add_quantization_config(scope, target, None, algorithms.NO_QUANTIZE)
        elif preset == "float16":
            half = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
            config = qtyping.OpQuantizationConfig(
                weight_tensor_config=half, compute_precision=qtyping.ComputePrecision.FLOAT
            )
            manager.add_quantization_config(scope, target, config, algorithms.FLOAT_CASTING)
        elif preset in CALIBRATED:
            manager.add_static_config(scope, target, 16 if preset == "int16x8" else 8, 8)
        else:
            dynamic = preset.startswith("dynamic")

            def add(scope: str, target: Any, bits: int) -> None:
                config = qtyping.OpQuantizationConfig(
                    weight_tensor_config=qtyping.TensorQuantizationConfig(
                        num_bits=bits,
                        symmetric=True,
                        granularity=qtyping.QuantGranularity.CHANNELWISE,
                    ),
                    compute_precision=qtyping.ComputePrecision.INTEGER
                    if dynamic
                    else qtyping.ComputePrecision.FLOAT,
                    explicit_dequantize=not dynamic,
                    min_weight_elements=least if dynamic else 0,
                )
                manager.add_quantization_config(
                    scope, target, config, algorithms.MIN_MAX_UNIFORM_QUANT
                )

            four = preset.endswith("int4")
            add(scope, target, 4 if four and operator in _FOUR_BIT else 8)
            if four and operator is None:
                for name in _FOUR_BIT:
                    # A scope has one configuration for all operators; spelled otherwise it is
                    # another scope, and can have one for some.
                    add(f"(?:{scope})", names(name), 4)
    except ValueError:
        return False
    return True


def run(model: FloatModel, manager: Any, ranges: dict[str, Any], rules: Rules) -> bytes:
    """Quantize a float model by the quantizer's recipe and ranges by tensor."""
    from litert_quantizer import model_modifier, params_generator

    # The generator adds virtual operators to the graphs it reads: a fresh copy every time.
    graph = _copied(_parsed(model))
    ranges = scales.within_limits(model.view, ranges)
    with quiet():
        try:
            parameters = params_generator.ParamsGenerator(graph).generate_quantization_parameters(
                manager, ranges or None, enable_progress_bar=False
            )
            changed = model_modifier.ModelModifier(graph).modify_model(
                parameters, enable_progress_bar=False
            )
        except Exception as error:
            text = str(error).strip() or type(error).__name__
            raise ExportError(
                f"quantize={rules.default!r}: litert-quantizer cannot take this model: "
                f"{text.splitlines()[0][:300]}",
                fix="leave that operator in float by a Rule(op=…, preset='float32')",
            ) from error
    return bytes(changed)


_parsed_models: weakref.WeakKeyDictionary[FloatModel, Any] = weakref.WeakKeyDictionary()


def _parsed(model: FloatModel) -> Any:
    """The quantizer's own form of the file, made once for all presets."""
    from litert_quantizer.utils import tfl_flatbuffer_utils

    if model not in _parsed_models:
        # Its weights stay views of the bytes.
        _parsed_models[model] = tfl_flatbuffer_utils.read_model(bytearray(model.content))
    return _parsed_models[model]


def _copied(value: Any) -> Any:
    """A copy of tables and lists, all the way down; arrays are not copied."""
    if isinstance(value, list):
        return [_copied(each) for each in value]
    if isinstance(value, np.ndarray):
        return value.view()
    if hasattr(value, "__dict__"):
        copy = object.__new__(type(value))
        vars(copy).update({name: _copied(each) for name, each in vars(value).items()})
        return copy
    return value


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings and log lines of the quantizer (it tells what a recipe skips)."""
    loggers = [logging.getLogger("absl"), logging.getLogger()]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR + 1)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
