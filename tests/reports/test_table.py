"""Tables on a screen of 80, 100 and 160 columns: a column goes or a name loses its middle, a number never."""

from __future__ import annotations

import re

import pytest

from deploykit import reports
from deploykit.reports import Column, Report, Table, show
from deploykit.reports._values import RIGHT

ESCAPE = re.compile(r"\x1b\[[\d;]*m")
WIDTHS = [60, 80, 100, 160]
LONG = "features.stage4.block11.branch2.conv_with_a_long_name"
SENTENCE = "error 2.7e-07 of a tolerated 1.9e-06 (logits on zeros, ones and large values, sample 2, element 8), 5 batches"

WIDE = Table(
    "layers",
    [
        Column("path", "layer"),
        Column("type", "type", "text", minor=True),
        Column("input", "input", "shape", minor=True),
        Column("output", "output", "shape"),
        Column("params", "params", "count"),
        Column("ops", "MACs", "count"),
        Column("share", "share", "percent", minor=True),
        Column("torch_ms", "layers in PyTorch, ms", "ms"),
        Column("ort_ms", "layers in ONNX Runtime, ms", "ms"),
    ],
    [
        {"path": LONG, "type": "Conv2d", "input": (1, 1024, 224, 224), "output": (1, 64), "params": 123_456_789,
         "ops": 123_456_789_012, "share": 0.5, "torch_ms": 1234, "ort_ms": 0.0123},
        {"path": "fc", "type": "Linear", "input": None, "output": None, "params": 0, "ops": None, "share": None, "torch_ms": None, "ort_ms": 1},
    ],
    {"path": "total", "params": 12_345_678_901},
)  # fmt: skip
CHECKS = Table(
    "", [Column("name", "check"), Column("detail", "what was found", "prose")], [{"name": "outputs", "detail": SENTENCE}] * 2
)
LISTED = Table(
    "",
    [
        Column("name", "name"),
        *(Column(f"n{i}", f"number {i}", "count") for i in range(4)),
        Column("summary", "what it is", "prose"),
    ],
    [{"name": "lenet5", **{f"n{i}": 123_456_789 for i in range(4)}, "summary": SENTENCE}],
)


@pytest.fixture
def screen(monkeypatch):
    """`screen(table, 80)` -> the lines of the table on a terminal of 80 columns."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")

    def lines(table: Table, width: int) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(width))
        return ESCAPE.sub("", reports.render(Report("", {}, tables=[table]), "table")).splitlines()

    return lines


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("table", [WIDE, CHECKS, LISTED], ids=["layers", "checks", "listed"])
def test_no_line_is_too_long_and_no_number_is_cut_or_missing(screen, table, width):
    lines = screen(table, width)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    hidden = " ".join(words).partition("not shown")[2]
    for column in table.columns:
        if column.kind not in RIGHT | {"shape"} or column.title in hidden:
            continue
        for row in (*table.rows, *([table.totals] if table.totals and column.key in table.totals else [])):
            assert show(row[column.key], column.kind).split()[0] in words


def test_at_80_columns_only_minor_columns_are_missing_and_the_screen_says_which(screen):
    said = " ".join(line for line in screen(WIDE, 80) if line).partition("too narrow: ")[2]
    assert said == "type, input, share"
    assert "not shown" not in " ".join(screen(LISTED, 80) + screen(CHECKS, 60))


def test_a_long_name_loses_its_middle(screen):
    row = next(line for line in screen(WIDE, 80) if "123,456,789,012" in line)
    begin, end = row.split()[0].split("…")
    assert LONG.startswith(begin)
    assert LONG.endswith(end)
    assert len(begin) >= 4
    assert len(end) >= 4


def test_a_sentence_with_little_room_goes_below_its_row_and_is_no_tower(screen):
    lines = screen(LISTED, 80)
    at = next(index for index, line in enumerate(lines) if line.startswith(" lenet5"))
    assert " ".join(line.strip() for line in lines[at + 1 : at + 3]) == SENTENCE
    for width in WIDTHS:
        assert len(screen(LISTED, width)) <= 8
        assert len(screen(CHECKS, width)) <= 10


def test_headings_fold_where_values_are_narrower(screen):
    heads = [line for line in screen(WIDE, 80) if "Runtime" in line]
    assert heads
    assert "ONNX Runtime, ms" not in heads[0]


def test_a_label_that_is_longer_than_the_screen_hangs_below_its_own_beginning(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    lines = ESCAPE.sub("", reports.render(Report("", {}, facts=[("convention", SENTENCE)]), "table")).splitlines()
    assert len(lines) == 2
    assert lines[1].startswith(" " * len("  convention  "))
    assert " ".join(" ".join(lines).split()) == f"convention {SENTENCE}"


@pytest.mark.parametrize(
    ("score", "text"),
    [(0.99996, ">0.9999"), (1.0, "1.0000"), (0.9, "0.9000"), (1.67e-05, "<0.0001"), (0.0, "0.0000"), (0.0022, "0.0022")],
)
def test_a_score_is_never_rounded_to_certainty(score, text):
    assert show(score, "score") == text
