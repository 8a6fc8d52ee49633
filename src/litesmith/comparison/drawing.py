"""A figure of matplotlib as an SVG element of a page, in colours that the page decides."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours matplotlib draws with, and the CSS variables of the page that take their place.
INK, MUTED, GRID = "#010203", "#040506", "#070809"
MAIN, SECOND, BASE = "#0a0b0c", "#0d0e0f", "#101112"
PAGE = "#131415"
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    MAIN: "--main",
    SECOND: "--second",
    BASE: "--base",
    PAGE: "--card",
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 8.5,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "text.color": INK,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "grid.color": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # a name may have dollar signs in it
}


def style() -> Any:
    """A context in which matplotlib draws as the report looks."""
    import matplotlib

    return matplotlib.rc_context(_STYLE)


def svg(figure: Figure, key: str, description: str) -> str:
    """The figure as an SVG element for a page: no header, no links, colours and font the page's."""
    import html

    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": key}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\s(?:xmlns(?::\w+)?|version)="[^"]*"', "", text)
    text = text.replace("xlink:href", "href")
    text = _own_ids(text, key)
    text = re.sub(r"font-family: [^;\"]*", "font-family: var(--font)", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    assert box is not None
    head = (
        f'<svg viewBox="0 0 {box[1]} {box[2]}" role="img" '
        f'aria-label="{html.escape(description, quote=True)}">'
    )
    return head + text[text.index(">") + 1 :].strip()


def _own_ids(text: str, key: str) -> str:
    """Keep the ids that are used, once each, with a prefix: several charts share a page."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    seen: set[str] = set()

    def keep(match: re.Match[str]) -> str:
        name = match[1]
        if name not in used or name in seen:
            return ""
        seen.add(name)
        return f' id="{key}-{name}"'

    text = re.sub(r'\sid="([^"]*)"', keep, text)
    return re.sub(r'(href="#|url\(#)', rf"\1{key}-", text)
