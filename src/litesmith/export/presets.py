"""Presets of post-training quantization, and rules that mix them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from litesmith.errors import PresetError, did_you_mean

PRESETS: tuple[str, ...] = (
    "float32",
    "float16",
    "dynamic_int8",
    "int8",
    "int8_float_io",
    "int16x8",
    "weight_int8",
    "weight_int4",
    "dynamic_int4",
)
"""Names `quantize=` takes.

- ``float32``: as converted.
- ``float16``: kernels stored as float16, computed in float32.
- ``dynamic_int8``, ``dynamic_int4``: integer kernels; activations become integers on the fly.
- ``int8``: integer kernels, activations, inputs and outputs; needs calibration.
- ``int8_float_io``: the same with float inputs and outputs.
- ``int16x8``: int8 kernels, int16 activations, float inputs and outputs; needs calibration.
- ``weight_int8``, ``weight_int4``: integer kernels, expanded to float before use.

Four bits are for CONV_2D and FULLY_CONNECTED; other kernels get eight. Kernels are symmetric, one
scale per output channel, so a zero stays exactly zero.
"""

CALIBRATED = ("int8", "int8_float_io", "int16x8")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a part of the model gets.

    Args:
        where: a regular expression matched in full against a Keras layer's path; None takes all.
            Layers are known by their kernels.
        op: name of a LiteRT operator, such as ``"FULLY_CONNECTED"``; None takes all.
        preset: a name of `PRESETS`; ``"float32"`` leaves the part as it is.

    Raises:
        PresetError: an unknown preset, a broken expression, or a rule that says nothing.
    """

    where: str | None = None
    op: str | None = None
    preset: str

    def __post_init__(self) -> None:
        check_preset(self.preset)
        if self.where is None and self.op is None:
            raise PresetError(
                "rule",
                expected="where= or op=",
                received="neither",
                fix="give what all get as Rules(…, default=…)",
            )
        try:
            re.compile(self.where or "")
        except re.error as error:
            raise PresetError(
                "rule: where", expected="a regular expression", received=f"{self.where!r} ({error})"
            ) from error


@dataclass(frozen=True)
class Rules:
    """Mixed precision: the first rule that matches an operator decides, else `default`.

    Args:
        rules: in order of precedence.
        default: the preset for the rest; its inputs and outputs are the file's.
    """

    rules: tuple[Rule, ...]
    default: str = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", tuple(_rule(rule) for rule in self.rules))
        check_preset(self.default)

    @property
    def presets(self) -> tuple[str, ...]:
        """Every preset in it."""
        return (self.default, *(rule.preset for rule in self.rules))

    @property
    def needs_calibration(self) -> bool:
        """Whether activations are quantized ahead of time somewhere."""
        return any(preset in CALIBRATED for preset in self.presets)

    def to_json(self) -> str | dict[str, Any]:
        """The preset's name where there are no rules, else a table."""
        if not self.rules:
            return self.default
        rules = [{k: v for k, v in asdict(rule).items() if v is not None} for rule in self.rules]
        return {"default": self.default, "rules": rules}


def check_preset(name: Any) -> str:
    """The preset's name.

    Raises:
        PresetError: there is no such preset.
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise PresetError(
            "quantize",
            expected="a preset",
            received=name,
            fix=did_you_mean(name, PRESETS) if isinstance(name, str) else None,
        )
    return name


def rules_of(quantize: Any) -> Rules:
    """What `quantize=` means: a preset's name, `Rules`, or a list of rules or tables.

    Raises:
        PresetError: it is none of these.
    """
    if isinstance(quantize, Rules):
        return quantize
    if isinstance(quantize, str):
        return Rules((), check_preset(quantize))
    if isinstance(quantize, Rule):
        return Rules((quantize,))
    if isinstance(quantize, Mapping) and "rules" in quantize:
        unknown = set(quantize) - {"rules", "default"}
        if unknown:
            raise PresetError(
                "quantize", expected="the fields 'rules' and 'default'", received=unknown.pop()
            )
        return Rules(tuple(quantize["rules"]), quantize.get("default", "float32"))
    if isinstance(quantize, Sequence) and quantize:
        return Rules(tuple(quantize))
    raise PresetError(
        "quantize", expected="a preset's name, Rules, or a list of rules", received=quantize
    )


def _rule(rule: Any) -> Rule:
    if isinstance(rule, Rule):
        return rule
    if isinstance(rule, Mapping):
        known = [field.name for field in fields(Rule)]
        for name in rule:
            if name not in known:
                raise PresetError(
                    "rule", expected="its fields", received=name, fix=did_you_mean(name, known)
                )
        if "preset" in rule:
            return Rule(**rule)
    raise PresetError("rule", expected="a Rule, or a table with 'preset'", received=rule)


def check_io(preset: str, io_dtype: str) -> None:
    """Whether a preset can have inputs and outputs of this type.

    Raises:
        PresetError: unsigned (or unknown) edges where the preset's are not integers.
    """
    if io_dtype not in ("int8", "uint8"):
        raise PresetError("io_dtype", expected="'int8' or 'uint8'", received=io_dtype)
    if io_dtype == "uint8" and preset != "int8":
        raise PresetError(
            "io_dtype",
            expected="'int8' (it says what an integer model takes and gives)",
            received=f"'uint8' with quantize={preset!r}",
            fix="use quantize='int8'",
        )
