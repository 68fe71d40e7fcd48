"""The HTML page in a real browser: it draws, it sorts, it fits a phone, it complains about nothing."""

from __future__ import annotations

import re
import subprocess
from functools import partial

import pytest

from deploykit import reports
from deploykit.reports import Bars, Column, Report, Spread, Table, Tile

pytestmark = pytest.mark.slow

LONG = "features.12.block.3.with.a.very.long.path.that.no.screen.has.room.for"
ROWS = [{"path": name, "ops": ops, "ms": ms} for name, ops, ms in (("b", 10, 2.5), ("a", 300, None), (LONG, 20, 0.1))]
COLUMNS = [Column("path", "layer"), Column("ops", "MACs", "count"), Column("ms", "ms", "ms"),
           *(Column(f"x{i}", f"another column {i}") for i in range(12))]  # fmt: skip
REPORT = Report(
    title=f"{LONG}: 1,234 parameters",
    document={},
    headline="onnxruntime is 1.81x faster [1.74, 1.88] than torch",
    facts=[("conditions", "a long line of conditions, " * 8)],
    tables=[Table("layers", COLUMNS, ROWS, {"path": "total", "ops": 330})],
    notes=["a remark"],
    charts=[Bars("time", [row["path"] for row in ROWS], {"torch": [2.5, None, 0.1], "onnxruntime": [1.0, 2.0, 3.0]}, "ms"),
            Spread("latency", {"torch": [1.0, 1.1, 1.2, 5.0], "onnxruntime": [0.5, 0.6]}, "ms")],
)  # fmt: skip


@pytest.fixture
def dom_of(browser, tmp_path):
    return partial(_dom_of, browser, tmp_path)


