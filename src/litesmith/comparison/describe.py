"""Words for what is not a figure: recipes, machines, data, layers; shared by html and markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litesmith.comparison import figures
from litesmith.comparison.results import Changed, Layer, VariantResult

if TYPE_CHECKING:
    from litesmith.comparison.comparison import Comparison


def title(comparison: Comparison) -> str:
    """The report's heading: the model, and the data where they are known."""
    study = comparison.study
    if study is None:
        return f"{len(comparison.variants)} variants compared"
    model = study.model.get("source") or study.model.get("name")
    data = study.data.get("name") or study.data.get("source")
    return " on ".join(str(part) for part in (model, data) if part) or "Study"


def recipe(variant: VariantResult) -> str:
    """What was done, in a few words: `prune sparsity=0.8 · int8`."""
    steps = []
    for technique in variant.recipe:
        fields = {key: value for key, value in technique.items() if value is not None}
        name = str(fields.pop("technique", "?"))
        steps.append(" ".join([name, *(f"{key}={_short(value)}" for key, value in fields.items())]))
    if variant.quantize:
        steps.append(variant.quantize)
    if variant.sparse:
        steps.append("stored sparse")
    return " · ".join(steps)


def facts(comparison: Comparison) -> list[tuple[str, str]]:
    """Machine, versions, data and model as (name, value) lines; empty without a study."""
    study = comparison.study
    if study is None:
        machine = getattr(comparison.baseline, "machine", None)
        return _flat("machine", machine) if isinstance(machine, dict) else []
    lines = []
    for name in ("litesmith", "keras", "backend"):
        value = getattr(study, name)
        if value:
            lines.append((name, str(value)))
    for name in ("machine", "model", "data"):
        lines += _flat(name, getattr(study, name))
    known = {"machine", "model", "data", "variants", "schema", "command"}
    for name, value in (study.model_extra or {}).items():
        if name not in known and isinstance(value, str | int | float):
            lines.append((name, _value(name, value)))
    seconds = sum(sum(variant.seconds.values()) for variant in comparison.variants)
    if seconds:
        lines.append(("time", f"{seconds:.0f} s for {len(comparison.variants)} variants"))
    return lines


def command(comparison: Comparison) -> str:
    """The command line that makes this report again, or ""."""
    extra = comparison.study.model_extra if comparison.study else None
    given = (extra or {}).get("command", "")
    return " ".join(map(str, given)) if isinstance(given, list | tuple) else str(given)


def notes(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Notes by variant (what was skipped and why, operators left float), the data's first."""
    found = []
    if comparison.study is not None:
        data = comparison.study.data.get("notes")
        if isinstance(data, list) and data:
            found.append(("data", [str(note) for note in data]))
    return found + [(one.name, one.notes) for one in comparison.variants if one.notes]


def class_name(comparison: Comparison, change: Changed, number: int) -> str:
    """What a class is called, where the data names its classes; else its number."""
    names: Any = change.classes
    if names is None and comparison.study is not None:
        names = comparison.study.data.get("class_names")
    if isinstance(names, list) and 0 <= number < len(names):
        return str(names[number])
    return str(number)


def changed(change: Changed) -> str:
    """How many answers changed, and which way, in a sentence."""
    of = f" of {change.of:,}" if change.of is not None else ""
    return (
        f"{change.total:,}{of} answers changed: "
        f"{change.worse:,} became wrong, {change.better:,} became right"
    )


def layer_sparsity(layer: Layer) -> float | None:
    """Share of zeros among a layer's weights."""
    return layer.zeros / layer.size if layer.size else None


def layer_rows(variant: VariantResult) -> list[tuple[str, ...]]:
    """A variant's layers as text: kernel, type, weights, zeros, values, bytes."""
    return [
        (
            layer.variable or layer.layer or layer.tensor,
            layer.dtype,
            f"{layer.size:,}",
            figures.share(layer_sparsity(layer)),
            f"{layer.unique:,}",
            figures.size(layer.bytes),
        )
        for layer in variant.layers
    ]


FIDELITY_TEXT = (
    "What was trained simulates its .tflite; both ran on the same test samples, and were compared "
    "tensor by tensor."
)
FIDELITY_HEAD = ("variant", "same class", "logits", "within a quantum", "first to part")
WORST_HEAD = ("layer", "tensor", "signal to noise", "equal", "within a quantum", "largest")
_KINDS = {"out": "output", "pre": "before its activation"}


def fidelity_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """How closely each `.tflite` that was trained quantized does what training simulated."""
    rows: list[tuple[str, ...]] = []
    for variant in comparison.done:
        found = variant.fidelity
        if found is None:
            continue
        logits = found.logits
        same = "–" if found.agreement is None else _percent(found.agreement)
        ratio = "–" if logits is None else _decibels(logits.signal_to_noise)
        within = "–" if logits is None else _percent(logits.within)
        rows.append((variant.name, same, ratio, within, found.first or "none"))
    return rows


def worst_rows(variant: VariantResult) -> list[tuple[str, ...]]:
    """The tensors in which a `.tflite` and its simulation differ most."""
    return [
        (
            each.layer,
            _KINDS.get(each.kind, each.kind),
            _decibels(each.signal_to_noise),
            _percent(each.equal),
            _percent(each.within),
            f"{each.largest:.0f}",
        )
        for each in (variant.fidelity.worst if variant.fidelity else ())
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _decibels(ratio: float | None) -> str:
    return "equal" if ratio is None else f"{ratio:.1f} dB"


def _flat(prefix: str, values: dict[str, Any]) -> list[tuple[str, str]]:
    lines = []
    for key, value in values.items():
        if value is None or value == [] or value == {} or key in ("notes", "class_names"):
            continue
        if isinstance(value, dict):
            text = ", ".join(f"{name} {_value(name, item)}" for name, item in value.items())
        else:
            text = _value(key, value)
        lines.append((f"{prefix}: {key.replace('_', ' ')}", text))
    return lines


def _value(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and ("memory" in name or "bytes" in name) and value > 1_000_000:
        return figures.size(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple) and all(isinstance(one, int) for one in value):
        return "×".join(str(one) for one in value)
    return str(value)


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + " ".join(f"{key}={_short(item)}" for key, item in value.items()) + ")"
    return str(value)
