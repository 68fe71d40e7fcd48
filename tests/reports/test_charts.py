"""The charts of the page: widths, counts, labels and texts of the HTML that is made by hand."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from deploykit.reports import _charts
from deploykit.reports._types import Bars, Spread


class Balanced(HTMLParser):
    """Raises for an end tag that closes nothing; `texts` is what a reader sees."""

    def __init__(self, html):
        super().__init__()
        self.open, self.texts = [], []
        self.feed(html)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def widths(html):
    return [float(share) for share in re.findall(r"calc\(\(100% - var\(--value\)\) \* ([\d.]+)\)", html)]


def heights(html):
    return [float(tall) for tall in re.findall(r'height="([\d.]+)"', html)]


def test_the_largest_bar_of_all_series_fills_the_width_and_the_others_their_share():
    html = _charts.bars(Bars("times", ["a", "b"], {"torch": [2.0, 8.0], "onnxruntime": [4.0, None]}, "ms"))
    assert widths(html) == [0.25, 0.5, 1.0]
    assert [re.search(r"bar s(\d)", row)[1] for row in re.findall(r'<div class="row".*?</div>', html)] == ["0", "1", "0"]
    assert "times" in html
    Balanced(html)


@pytest.mark.parametrize("values", [[0.0, 0.0], [None, None], []])
def test_bars_without_length_are_no_division_by_zero(values):
    html = _charts.bars(Bars("t", ["a", "b"][: len(values)], {"x": values}, "count"))
    assert all(width == 0 for width in widths(html))
    Balanced(html)


def test_a_bar_below_zero_has_no_length_and_keeps_its_number():
    html = _charts.bars(Bars("t", ["a", "b"], {"x": [-3.0, 6.0]}, "count"))
    assert widths(html) == [0.0, 1.0]
    assert any("3" in text for text in Balanced(html).texts)


def test_the_end_of_a_long_label_is_shown_and_the_whole_is_under_the_pointer():
    path = "encoder.layers.encoder_layer_11.self_attention.out_proj"
    html = _charts.bars(Bars("t", [path], {"x": [1.0]}, "count"))
    shown = next(text for text in Balanced(html).texts if text.startswith("…"))
    assert path.endswith(shown[1:])
    assert len(shown) == _charts.LONGEST_LABEL
    assert f'title="{path}"' in html
    exact = "a" * _charts.LONGEST_LABEL
    assert exact in Balanced(_charts.bars(Bars("t", [exact], {"x": [1.0]}, "count"))).texts


def test_texts_from_a_file_are_no_html():
    evil = '<img src=x onerror="alert(1)">&'
    for html in (
        _charts.bars(Bars(evil, [evil], {evil: [1.0], "b": [2.0]}, "count")),
        _charts.spread(Spread(evil, {evil: [1.0, 2.0], "b": [1.0]}, "ms")),
    ):
        assert "<img" not in html
        Balanced(html)


def test_one_series_has_no_legend_unless_a_chart_beside_it_has_one():
    one = Bars("t", ["a"], {"only": [1.0]}, "count")
    assert "legend" not in _charts.bars(one)
    assert "legend" in _charts.bars(one, series=2)
    assert "--room:1.90em" in _charts.bars(one, series=2)


def test_a_histogram_counts_each_value_once_and_its_tallest_column_fills_the_height():
    values = [1.0] * 30 + [2.0] * 15 + [3.0] * 5
    chart = Spread("t", {"x": values}, "ms")
    html = _charts.spread(chart)
    low, high = chart.shown()
    assert sum(_charts._counts(values, low, high)) == sum(value <= high for value in values)
    assert max(heights(html)) == _charts.HEIGHT - 4
    assert sorted(int(n) for n in re.findall(r"x: (\d+)</title>", html))[-1] == 30
    Balanced(html)


def test_values_beyond_the_axis_are_left_out_and_the_last_column_holds_its_end():
    assert _charts._counts([0.0, 1.0, 5.0], 0.0, 1.0)[0] == 1
    assert _charts._counts([0.0, 1.0, 5.0], 0.0, 1.0)[-1] == 1
    assert sum(_charts._counts([0.0, 1.0, 5.0], 0.0, 1.0)) == 2


def test_series_without_values_are_not_drawn_and_none_at_all_is_no_chart():
    assert _charts.spread(Spread("t", {"x": [], "y": []}, "ms")) == ""
    html = _charts.spread(Spread("t", {"x": [], "y": [1.0, 2.0]}, "ms"))
    assert html.count("<svg") == 1