def _dom_of(browser, tmp_path, script, size="1200,900", page=None):
    """The page after `script` ran in it, as the browser has it. `report(name, value)` in the script leaves a value to read."""
    page = page or reports.render(REPORT, "html")
    helper = "const report = (name, value) => document.body.setAttribute('data-' + name, String(value));"
    watch = "<script>window.errors=[];addEventListener('error',e=>errors.push(e.message));addEventListener('securitypolicyviolation',e=>errors.push(e.violatedDirective));</script>"
    page = page.replace("<body>", f"<body>{watch}").replace(
        "</body>", f"<script>{helper}{script};report('errors', errors.length)</script></body>"
    )
    file = tmp_path / "page.html"
    file.write_text(page)
    done = subprocess.run(
        [*browser, "--headless", "--virtual-time-budget=3000", f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={size}", "--dump-dom", file.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    body = re.search(r"<body([^>]*)>", done.stdout)[1]
    return done.stdout, dict(re.findall(r'data-([\w-]+)="([^"]*)"', body))


def test_it_draws_every_bar_and_reports_no_error(dom_of):
    script = """
    const boxes = [...document.querySelectorAll('figure .bar, figure rect')].map(r => r.getBoundingClientRect());
    report('bars', boxes.filter(b => b.width > 0 && b.height > 0).length);
    report('figures', document.querySelectorAll('figure [role=img]').length);
    """
    _, told = dom_of(script)
    assert told["errors"] == "0"
    assert told["figures"] == "2"
    assert int(told["bars"]) >= 5


def test_a_click_sorts_and_the_totals_stay_below(dom_of):
    script = """
    const paths = () => [...document.querySelector('tbody').rows].map(r => r.cells[0].textContent.slice(0, 8)).join(' ');
    const buttons = document.querySelectorAll('th button');
    report('before', paths());
    buttons[1].click(); report('falling', paths());
    buttons[1].click(); report('rising', paths());
    buttons[1].click(); report('again', paths());
    buttons[2].click(); report('gaps', paths());
    buttons[0].click(); report('text', paths());
    report('foot', document.querySelector('tfoot').rows[0].cells[0].textContent);
    """
    _, told = dom_of(script)
    assert told["before"] == told["again"] == "b a features"
    assert told["falling"] == "a features b"
    assert told["rising"] == "b features a"
    assert told["gaps"] == "b features a"  # what was not measured comes last
    assert told["text"] == "features b a"
    assert told["foot"] == "total"
    assert told["errors"] == "0"


TREE = Table("modules", [Column("path", "module"), Column("ops", "MACs", "count")],
             [{"path": f"└─ {name}", "name": name, "ops": ops} for name, ops in
              (("net", 9), ("a", 2), ("a.x", 2), ("b", 7), ("b.x", 3), ("b.y", 4), ("c", 0), ("d", 0))],
             depths=[0, 1, 2, 1, 2, 2, 1, 1])  # fmt: skip


def test_a_tree_folds_sorts_among_siblings_and_is_filtered(dom_of):
    script = """
    const rows = () => [...document.querySelector('tbody').rows].filter(r => !r.hidden);
    const shown = () => rows().map(r => r.cells[0].textContent).join(' ');
    const fold = name => rows().find(r => r.cells[0].textContent === name).querySelector('.fold');
    report('whole', shown());
    fold('b').click(); report('folded', shown()); report('expanded', fold('b').getAttribute('aria-expanded'));
    const box = document.querySelector('input[type=search]');
    const type = text => { box.value = text; box.dispatchEvent(new Event('input')); };
    type('b.y'); report('filtered', shown()); report('count', document.querySelector('.tools span').textContent);
    type(''); report('back', shown());
    fold('b').click();
    document.querySelectorAll('th button')[1].click(); report('falling', shown());
    report('indent', rows().every(r => parseFloat(getComputedStyle(r.cells[0]).paddingLeft) > 15 * r.dataset.depth));
    """
    _, told = dom_of(script, page=reports.render(Report("t", {}, tables=[TREE]), "html"))
    assert told["errors"] == "0"
    assert told["whole"] == "net a a.x b b.x b.y c d"
    assert (told["folded"], told["expanded"]) == ("net a a.x b c d", "false")
    assert (told["filtered"], told["count"]) == ("net b b.y", "1 of 8")
    assert told["back"] == told["folded"]
    assert told["falling"] == "net b b.y b.x a a.x c d"
    assert told["indent"] == "true"


def test_nothing_is_cut_and_nothing_gapes_at_1280_pixels(dom_of):
    """A layer table with every column and the figures of a large network."""
    kinds = ("text", "shape", "shape", "shape", "shape", "shape", "count", "count", "percent", "ms", "ms", "number", "peak")
    titles = [
        "type",
        "input",
        "output",
        "kernel",
        "stride",
        "padding",
        "params",
        "MACs",
        "share",
        "PyTorch+ms",
        "ONNX+Runtime+ms",
        "GFLOP/s",
        "of+peak",
    ]
    columns = [Column("path", "layer"), *(Column(t, t.replace("+", " "), k) for t, k in zip(titles, kinds, strict=True))]
    values = ("ResidualUnit (own operations)", (1, 512, 112, 112), (1, 512, 112, 112), (3, 3), (2, 2), (1, 1), 102_764_544,
              1_849_688_064, 0.1234, 123.4, 12.34, 123.4, 1.26)  # fmt: skip
    rows = [{"path": f"layer{i}.0.downsample.conv1", **dict(zip(titles, values, strict=True))} for i in range(9)]
    labels = [row["path"] for row in rows]
    charts = [Spread("runs", {"a": [1.0, 2.0], "b": [2.0]}, "ms"), Bars("MACs", labels, {"MACs": [1e9] * 9}, "count"),
              Bars("ms", labels, {"a": [1.0] * 9, "b": [2.0] * 9}, "ms")]  # fmt: skip
    tiles = [Tile(11_175_434, "count", "parameters"), Tile(16.7, "ms", "median")]
    page = Report("t: 11,175,434", {}, tables=[Table("layers", columns, rows)], charts=charts, heading="t", tiles=tiles)
    script = """
    const scroll = document.querySelector('.scroll');
    report('table', scroll.scrollWidth - scroll.clientWidth);
    report('page', document.documentElement.scrollWidth);
    const [wide, left, right] = [...document.querySelectorAll('figure')].map(f => f.getBoundingClientRect());
    report('heights', left.height - right.height);
    report('tops', left.top - right.top);
    report('wide', wide.width > left.width + right.width);
    const bars = [...document.querySelectorAll('.bars')].map(b => b.getBoundingClientRect());
    report('aligned', bars[0].top - bars[1].top);
    report('gap', right.bottom - bars[1].bottom);
    report('tiles', document.querySelector('.tiles').textContent);
    report('cut', [...document.querySelectorAll('td')].filter(c => c.scrollWidth > c.clientWidth + 1).length);
    """
    _, told = dom_of(script, "1280,900", reports.render(page, "html"))
    assert int(told["table"]) <= 0, "the table scrolls sideways"
    assert int(told["page"]) <= 1280
    assert float(told["heights"]) == float(told["tops"]) == float(told["aligned"]) == 0
    assert float(told["gap"]) < 25
    assert told["wide"] == "true"
    assert told["tiles"] == "11.2 M parameters16.7 ms median"
    assert told["cut"] == "0"


def test_on_a_phone_only_the_table_scrolls_sideways(dom_of):
    # A window of a headless browser is never narrower than 500 pixels, so the phone is a frame inside of it.
    script = """
    const frame = document.querySelector('iframe');
    const inner = frame.contentDocument;
    report('page', inner.documentElement.scrollWidth);
    report('table', inner.querySelector('table').scrollWidth);
    const sizes = [...inner.querySelectorAll('p, dd, td, li')].map(e => parseFloat(getComputedStyle(e).fontSize));
    report('smallest', Math.min(...sizes));
    const chart = parseFloat(getComputedStyle(inner.querySelector('figure .label')).fontSize);
    report('chart', chart);
    """
    inner = reports.render(REPORT, "html").replace("&", "&amp;").replace('"', "&quot;")
    page = f'<!doctype html><html><head></head><body><iframe srcdoc="{inner}" width="360" height="700"></iframe></body></html>'
    _, told = dom_of(f"addEventListener('load', () => {{ {script} }})", page=page)
    assert int(told["page"]) <= 360
    assert int(told["table"]) > 360
    assert float(told["smallest"]) >= 13
    assert float(told["chart"]) >= 12


def test_a_hostile_name_stays_a_name(dom_of):
    evil = "<img src=x onerror=\"document.body.setAttribute('data-hacked', 1)\"></script><script>document.title='x'</script>"
    report = Report(evil, {}, evil, None, [(evil, evil)], [Table(evil, [Column("a", evil)], [{"a": evil}])], [evil],
                    [Bars(evil, [evil], {evil: [1.0]})])  # fmt: skip
    _, told = dom_of("report('images', document.images.length)", page=reports.render(report, "html"))
    assert "hacked" not in told
    assert told["images"] == "0"
