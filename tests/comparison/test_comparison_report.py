import html.parser
import json
import re
import shutil
import subprocess

import pytest

from litesmith.comparison import StudyResult, VariantResult, compare
from litesmith.errors import DataError
from tests.comparison.fake import pictured, study
from tests.comparison.test_comparison_compare import row

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def broken_study():
    """A study with a failed variant and a name that wants to be HTML."""
    given = study()
    given.variants[7] = VariantResult(
        name="pruned-2-4", status="failed", error="ExportError: <script>alert(1)</script>\nline 2"
    )
    given.variants[6].name = "<b>$x$</b> | & a very long name of a variant indeed"
    given.variants[5].latency_ms = None
    return given


class Checker(html.parser.HTMLParser):
    """Tags are closed in order, ids are unique, nothing is fetched."""

    void = {"meta", "br", "hr", "img", "link", "input", "path", "use", "rect", "line", "circle"}

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.outside, self.tags = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "srcset", "action") and not value.startswith(
                ("#", "data:image/png;base64,")
            ):
                self.outside.append(value)
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if self.open and self.open[-1] == tag and tag not in self.void:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.void:
            assert self.open.pop() == tag


@pytest.mark.parametrize("make", [study, broken_study, pictured])
def test_the_html_stands_alone(tmp_path, make):
    path = compare(make(), max_drop={"accuracy": 0.01}).save(tmp_path / "report.html")
    text = path.read_text()
    checker = Checker()
    checker.feed(text)
    assert checker.open == [] and checker.outside == [] and "script" not in checker.tags
    assert len(checker.ids) == len(set(checker.ids))
    assert "http" not in text and "@import" not in text and "url(#" in text
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(checker.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(checker.ids)
    assert not re.search(
        r"#[01][0-9a-f][01][0-9a-f][01][0-9a-f]\b(?![^<]*--)", text.split("</style>")[1]
    )


def test_the_sections_are_in_order(tmp_path):
    text = compare(study()).save(tmp_path / "r.html").read_text()
    places = [text.index(mark) for mark in (
        'aria-label="Verdict"', ">Charts<", "<svg", ">All variants<", ">Layers<", "<details",
        ">Notes<", ">How it was made<", "litesmith study -o build/demo",
    )]  # fmt: skip
    assert places == sorted(places)
    assert text.count("<svg") == 4 and text.count("<details") == 8
    assert "1 input channel cannot take 2:4" in text and "Intel Xeon" in text
    assert text.count("<title>") == 1 and "builtin:digits on digits" in text


def test_names_and_errors_are_text(tmp_path):
    found = compare(broken_study())
    text = found.save(tmp_path / "r.html").read_text()
    assert "<script>" not in text and "<b>$x$" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\nline 2" in text and "failed, see below" in text
    markdown = found.save(tmp_path / "r.md").read_text()
    assert "<script>" not in markdown and "<b>" not in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows[:10]} == {
        len(re.findall(r"\|", rows[0]))
    }


@pytest.mark.parametrize(
    "rows",
    [
        [row("a")],
        [row("a"), row("b")],
        [row("a", 0.9)],
        [row("a", 0.9), row("b", 0.9)],
        [row("a", 0.0, 1), row("b", 0.0, 1)],
        [row("a", 0.9, 100, 0.1), row("b", status="failed", error="x")],
        [row("a", status="failed", error="x"), row("b", status="failed")],
        [row("a", 0.9, None, 1.0), row("b", None, 50)],
        [row("a", float("nan"), 10, 1.0), row("b", 0.5, 5, 1.0), row("c", float("inf"), 5)],
        [row("a", -3.5, 10, 1.0, metric="mse"), row("b", 1e9, 5, 1.0, metric="mse")],
        [row(f"variant-{i}", 0.9 - i / 1000, 10 ** (1 + i % 7), 0.1 + i) for i in range(25)],
    ],
    ids=range(11),
)
def test_missing_and_odd_figures_never_stop_a_report(tmp_path, rows):
    found = compare(rows)
    for ending in ("html", "md", "json"):
        assert found.save(tmp_path / f"r.{ending}").stat().st_size > 100
    json.loads((tmp_path / "r.json").read_text(), parse_constant=lambda name: 1 / 0)


def test_the_json_has_the_rows_of_study_json(tmp_path):
    given = study()
    path = compare(given, max_drop={"accuracy": 0.01}).save(tmp_path / "r.json")
    found = json.loads(path.read_text())
    assert found["variants"] == json.loads(given.model_dump_json())["variants"]
    assert found["schema"] == 1 and found["baseline"] == "baseline" and found["backend"]
    assert found["pareto"]["size"] == ["pruned-80-int8", "dynamic", "pruned-50"]
    assert [one["variant"] for one in found["missed"]] == ["pruned-80", "pruned-80-int8"]
    assert found["metric"] == "accuracy" and len(found["verdict"]) == 8


def test_the_markdown_has_the_sections(tmp_path):
    text = compare(study()).save(tmp_path / "r.md").read_text()
    heads = [line for line in text.splitlines() if re.match("##? ", line)]
    assert heads == ["# builtin:digits on digits", "## Variants", "## Layers", "## Notes",
                     "## How it was made"]  # fmt: skip
    assert "| pruned-80-int8 | prune sparsity=0.8 · int8 | 96.66 % | −1.95 |" in text


