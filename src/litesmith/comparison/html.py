"""The report as one HTML file that needs nothing else: no network, no script, any screen."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jinja2
import markupsafe

from litesmith.comparison import describe, figures, sparklines
from litesmith.comparison.charts import charts
from litesmith.comparison.columns import cells, columns

if TYPE_CHECKING:
    from litesmith.comparison.comparison import Comparison

_CARDS = ("smallest", "within", "fastest", "most accurate", "lossless")


def render(comparison: Comparison) -> str:
    """The report's HTML.

    Args:
        comparison: what to show; sections without figures are left out.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("litesmith.comparison", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    findings = comparison.findings
    shown = columns(comparison)
    grid = [cells(comparison, column) for column in shown]
    front = {*comparison.pareto("size"), *comparison.pareto("latency")}
    missed = {one.variant for one in comparison.missed}
    return environment.get_template("report.html.jinja").render(
        metric=comparison.metric.title if comparison.metric else "",
        title=describe.title(comparison),
        cards=[_card(one) for one in findings if one.kind in _CARDS],
        remarks=[one for one in findings if one.kind not in _CARDS],
        charts=[
            {"title": one.title, "caption": one.caption, "svg": markupsafe.Markup(one.svg)}
            for one in charts(comparison)
        ],
        columns=shown,
        rows=[
            {
                "name": variant.name,
                "recipe": describe.recipe(variant),
                "cells": [column[index] for column in grid],
                "failed": variant.status == "failed",
                "front": variant.name in front,
                "missed": variant.name in missed,
                "baseline": variant.name == comparison.baseline.name,
            }
            for index, variant in enumerate(comparison.variants)
        ],
        matrix=_matrix(comparison),
        layers=[
            {
                "name": variant.name,
                "histograms": any(layer.histogram is not None for layer in variant.layers),
                "total": figures.size(sum(layer.bytes for layer in variant.layers)),
                "timeline": variant.timeline,
                "rows": [
                    {
                        "texts": texts,
                        "share": describe.layer_sparsity(layer) or 0.0,
                        "histogram": markupsafe.Markup(sparklines.svg(layer.histogram))
                        if layer.histogram is not None
                        else "",
                    }
                    for texts, layer in zip(
                        describe.layer_rows(variant), variant.layers, strict=True
                    )
                ],
            }
            for variant in comparison.variants
            if variant.layers
        ],
        fidelity={
            "text": describe.FIDELITY_TEXT,
            "head": describe.FIDELITY_HEAD,
            "rows": describe.fidelity_rows(comparison),
            "worst_head": describe.WORST_HEAD,
            "worst": [
                {"name": one.name, "rows": describe.worst_rows(one)}
                for one in comparison.done
                if describe.worst_rows(one)
            ],
        },
        changed=_changed(comparison),
        notes=describe.notes(comparison),
        failures=[
            {"name": variant.name, "error": variant.error or "no reason given"}
            for variant in comparison.failed
        ],
        facts=describe.facts(comparison),
        command=describe.command(comparison),
    )


def _card(finding: Any) -> dict[str, Any]:
    """A finding whose heading stands above it: the sentence need not repeat it."""
    card = dataclasses.asdict(finding)
    label, separator, rest = finding.text.partition(": ")
    if separator and label.lower().startswith(finding.label.lower().split()[0]):
        card["text"] = rest[:1].upper() + rest[1:] if finding.variant is None else rest
    return card


def _changed(comparison: Comparison) -> list[dict[str, Any]]:
    """Pictures whose answer changed, variant by variant; none where samples are no pictures."""
    found = []
    for variant in comparison.done:
        if variant.changed is None or not any(one.picture for one in variant.changed.samples):
            continue
        found.append(
            {
                "name": variant.name,
                "text": describe.changed(variant.changed),
                "samples": [
                    {
                        "source": f"data:image/png;base64,{one.picture}",
                        "index": one.index,
                        "label": describe.class_name(comparison, variant.changed, one.label),
                        "before": describe.class_name(comparison, variant.changed, one.before),
                        "after": describe.class_name(comparison, variant.changed, one.after),
                        "kind": "right"
                        if one.after == one.label
                        else "wrong"
                        if one.before == one.label
                        else "",
                    }
                    for one in variant.changed.samples
                    if one.picture
                ],
            }
        )
    return found


def _matrix(comparison: Comparison) -> dict[str, Any] | None:
    """Zeros by kernel (rows) and variant (columns), where pruning made a difference."""
    variants = [one for one in comparison.done if one.layers]
    by_name = [
        {layer.variable or layer.tensor: layer for layer in variant.layers} for variant in variants
    ]
    shares = [
        {name: describe.layer_sparsity(layer) for name, layer in layers.items()}
        for layers in by_name
    ]
    chosen = [
        index
        for index, one in enumerate(shares)
        if max(filter(None, one.values()), default=0) >= 0.1
    ]
    names = list(dict.fromkeys(name for index in chosen for name in shares[index]))
    if not chosen or not names:
        return None
    return {
        "variants": [variants[index].name for index in chosen],
        "rows": [
            {
                "name": name,
                "size": next(
                    f"{by_name[index][name].size:,}" for index in chosen if name in by_name[index]
                ),
                "cells": [
                    {
                        "text": figures.share(shares[index].get(name)),
                        "share": shares[index].get(name) or 0.0,
                    }
                    for index in chosen
                ],
            }
            for name in names
        ],
    }
