"""`compare`: variants side by side, and what follows from it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litesmith import files
from litesmith.comparison import pareto
from litesmith.comparison.figures import Metric, missing
from litesmith.comparison.merging import merge
from litesmith.comparison.results import StudyResult, VariantResult
from litesmith.comparison.verdict import Finding, find
from litesmith.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import rich.table

_FORMATS = (".html", ".md", ".json")


@dataclasses.dataclass(frozen=True)
class Missed:
    """A threshold a variant did not keep.

    Attributes:
        variant: its name.
        metric: which one.
        drop: how much worse than the baseline; None where it was not measured.
        allowed: what `max_drop` allows.
    """

    variant: str
    metric: str
    drop: float | None
    allowed: float

    def __str__(self) -> str:
        metric = Metric(self.metric)
        if self.drop is None:
            return f"{self.variant}: {metric.title} was not measured, so max_drop cannot be checked"
        limit = metric.distance(self.allowed).split(" ")[0]
        return f"{self.variant} loses {metric.distance(self.drop)}, more than the {limit} allowed"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Variants of one model side by side; made by `compare`.

    Attributes:
        variants: one row each, in the order given.
        study: where they came from a study: its machine, model, data and versions.
        max_drop: what each metric may lose against the baseline.
    """

    variants: tuple[VariantResult, ...]
    study: StudyResult | None = None
    max_drop: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def baseline(self) -> VariantResult:
        """What the others are measured against: the one called `baseline`, else the first."""
        named = [variant for variant in self.variants if variant.name == "baseline"]
        return (named or list(self.variants))[0]

    @property
    def done(self) -> tuple[VariantResult, ...]:
        """The variants that did not fail."""
        return tuple(variant for variant in self.variants if variant.status == "done")

    @property
    def failed(self) -> tuple[VariantResult, ...]:
        """The variants that failed."""
        return tuple(variant for variant in self.variants if variant.status == "failed")

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric any variant has, in order of appearance."""
        return tuple(dict.fromkeys(name for variant in self.variants for name in variant.metrics))

    @property
    def metric(self) -> Metric | None:
        """The one the verdict and the charts go by: accuracy where there is one, else the first."""
        names = self.metrics
        if not names:
            return None
        near = [name for name in names if "accuracy" in name]
        gains = [name for name in names if not Metric(name).lower_is_better]
        return Metric((near or gains or list(names))[0])

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The verdict, each sentence with what it is about."""
        return tuple(find(self))

    @property
    def verdict(self) -> tuple[str, ...]:
        """What a busy engineer wants to know, in sentences."""
        return tuple(finding.text for finding in self.findings)

    @property
    def missed(self) -> tuple[Missed, ...]:
        """Thresholds of `max_drop` that were not kept; failed variants are in `.failed`."""
        found = []
        for name, allowed in self.max_drop.items():
            before = self.baseline.metrics.get(name)
            for variant in self.done:
                after = variant.metrics.get(name)
                if missing(before) or missing(after):
                    found.append(Missed(variant.name, name, None, allowed))
                    continue
                assert before is not None and after is not None
                drop = Metric(name).lost(after, before)
                if drop > allowed + 1e-9:  # 0.01 allowed is 0.01 kept, whatever floats make of it
                    found.append(Missed(variant.name, name, drop, allowed))
        return tuple(found)

    def pareto(self, x: str = "size") -> tuple[str, ...]:
        """Names of the variants that nothing beats in both the metric and a cost.

        Args:
            x: `"size"` (zipped; also `"zip"`), `"file"`, `"latency"` or `"memory"`.

        Returns:
            Names by rising cost; empty where there is nothing to weigh.
        """
        cost, metric = pareto.axis(x), self.metric
        if metric is None:
            return ()
        sign = 1 if metric.lower_is_better else -1
        points = [
            (variant.name, cost(variant), _times(sign, variant.metrics.get(metric.name)))
            for variant in self.done
        ]
        return tuple(pareto.front(points))

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON; the rows have the fields of `study.json`."""
        study = self.study.model_dump(by_alias=True, exclude={"variants"}) if self.study else {}
        return {
            **study,
            "schema": 1,
            "baseline": self.baseline.name,
            "metric": self.metric.name if self.metric else None,
            "verdict": list(self.verdict),
            "pareto": {name: list(self.pareto(name)) for name in ("size", "file", "latency")},
            "max_drop": dict(self.max_drop),
            "missed": [dataclasses.asdict(one) for one in self.missed],
            "failed": [variant.name for variant in self.failed],
            "variants": [variant.model_dump() for variant in self.variants],
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the report.

        Args:
            path: ending in `.html` (one self-contained file), `.md` or `.json`.

        Returns:
            The path.

        Raises:
            DataError: another ending.
        """
        target = Path(path)
        if target.suffix == ".html":
            from litesmith.comparison.html import render

            return files.write_text(target, render(self))
        if target.suffix == ".md":
            from litesmith.comparison.markdown import write

            return files.write_text(target, write(self))
        if target.suffix == ".json":
            from litesmith.comparison.serialization import to_json

            return files.write_text(target, to_json(self.to_dict()))
        raise DataError(
            f"report {target.name!r}",
            expected="a file ending in .html, .md or .json",
            received=target.suffix or "no ending",
            fix=did_you_mean(target.suffix, _FORMATS),
        )

    def table(self) -> rich.table.Table:
        """The table for a terminal."""
        from litesmith.comparison.columns import rich_table

        return rich_table(self)

    def __str__(self) -> str:
        return "\n".join(self.verdict)


def compare(
    results: Any,
    *,
    names: Sequence[str] | None = None,
    max_drop: Mapping[str, float] | None = None,
) -> Comparison:
    """Put results side by side.

    Args:
        results: results of `evaluate`, `benchmark` and `study`, or rows of a study, in any mix;
            what has one name is one variant. The first is the baseline unless one is called so.
        names: a name for each result, in place of its own.
        max_drop: how much each metric may lose against the baseline (as a number: 0.01 is one
            point of accuracy); what loses more is in `.missed`.

    Returns:
        The comparison.

    Raises:
        DataError: nothing to compare, two models under one name, a threshold for a metric nobody
            measured.
    """
    variants, study = merge(results, names)
    limits: dict[str, float] = {}
    known = list(dict.fromkeys(name for variant in variants for name in variant.metrics))
    for name, allowed in (max_drop or {}).items():
        if isinstance(allowed, bool) or not isinstance(allowed, int | float) or not allowed >= 0:
            raise DataError(
                f"max_drop[{name!r}]",
                expected="a number from 0, such as 0.01",
                received=allowed,
            )
        if name not in known and any(variant.status == "done" for variant in variants):
            raise DataError(
                f"max_drop[{name!r}]",
                expected="a metric that was measured",
                received=name,
                fix=did_you_mean(name, known),
            )
        limits[name] = float(allowed)
    return Comparison(tuple(variants), study, limits)


def _times(sign: int, value: float | None) -> float | None:
    return None if value is None else sign * value
