"""The HTML page in a real browser: it draws, it sorts, it fits a phone, it complains about nothing."""

from __future__ import annotations

import re
import subprocess
from functools import partial

import pytest

from deploykit import reports
from deploykit.reports import Bars, Column, Report, Spread, Table

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
    const boxes = [...document.querySelectorAll('figure rect')].map(r => r.getBoundingClientRect());
    report('bars', boxes.filter(b => b.width > 0 && b.height > 0).length);
    report('figures', document.querySelectorAll('figure svg[role=img]').length);
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


def test_on_a_phone_only_the_table_scrolls_sideways(dom_of):
    # A window of a headless browser is never narrower than 500 pixels, so the phone is a frame inside of it.
    script = """
    const frame = document.querySelector('iframe');
    const inner = frame.contentDocument;
    report('page', inner.documentElement.scrollWidth);
    report('table', inner.querySelector('table').scrollWidth);
    const sizes = [...inner.querySelectorAll('p, dd, td, li')].map(e => parseFloat(getComputedStyle(e).fontSize));
    report('smallest', Math.min(...sizes));
    const chart = inner.querySelector('figure text').getBoundingClientRect();
    report('chart', chart.height);
    """
    inner = reports.render(REPORT, "html").replace("&", "&amp;").replace('"', "&quot;")
    page = f'<!doctype html><html><head></head><body><iframe srcdoc="{inner}" width="360" height="700"></iframe></body></html>'
    _, told = dom_of(f"addEventListener('load', () => {{ {script} }})", page=page)
    assert int(told["page"]) <= 360
    assert int(told["table"]) > 360
    assert float(told["smallest"]) >= 13
    assert float(told["chart"]) >= 8


def test_a_hostile_name_stays_a_name(dom_of):
    evil = "<img src=x onerror=\"document.body.setAttribute('data-hacked', 1)\"></script><script>document.title='x'</script>"
    report = Report(evil, {}, evil, None, [(evil, evil)], [Table(evil, [Column("a", evil)], [{"a": evil}])], [evil],
                    [Bars(evil, [evil], {evil: [1.0]})])  # fmt: skip
    _, told = dom_of("report('images', document.images.length)", page=reports.render(report, "html"))
    assert "hacked" not in told
    assert told["images"] == "0"
