"""Results of any kind, as rows: what several goes measured of one variant is put together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from litesmith import files
from litesmith.comparison.results import StudyResult, VariantResult
from litesmith.errors import DataError


def merge(
    results: Any, names: Sequence[str] | None = None
) -> tuple[list[VariantResult], StudyResult | None]:
    """Bring results to rows.

    Args:
        results: `VariantResult`, `Evaluation`, `Benchmark` and `StudyResult` objects in any mix,
            or one of them.
        names: a name for each result in place of its own; a study counts its variants.

    Returns:
        One row a name, in the order of first appearance, and the study they came from, if any.

    Raises:
        DataError: nothing to compare, something else among it, names that do not fit, or two
            different models under one name.
    """
    study: StudyResult | None = None
    flat: list[Any] = []
    for item in _several(results):
        if isinstance(item, StudyResult):
            study = study or item
            flat += item.variants
        elif isinstance(item, Mapping) and "variants" in item:
            parsed = StudyResult.model_validate(item)
            study = study or parsed
            flat += parsed.variants
        else:
            flat.append(item)
    if not flat:
        raise DataError("compare", expected="at least one result", received="none")
    if names is not None and len(names) != len(flat):
        raise DataError(
            "names", expected=f"one for each of {len(flat)} results", received=f"{len(names)}"
        )
    rows: dict[str, VariantResult] = {}
    sources: dict[tuple[str, str], str] = {}
    for index, item in enumerate(flat):
        row = _row(item)
        if names is not None:
            row.name = str(names[index])
        if row.artifact is not None:
            kind = type(item).__name__
            first = sources.setdefault((row.name, ""), row.artifact)
            if first != row.artifact or (row.name, kind) in sources:
                raise DataError(
                    f"two results are called {row.name!r}",
                    received=f"{first} and {row.artifact}",
                    fix="tell them apart with names=[…]",
                )
            sources[row.name, kind] = row.artifact
        rows[row.name] = _joined(rows[row.name], row) if row.name in rows else row
    return list(rows.values()), study


def _several(results: Any) -> list[Any]:
    if isinstance(results, Mapping | StudyResult | VariantResult) or hasattr(results, "name"):
        return [results]
    if isinstance(results, str) or not isinstance(results, Iterable):
        raise _wrong(results)
    return list(results)


def _row(item: Any) -> VariantResult:
    if isinstance(item, VariantResult):
        return item.model_copy(deep=True)
    name = getattr(item, "name", None)
    if name is None:
        raise _wrong(item)
    source = getattr(item, "source", None)
    fields: dict[str, Any] = {
        "name": str(name),
        "artifact": None if source is None else str(source),
        "quantize": "",  # not known from a measurement
    } | _made_how(source)
    if hasattr(item, "latency_ms"):
        for field in ("latency_ms", "load_ms", "memory", "size"):
            fields[field] = _plain(getattr(item, field, None))
        for extra in ("delegate", "machine", "runs", "threads"):
            if getattr(item, extra, None) is not None:
                fields[extra] = _plain(getattr(item, extra))
    elif hasattr(item, "metrics"):
        fields["metrics"] = {key: float(value) for key, value in item.metrics.items()}
        fields["agreement"] = getattr(item, "agreement", None)
        if getattr(item, "samples", None) is not None:
            fields["samples"] = int(item.samples)
    else:
        raise _wrong(item)
    return VariantResult(**{key: value for key, value in fields.items() if value is not None})


class _Techniques(BaseModel):
    techniques: list[dict[str, Any]] = []


class _MadeHow(BaseModel):
    """What a manifest of `export` tells of recipe and preset."""

    sha256: str
    quantize: Any = ""
    recipe: _Techniques | None = None


def _made_how(source: Any) -> dict[str, Any]:
    """Recipe and preset of a `.tflite`, from the manifest that `export` left beside it."""
    if source is None or not str(source).endswith(".tflite"):
        return {}
    try:
        told = _MadeHow.model_validate_json(Path(f"{source}.json").read_bytes())
        if told.sha256 != files.sha256(str(source)):
            return {}
    except (OSError, ValueError):
        return {}  # there is none, or it is somebody else's file
    preset = told.quantize if isinstance(told.quantize, str) else ""
    return {"recipe": told.recipe.techniques if told.recipe else [], "quantize": preset}


def _joined(first: VariantResult, second: VariantResult) -> VariantResult:
    """What the second knows is added to the first; where both know, the later one counts."""
    merged = first.model_dump()
    for field, value in second.model_dump(exclude_unset=True).items():
        if value in (None, {}, [], "") or field == "name":
            continue
        if isinstance(value, dict) and isinstance(merged.get(field), dict):
            merged[field] = {**merged[field], **value}
        else:
            merged[field] = value
    return VariantResult.model_validate(merged)


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    return dump() if dump is not None else value


def _wrong(item: Any) -> DataError:
    return DataError(
        "compare",
        expected="results of evaluate, benchmark or a study",
        received=type(item).__name__,
        fix="pass a list such as [evaluate(…), benchmark(…)]",
    )
