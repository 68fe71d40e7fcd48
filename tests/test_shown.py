"""Results show themselves: a short line, the command's table, a piece of HTML for a notebook."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import deploykit
from deploykit import reports, shown
from deploykit.reports import Column, Report, Table
from deploykit.runtime.prediction import Candidate


@pytest.fixture(scope="module")
def results(exported):
    """One of each result that is cheap to have."""
    verdict = deploykit.validate(exported, batches=1)
    simplified = deploykit.simplify(exported, exported.with_name("simple.onnx"))
    profile = deploykit.profile("lenet5", untrained=True, latency=False)
    latency = deploykit.compare_latency(exported, exported, seconds=0.05, threads=1)
    trained = deploykit.train("rgnet", out=exported.with_name("rgnet"), epochs=0)
    with deploykit.Predictor(exported) as model:
        predictions = deploykit.predict(model, exported.parent / "nothing.png")
    return [verdict, simplified, profile, latency, trained, predictions, predictions[0], deploykit.doctor()]


class Balanced(HTMLParser):
    """Fails where a tag is left open."""

    def __init__(self):
        super().__init__()
        self.open, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read(html):
    parser = Balanced()
    parser.feed(html)
    assert not parser.open
    return parser.tags


def test_a_result_is_one_short_line_a_table_and_a_piece_of_html(results):
    for result in results:
        line = repr(result)
        assert "\n" not in line
        assert len(line) < 400
        assert "object at 0x" not in line
        assert "\x1b" not in str(result)
        tags = read(result._repr_html_())
        assert not {"script", "style", "html", "body", "link", "img"} & set(tags), "it stands in somebody else's page"


def test_print_gives_what_the_command_prints(results, exported, capsys):
    from deploykit.cli import cli

    verdict = results[0]
    with pytest.raises(SystemExit):
        cli(["validate", str(exported), "--batches", "1"])
    assert capsys.readouterr().out.strip() == str(verdict).strip()


def test_every_type_of_result_is_public():
    names = ["Demonstration", "Diagnosis", "ExportResult", "LatencyReport", "Prediction", "Predictions", "Profile", "Simplified",
             "TrainingResult", "Verdict"]  # fmt: skip
    for name in names:
        kind = getattr(deploykit, name)
        assert issubclass(kind, shown.Shown)
        assert (Path(deploykit.__file__).parent / "views" / f"{kind._view}.py").is_file()
        assert name in deploykit.__all__


def test_a_prediction_is_a_line_of_what_there_is():
    answer = deploykit.Prediction("3", 0.99812, 3, (Candidate("3", 0.99812, 3), Candidate("8", 0.001, 8)), path="a.png")
    assert repr(answer) == str(answer) == "Prediction(label='3', score=0.9981, top=2 candidates, path='a.png')"
    assert repr(deploykit.Prediction(values=np.zeros((2, 3), np.float32))) == "Prediction(values=float32 (2, 3))"
    assert repr(deploykit.Predictions([answer] * 2000)).endswith("... 1,997 more]")
    assert deploykit.Predictions([answer]) == [answer], "a list like any other"


def test_html_of_strangers_names_is_text():
    columns = [Column("name", "<b>name</b>"), Column("count", "count", "count")]
    table = Table("<script>", columns, [{"name": "<img src=x onerror=alert(1)>", "count": 3}], {"name": "total", "count": 3})
    html = reports.fragment(Report("<i>", {}, "</div>", False, [("<u>", "&")], [table], ["<a href=x>"]))
    assert not {"b", "script", "img", "i", "u", "a"} & set(read(html))
    assert "&lt;img" in html


def test_long_tables_are_folded_and_cut_and_wide_ones_lose_what_is_minor():
    columns = [Column(f"c{n}", f"c{n}", "count", minor=n > 4) for n in range(12)]
    html = reports.fragment(Report("", {}, tables=[Table("many", columns, [{f"c{n}": n for n in range(12)}] * 300)]))
    tags = read(html)
    assert "details" in tags
    assert tags.count("tr") == 201
    assert "the first 200 of 300 rows" in html
    assert re.findall(r">(c\d+)<", html) == [f"c{n}" for n in range(9)]


def test_without_the_library_that_draws_tables_the_short_line_is_there():
    code = (
        "import sys\nsys.modules['rich'] = None\nimport deploykit\n"
        "print(deploykit.Predictions([deploykit.Prediction('3', 0.5, 3)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[Prediction(label='3', score=0.5)]"
