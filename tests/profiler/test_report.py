"""A profile as a report: in every format the columns add up to the totals."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest

from deploykit import reports
from deploykit.profiler import Layer, LayerTable, Profile, Totals, profile
from deploykit.profiler.benchmark.roofline import Peak
from deploykit.views.profile import report

NETWORKS = ("lenet5", "resnet18", "googlenet", "shared-mlp", "chimera", "fixed-hidden-mlp")
CONVENTIONS = ("macs", "flops", "paddle")


def number(text):
    return int(text.replace(",", "").replace("*", "").strip() or 0)


def of_csv(text):
    rows = list(csv.DictReader(io.StringIO(text)))
    return [(int(row["params"]), int(row["ops"])) for row in rows]


def of_markdown(text):
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    params = [cell.strip() for cell in lines[0]].index("params")
    return [(number(line[params]), number(line[params + 1])) for line in lines[2:]]


def of_table(text):
    found = [re.search(r" ([\d,]+) +([\d,]+) +[\d.]+ %$", line) for line in text.splitlines()]
    return [(number(row[1]), number(row[2])) for row in found if row]


class Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.rows, self.reading = [], False

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        self.reading = tag in ("td", "button")

    def handle_endtag(self, tag):
        self.reading = False

    def handle_data(self, data):
        if self.reading:
            self.rows[-1].append(data)


def of_html(text):
    cells = Cells()
    tree, _, layers = text.rpartition("<table ")  # the layers come after the tree
    assert tree.count("<table ") <= 1
    cells.feed(layers)
    params = cells.rows[0].index("params")
    body = cells.rows[1:-1]
    found = [(number(row[params]), number(row[params + 1])) for row in body]
    total = [number(cell) for cell in cells.rows[-1] if re.fullmatch(r"[\d,]+", cell)]
    return [*found, tuple(total[:2])]


def of_json(text):
    document = json.loads(text)
    rows = [(row["params"], row["ops"]) for row in document["layers"]]
    return [*rows, (document["totals"]["params"], document["totals"]["ops"])]


READERS = {"csv": of_csv, "markdown": of_markdown, "table": of_table, "html": of_html, "json": of_json}


def test_every_format_has_a_reader():
    assert set(READERS) == set(reports.names())


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_columns_add_up_in_every_format(name, convention):
    found = profile(name, untrained=True, latency=False, convention=convention)
    shown = report(found)
    expected = (found.table.totals.params, found.table.totals.ops)
    for form, read in READERS.items():
        *rows, totals = read(reports.render(shown, form))
        assert totals == expected, form
        assert (sum(params for params, _ in rows), sum(ops for _, ops in rows)) == expected, form
        assert len(rows) == len(found.table.layers), form


def test_the_public_keys():
    document = profile("lenet5", untrained=True, latency=False).document()
    assert {"target", "convention", "batch", "layers", "totals", "uncounted", "latency", "comparisons"} <= set(document)
    assert {"path", "type", "input_shape", "output_shape", "params", "ops", "torch_ms", "onnxruntime_ms"} <= set(
        document["layers"][0]
    )
    assert {"params", "trainable_params", "buffers", "ops"} <= set(document["totals"])
    assert document["layers"][0]["input_shape"] == [1, 1, 32, 32]
    assert document["uncounted"] == []
    json.dumps(document, allow_nan=False)


def timed(layers):
    rows = tuple(Layer(f"l{i}", "T", (1,), (1,), ops=i % 7, onnxruntime_ms=i / 10) for i in range(layers))
    return Profile("many", LayerTable("macs", 1, rows, Totals(0, 0, 0, sum(row.ops for row in rows))))


def test_a_chart_shows_the_dearest_layers_in_their_order_and_says_so():
    ops, times = report(timed(100)).charts
    assert times.title.endswith("the 40 dearest of 99")
    assert times.labels == ops.labels == [f"l{i}" for i in range(60, 100)]
    assert ops.series["MACs"] == [i % 7 or None for i in range(60, 100)]
    untimed = timed(100)
    rows = tuple(replace(row, onnxruntime_ms=None) for row in untimed.table.layers)
    (ops,) = report(replace(untimed, table=replace(untimed.table, layers=rows))).charts
    assert len(ops.labels) == 40
    assert min(ops.series["MACs"]) >= 4
    assert report(timed(30)).charts[1].title == "milliseconds per layer"


def test_two_networks_stand_side_by_side():
    shown = report(replace(timed(3), against=timed(5)))
    table = shown.tables[-1]
    assert (table.title, table.summary) == ("side by side", True)
    assert [(row["layers"], row["ops"], row["onnxruntime_ms"]) for row in table.rows] == [
        (3, 3, pytest.approx(0.3)),
        (5, 10, pytest.approx(1.0)),
    ]
    assert "torch_ms" not in [column.key for column in table.columns]  # nobody measured it


def test_the_convention_is_printed_with_the_number():
    for convention, unit in (("macs", "MACs"), ("flops", "FLOPs"), ("paddle", "paddle FLOPs")):
        shown = report(profile("lenet5", untrained=True, latency=False, convention=convention))
        assert unit in shown.title
        assert any(label == "convention" and value.startswith(convention) for label, value in shown.facts)


def test_a_page_has_short_sums_and_a_tree():
    rows = tuple(
        Layer(path, "Conv2d", None, (1, 8), params=4_000_000, ops=9, macs=9, torch_ms=1e-6) for path in ("a.x", "a.y", "b")
    )
    found = Profile("net", LayerTable("macs", 1, rows, Totals(12_000_000, 0, 0, 27)), peak=Peak(10.0, 1.0))
    shown = report(found)
    assert (shown.heading, [(tile.value, tile.label) for tile in shown.tiles]) == (
        "net",
        [(12_000_000, "parameters"), (27, "MACs")],
    )
    (tree,) = shown.page_tables
    assert [(row["name"], row["type"], row["params"]) for row in tree.rows] == [
        ("(the network)", "", 12_000_000), ("a", "", 8_000_000), ("x", "Conv2d", 4_000_000), ("y", "Conv2d", 4_000_000),
        ("b", "Conv2d", 4_000_000),
    ]  # fmt: skip
    assert tree.depths == [0, 1, 2, 2, 1]
    page = reports.render(shown, "html")
    assert "12 M" in page
    assert "12,000,000" in page
    assert "over 100 %" in page
    assert "of peak: a layer with over 100 %" in page
    assert not report(timed(3)).page_tables, "a tree of one level says nothing new"


@pytest.mark.parametrize(("memory", "said"), [(None, True), (1_000, False)])
def test_what_was_timed_in_this_process_says_so(monkeypatch, memory, said):
    from deploykit.profiler import profiling

    entry = SimpleNamespace(peak_memory_bytes=memory)
    monkeypatch.setattr(profiling.roofline, "peak", lambda *_: None)
    monkeypatch.setattr(profiling, "replace", lambda found, **changes: changes)
    found = SimpleNamespace(against=None, notes=("earlier",))
    reports = [SimpleNamespace(latencies=[entry], comparisons=[], conditions=None)]
    changed = profiling._with_times(found, reports, SimpleNamespace(device="cpu", threads=1))
    assert changed["notes"] == (("earlier", profiling.HERE) if said else ("earlier",))


def test_a_timed_process_ends_with_its_block():
    from deploykit.profiler.benchmark.process import TimedProcess

    closed = []
    stub = SimpleNamespace(close=lambda: closed.append(True))
    TimedProcess.__exit__(stub, None, None, None)
    assert closed == [True]


def test_on_a_device_the_clock_waits_for_it_before_and_after():
    from deploykit.profiler.pytorch.times import _Watch

    waits = []
    times = _Watch(lambda: waits.append(True))
    assert times._timed("a", lambda x: x + len(waits))(1) == 2, "it waited once before"
    assert len(waits) == 2
    assert list(times.found) == ["a"]
