"""What every report format promises, asked of every format."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from html.parser import HTMLParser

import pytest

from deploykit import reports
from deploykit.errors import UnknownName
from deploykit.reports import Bars, Column, Report, Spread, Table

HOSTILE = "<script>alert(1)</script> | `x` \x1b[31mred\x1b[0m \r\nline & \"quote\" 'single'"

TABLE = Table(
    "the layers",
    [
        Column("path", "layer"),
        Column("shape", "shape", "shape"),
        Column("params", "params", "count"),
        Column("ms", "ms", "ms"),
        Column("share", "share", "percent"),
        Column("bytes", "memory", "bytes"),
    ],
    [
        {"path": "conv1", "shape": (1, 6, 28, 28), "params": 61706, "ms": 0.12345, "share": 0.25, "bytes": 2_000_000},
        {"path": "fc", "shape": None, "params": 10, "ms": None, "share": 0.75, "bytes": 0},
    ],
    {"path": "total", "params": 61716, "ms": 0.12345, "share": 1.0},
)
REPORT = Report(
    title="a report",
    document={"layers": [{"path": "conv1"}], "nan": float("nan")},
    headline="it is 1.81x faster",
    good=True,
    facts=[("device", "cpu")],
    tables=[TABLE],
    notes=["a remark"],
    charts=[
        Bars("time", ["conv1", "fc"], {"a": [1.0, None], "b": [2.0, 3.0]}, "ms"),
        Spread("spread", {"a": [1.0, 2.0, 2.5]}, "ms"),
    ],
)


@pytest.fixture(params=reports.names())
def name(request):
    return request.param


def test_a_full_report_becomes_text_without_a_trailing_newline(name):
    text = reports.render(REPORT, name)
    assert text
    assert not text.endswith("\n")
    text.encode()


@pytest.mark.parametrize(
    "report",
    [
        Report("", {}),
        Report("", [], tables=[Table("", [Column("a", "a")], [])]),
        Report("", [], tables=[Table("", [], [])]),
        Report("t", {}, charts=[Bars("b", [], {}), Spread("s", {}), Spread("one", {"x": [1.0]})]),
        Report("t", {}, tables=[Table("", [Column("a", "a", "ms")], [{"a": None}], {"a": None})]),
    ],
)
def test_an_empty_report_is_no_error(name, report):
    reports.render(report, name)


def test_hostile_texts_cannot_leave_their_place(name):
    table = Table(HOSTILE, [Column("path", HOSTILE), Column("n", "n", "count")], [{"path": HOSTILE, "n": 1}], {"path": HOSTILE})
    report = Report(HOSTILE, {"path": HOSTILE}, HOSTILE, True, [(HOSTILE, HOSTILE)], [table], [HOSTILE],
                    [Bars(HOSTILE, [HOSTILE], {HOSTILE: [1.0]}), Spread(HOSTILE, {HOSTILE: [1.0, 2.0], "b": [1.0]})])  # fmt: skip
    text = reports.render(report, name)
    assert "\x1b" not in text
    assert "\r" not in text
    if name == "html":
        assert "<script>alert" not in text
    if name == "json":
        assert json.loads(text)["path"] == HOSTILE


def test_an_unknown_format_names_the_nearest():
    with pytest.raises(UnknownName, match="markdown"):
        reports.render(REPORT, "mardown")


def test_json_is_strict():
    document = json.loads(reports.render(REPORT, "json"), parse_constant=lambda _: pytest.fail("not finite"))
    assert document == {"layers": [{"path": "conv1"}], "nan": None}


def test_csv_has_keys_plain_numbers_and_totals_last():
    rows = list(csv.DictReader(io.StringIO(reports.render(REPORT, "csv"))))
    assert rows[0] == {
        "path": "conv1",
        "shape": "1x6x28x28",
        "params": "61706",
        "ms": "0.12345",
        "share": "0.25",
        "bytes": "2000000",
    }
    assert rows[1]["ms"] == rows[1]["shape"] == ""
    assert rows[-1]["path"] == "total"
    assert int(rows[-1]["params"]) == sum(int(row["params"]) for row in rows[:-1])


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x"])
def test_csv_gives_a_spreadsheet_no_formula(text):
    report = Report("", {}, tables=[Table("", [Column("a", "a")], [{"a": text}])])
    assert next(csv.reader([reports.render(report, "csv").splitlines()[1]])) == [f"'{text}"]


def test_markdown_tables_have_as_many_cells_in_every_row():
    lines = [line for line in reports.render(REPORT, "markdown").splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 2 + 1
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {7}
    assert "**61,716**" in lines[-1]


class Page(HTMLParser):
    """What a browser would fetch, and whether every element is closed."""

    VOID = frozenset({"meta", "line"})

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.fetched, self.cells, self.rects = [], [], 0, 0

    def handle_starttag(self, tag, attrs):
        self.fetched += [value for key, value in attrs if key in ("src", "href", "srcset", "data", "action")]
        self.cells += tag == "td"
        self.rects += tag == "rect" or dict(attrs).get("class", "").startswith("bar s")
        if tag not in self.VOID or tag == "rect":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.rects += tag == "rect"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_is_one_whole_page_that_fetches_nothing():
    text = reports.render(REPORT, "html")
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.fetched == []
    assert "url(" not in text
    assert "@import" not in text
    assert page.cells == 6 * 3
    assert page.rects >= 3 + 3  # three bars, three filled bins
    assert "default-src 'none'" in text
    assert html.escape("it is 1.81x faster") in text
    assert 'name="viewport"' in text


def test_the_table_on_a_narrow_screen_drops_minor_columns_and_says_so(monkeypatch):
    columns = [Column("a", "a"), Column("b", "b" * 40, minor=True), Column("c", "c" * 30, minor=True), Column("d", "d", "count")]
    wide = Table("", columns, [{"a": "x", "b": "y", "c": "z", "d": 1}])
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    text = reports.render(Report("", {}, tables=[wide]), "table")
    assert "too narrow" in text
    assert text.count("c" * 30) == 1  # in the remark, and in no heading


def test_json_keeps_the_letters_of_all_languages():
    text = reports.render(Report(title="t", document={"label": "Käse 数字"}), "json")
    assert "Käse 数字" in text
    assert json.loads(text)["label"] == "Käse 数字"


def test_markdown_has_the_headline_in_bold_and_none_where_there_is_none():
    assert "**it is 1.81x faster**" in reports.render(REPORT, "markdown")
    assert "**" not in reports.render(Report(title="t", document={}), "markdown")