def test_fidelity_has_a_table_of_its_own(tmp_path):
    given = study()
    worst = {"layer": "conv2d <1>", "kind": "pre", "signal_to_noise": 31.26, "equal": 0.5,
             "within": 0.9876, "largest": 3.0}  # fmt: skip
    last = {**worst, "layer": "dense", "signal_to_noise": None}
    about = {"samples": 256, "agreement": 0.9961, "tensors": 9, "logits": last,
             "first": "conv2d <1>", "worst": [worst]}  # fmt: skip
    rows = json.loads(given.model_dump_json())
    rows["variants"][3]["fidelity"] = about
    found = compare(StudyResult.model_validate(rows))
    text = found.save(tmp_path / "r.md").read_text()
    assert "| int8 | 99.61 % | equal | 98.76 % | conv2d &lt;1> |" in text
    assert "| conv2d &lt;1> | before its activation | 31.3 dB | 50.00 % | 98.76 % | 3 |" in text
    html = found.save(tmp_path / "r.html").read_text()
    assert html.index(">Layers<") < html.index(">Fidelity<") < html.index(">Notes<")
    assert "conv2d &lt;1&gt;" in html and "31.3 dB" in html
    assert ">Fidelity<" not in compare(study()).save(tmp_path / "plain.html").read_text()


def test_pictures_whose_answer_changed(tmp_path):
    given = pictured()
    found = compare(given)
    text = found.save(tmp_path / "r.html").read_text()
    section = text.split(">Answers that changed<")[1].split("</section>")[0]
    shown = [one for one in given.variants if one.changed and one.changed.samples]
    assert section.count("<h3>") == len(shown) == 6  # the first of the seven changed nothing
    assert (
        section.count("<img")
        == sum(len(one.changed.samples) for one in shown)
        == 1 + 2 + 3 + 4 + 5 + 6
    )
    for one in shown:
        change = one.changed
        assert (
            f"{change.total} of 30 answers changed: {change.worse} became wrong, "
            f"{change.better} became right" in section
        )
    sample = shown[0].changed.samples[0]
    name = "an exceptionallylongclassname"
    assert f"{name}{sample.before} → <b>{name}{sample.after}</b>" in section
    assert f"is {name}{sample.label}" in section
    markdown = found.save(tmp_path / "r.md").read_text()
    assert "## Changed answers" in markdown and "- float16: 0 of 30 answers changed" in markdown
    assert "Answers that changed" not in compare(study()).save(tmp_path / "s.html").read_text()


def test_another_ending_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(DataError, match=r"ending in .html, .md or .json, received .htm; did you"):
        compare(study()).save(tmp_path / "report.htm")
    with pytest.raises(DataError, match="received no ending"):
        compare(study()).save(tmp_path / "report")
    assert list(tmp_path.iterdir()) == []


def test_the_same_study_gives_the_same_report(tmp_path):
    first, second = (compare(study()).save(tmp_path / f"{i}.html").read_bytes() for i in "12")
    assert first == second


def opened(page, tmp_path):
    """What Chromium says and what the page has become."""
    return subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}",
            "--window-size=1400,1000", "--virtual-time-budget=3000", "--hide-scrollbars",
            "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip


MEASURE = """<!doctype html><meta charset="utf-8"><body>
<iframe id="f" style="width:{width}px;height:900px;border:0"></iframe>
<script>
const frame = document.getElementById("f");
frame.onload = () => {{
  const page = frame.contentDocument, root = page.documentElement;
  const text = node => node.getBoundingClientRect();
  const labels = [...page.querySelectorAll(".chart")].map(chart =>
    [...chart.querySelectorAll("svg text")].filter(n => n.textContent.trim()).map(text));
  let overlaps = 0;
  for (const boxes of labels) for (let i = 0; i < boxes.length; i++) for (let j = 0; j < i; j++) {{
    const a = boxes[i], b = boxes[j];
    const w = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const h = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (w > 1 && h > 0.35 * Math.min(a.height, b.height)) overlaps++;
  }}
  const sizes = labels.flat().map(b => b.height);
  document.title = JSON.stringify({{
    inner: root.clientWidth, scroll: root.scrollWidth, overlaps,
    smallest: Math.min(...sizes), charts: labels.length,
    tables: [...page.querySelectorAll(".box")].every(b => text(b).right <= root.clientWidth + 1),
  }});
}};
frame.srcdoc = {page};
</script>"""


@pytest.mark.chromium
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("make", [study, broken_study, pictured])
def test_it_fits_a_telephone_and_a_screen(tmp_path, width, make):
    report = compare(make(), max_drop={"accuracy": 0.01}).save(tmp_path / "report.html")
    page = tmp_path / "measure.html"
    text = json.dumps(report.read_text()).replace("</", "<\\/")
    page.write_text(MEASURE.format(width=width, page=text))
    done = opened(page, tmp_path)
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title, done.stdout[:500]
    found = json.loads(html.unescape(title[1]))
    assert found["inner"] == width and found["scroll"] <= width
    assert found["tables"] and found["charts"] == 4
    assert found["overlaps"] == 0
    assert found["smallest"] >= 8  # pixels a line, on the telephone too
    assert "CONSOLE" not in done.stderr
