"""What to try first: one table of rules, read by `litesmith inspect --advise` and the docs.

A rule says for which device a step is good, what the step needs, what it has cost elsewhere, and
why it stands where it stands. `advise` goes through the rules of a target in order, leaves out
what the situation does not allow, and says why. `docs/choosing.md` shows the same rules; a test
compares the two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from litesmith.errors import InputError, did_you_mean

Target = Literal["cpu", "gpu", "microcontroller"]
Needs = Literal["nothing", "samples", "training"]
TARGETS: tuple[Target, ...] = ("cpu", "gpu", "microcontroller")
# Layers with steps inside that LiteRT, or a range, cannot follow: docs/quantization.md.
_PARTLY_FLOAT = {"MultiHeadAttention", "GroupQueryAttention", "LayerNormalization", "LSTM", "GRU"}
SMALL_KERNEL = 1024  # weights below which the dynamic presets leave a kernel in float


@dataclasses.dataclass(frozen=True)
class Step:
    """Something to try.

    Attributes:
        name: its heading.
        recipe: techniques as a study file has them; empty for post-training only.
        quantize: the export preset.
        needs: nothing; samples (some hundred inputs, no labels); or training (labelled data and
            the time to train).
        costs: accuracy lost, 0…1, with the reference network: the worst seed in
            docs/benchmarks.md, rounded up to a tenth of a point. It sorts out what is hopeless, and
            is no promise for another network.
        bits: of a stored weight.
    """

    name: str
    recipe: tuple[dict[str, Any], ...]
    quantize: str
    needs: Needs
    costs: float
    bits: int

    @property
    def techniques(self) -> tuple[str, ...]:
        """The names of the techniques in the recipe."""
        return tuple(each["technique"] for each in self.recipe)

    @property
    def written(self) -> str:
        """How a study file writes it."""
        return written(self.recipe, self.quantize)


def written(recipe: Sequence[dict[str, Any]], quantize: str) -> str:
    """A recipe and a preset as a variant of a study file has them."""
    fields = [_toml(each) for each in recipe]
    return (f"recipe = [{', '.join(fields)}], " if fields else "") + f'quantize = "{quantize}"'


def _toml(fields: dict[str, Any]) -> str:
    shown = (f'{k} = "{v}"' if isinstance(v, str) else f"{k} = {v}" for k, v in fields.items())
    return "{ " + ", ".join(shown) + " }"


_PRUNE = {"technique": "prune", "sparsity": 0.8}
_CLUSTER = {"technique": "cluster", "clusters": 16}
_QAT = {"technique": "quantize"}
_QAT4 = {"technique": "quantize", "weights": 4}

FLOAT16 = Step("float16", (), "float16", "nothing", 0.0, 16)
DYNAMIC = Step("dynamic range", (), "dynamic_int8", "nothing", 0.001, 8)
WEIGHT8 = Step("8-bit weights", (), "weight_int8", "nothing", 0.002, 8)
INT8_IO = Step("full integer behind float inputs", (), "int8_float_io", "samples", 0.002, 8)
INT8 = Step("full integer", (), "int8", "samples", 0.002, 8)
QAT_IO = Step("8-bit training", (_QAT,), "int8_float_io", "training", 0.001, 8)
QAT = Step("8-bit training", (_QAT,), "int8", "training", 0.001, 8)
QAT4 = Step("4-bit training", (_QAT4,), "int8", "training", 0.004, 4)
PRUNED16 = Step("pruning 80 %, float16", (_PRUNE,), "float16", "training", 0.005, 16)
PRUNED8 = Step(
    "pruning 80 %, 8-bit training", (_PRUNE, _QAT), "int8_float_io", "training", 0.007, 8
)
CLUSTERED8 = Step(
    "16 clusters, 8-bit training", (_CLUSTER, _QAT), "int8_float_io", "training", 0.002, 8
)


@dataclasses.dataclass(frozen=True)
class Rule:
    """A step for a target, and why it is tried at this place.

    Attributes:
        target: where the model will run.
        step: what to try.
        why: one sentence.
    """

    target: Target
    step: Step
    why: str


RULES: tuple[Rule, ...] = (
    Rule(
        "cpu",
        DYNAMIC,
        "needs no data, a quarter of the file, faster, and hardly anything is lost",
    ),
    Rule(
        "cpu",
        INT8_IO,
        "the fastest on CPUs, and nothing around the model has to change",
    ),
    Rule(
        "cpu",
        QAT_IO,
        "where full integer loses too much: the model learns to live with its rounding",
    ),
    Rule(
        "cpu",
        PRUNED8,
        "where the download is to be smaller still: a zip packs zeros to nearly nothing",
    ),
    Rule(
        "cpu",
        CLUSTERED8,
        "the other way to a small download: sixteen values a kernel zip to five bits a weight",
    ),
    Rule(
        "gpu",
        FLOAT16,
        "GPUs compute in float16: half the file, the same speed, practically nothing is lost",
    ),
    Rule(
        "gpu",
        WEIGHT8,
        "a quarter of the file; weights become float as the model is loaded, so it is no faster",
    ),
    Rule(
        "gpu",
        PRUNED16,
        "where the download is to be smaller still: a zip packs zeros to nearly nothing",
    ),
    Rule(
        "microcontroller",
        INT8,
        "integers only, inputs and outputs too: what microcontrollers and NPUs have kernels for",
    ),
    Rule(
        "microcontroller",
        QAT,
        "where full integer loses too much; and the file needs no calibration",
    ),
    Rule(
        "microcontroller",
        QAT4,
        "where flash is what lacks: convolutions and dense layers take half the bytes; see that "
        "the device's runtime has int4 kernels",
    ),
)


@dataclasses.dataclass(frozen=True)
class Situation:
    """What somebody has, and wants.

    Attributes:
        target: where the model will run.
        needs: the most that can be given: nothing, samples, or labelled data and time to train.
        max_drop: accuracy that may be lost, 0…1; None where nothing was said.
    """

    target: Target = "cpu"
    needs: Needs = "training"
    max_drop: float | None = None

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise InputError(
                "--target",
                expected=", ".join(TARGETS),
                received=self.target,
                fix=did_you_mean(self.target, TARGETS),
            )


@dataclasses.dataclass(frozen=True)
class Advice:
    """A rule, as it applies to a situation and a model.

    Attributes:
        rule: the step and why.
        against: why it is left out; "" where it is to be tried.
        remarks: what this model adds to it.
        weight_bytes: about how much its weights would take, as a file; None without a model.
    """

    rule: Rule
    against: str = ""
    remarks: tuple[str, ...] = ()
    weight_bytes: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        step = self.rule.step
        return {
            "try": not self.against,
            "name": step.name,
            "recipe": [dict(each) for each in step.recipe],
            "quantize": step.quantize,
            "needs": step.needs,
            "costs": step.costs,
            "weight_bytes": self.weight_bytes,
            "why": self.rule.why,
            "remarks": list(self.remarks),
            "against": self.against,
        }


def advise(situation: Situation, found: dict[str, Any] | None = None) -> list[Advice]:
    """The steps for a situation, in the order to try them; what is left out, with the reason.

    Args:
        situation: target, data, time, accuracy to keep.
        found: what `litesmith inspect` tells of a Keras model (`cli.describe.keras_model`).

    Returns:
        One for each rule of the target, in the rules' order.
    """
    made = []
    for rule in RULES:
        if rule.target != situation.target:
            continue
        against = _against(rule.step, situation) or (_useless(rule.step, found) if found else "")
        remarks = _remarks(rule.step, found) if found and not against else ()
        size = _weight_bytes(rule.step, found) if found else None
        made.append(Advice(rule, against, remarks, size))
    return made


def _against(step: Step, situation: Situation) -> str:
    order: tuple[Needs, ...] = ("nothing", "samples", "training")
    if order.index(step.needs) > order.index(situation.needs):
        if step.needs == "samples":
            return "needs samples: 100 to 500 inputs such as the model will see, without labels"
        return "needs labelled data and the time to train"
    if situation.max_drop is not None and step.costs > situation.max_drop:
        return (
            f"lost up to {points(step.costs)} with the reference network, "
            f"{100 * situation.max_drop:g} may be lost"
        )
    return ""


def points(share: float) -> str:
    """A share of accuracy in words: `0.3 points`."""
    text = f"{100 * share:g}"
    return f"{text} point{'' if text == '1' else 's'}"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %"


def _kernels(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [kernel for layer in found["layers"] for kernel in layer["kernels"]]


def _takes(kernel: dict[str, Any], technique: str) -> bool:
    return bool(kernel["techniques"].get(technique, {}).get("can") == "by default")


def _useless(step: Step, found: dict[str, Any]) -> str:
    """Why a step would do nothing to this model, or ""."""
    kernels = _kernels(found)
    if not kernels:
        return "the model has no kernel: there is nothing to make smaller"
    for technique in step.techniques:
        if not any(_takes(kernel, technique) for kernel in kernels):
            return f"{technique} takes none of the model's kernels"
    if step.quantize == "dynamic_int8" and all(k["parameters"] < SMALL_KERNEL for k in kernels):
        return f"every kernel has fewer than {SMALL_KERNEL:,} weights, and such stay in float"
    return ""


def _remarks(step: Step, found: dict[str, Any]) -> tuple[str, ...]:
    """What this model adds to a step."""
    kernels = _kernels(found)
    total = sum(kernel["parameters"] for kernel in kernels)
    told = []
    for technique in step.techniques:
        taken = sum(kernel["parameters"] for kernel in kernels if _takes(kernel, technique))
        if taken < 0.995 * total:
            told.append(
                f"{technique} takes {_share(taken, total)} of the kernels' weights by default"
            )
    if step.quantize == "dynamic_int8":
        small = [k["parameters"] for k in kernels if k["parameters"] < SMALL_KERNEL]
        if small:
            told.append(
                f"{len(small)} of {len(kernels)} kernels stay in float, having fewer than "
                f"{SMALL_KERNEL:,} weights: {_share(sum(small), total)} of all"
            )
    if step.bits == 4:
        wide = sum(k["parameters"] for k in kernels if k["kind"] in ("conv", "dense"))
        if wide < 0.995 * total:
            told.append(
                f"{_share(wide, total)} of the kernels' weights can be int4, the rest is int8"
            )
    if step.quantize in ("int8", "int8_float_io"):
        odd = sorted({layer["type"] for layer in found["layers"]} & _PARTLY_FLOAT)
        if odd:
            told.append(
                f"parts of {', '.join(odd)} may stay in float: the manifest lists them, "
                "strict=True refuses"
            )
    return tuple(told)


def _weight_bytes(step: Step, found: dict[str, Any]) -> int:
    """About how much the weights take in the file: kernels at their bits, the rest in float32."""
    kernels = _kernels(found)
    inside = sum(kernel["bytes"] for kernel in kernels)
    size = found["weight_bytes"] - inside
    if step.bits == 16:
        return round(found["weight_bytes"] / 2)
    for kernel in kernels:
        bits = step.bits
        if step.quantize == "dynamic_int8" and kernel["parameters"] < SMALL_KERNEL:
            bits = 32
        elif bits == 4 and kernel["kind"] not in ("conv", "dense"):
            bits = 8
        size += kernel["parameters"] * bits // 8
    return int(size)


_NEEDS = {"nothing": "nothing", "samples": "samples", "training": "labels, training"}
HAVE: dict[str, str] = {
    "nothing": "no data",
    "samples": "samples, and no training",
    "training": "labelled data, and time to train",
}


def table(target: Target) -> str:
    """The rules of a target as a Markdown table: what `docs/choosing.md` shows."""
    rows = ["| | try | needs | lost, up to | why |", "|---|---|---|---|---|"]
    rules = [rule for rule in RULES if rule.target == target]
    for number, rule in enumerate(rules, 1):
        step = rule.step
        rows.append(
            f"| {number} | {step.name}: `{step.written}` | {_NEEDS[step.needs]} "
            f"| {points(step.costs)} | {rule.why} |"
        )
    return "\n".join(rows)


def matrix() -> str:
    """What to try, in order, by what there is: the first table of `docs/choosing.md`."""
    rows = [
        "| target | no data | samples, no time to train | labelled data and time |",
        "|---|---|---|---|",
    ]
    for target in TARGETS:
        cells = []
        for needs in _NEEDS:
            chosen = [
                one.rule.step.name
                for one in advise(Situation(target, needs))  # type: ignore[arg-type]
                if not one.against
            ]
            cells.append("; then ".join(chosen) or "collect 100 inputs first")
        rows.append(f"| {target} | {' | '.join(cells)} |")
    return "\n".join(rows)
