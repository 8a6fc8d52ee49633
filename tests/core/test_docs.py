"""The pages: links lead somewhere, and what stands in a code block can be read as such."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def anchors(page):
    """What GitHub makes of the headings."""
    text = FENCE.sub("", page.read_text("utf-8"))
    plain = (
        re.sub(r"[`*]", "", each).strip().lower() for each in re.findall(r"^#+ (.*)", text, re.M)
    )
    return {re.sub(r"[^\w\- ]", "", each).replace(" ", "-") for each in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page(page):
    text = page.read_text("utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text)):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
    for language, code in FENCE.findall(text):
        if language == "python" and page.name != "architecture.md":  # signatures stand there
            ast.parse(code.replace("…", "..."))
        elif language == "toml":
            tomllib.loads(code)
