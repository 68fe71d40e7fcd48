"""Made-up drawings of digits: their outlines on a grid, and the pixels that a pen leaves."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit.datasets import strokes


def test_an_outline_lies_between_0_and_1_so_that_the_shaking_is_a_share_of_its_height():
    assert strokes._places("5,0 1,10").tolist() == [[0.5, 0.0], [0.1, 1.0]]
    every = np.concatenate([strokes._places(s) for ways in strokes.OUTLINES.values() for way in ways for s in way.split("/")])
    assert every.min() >= 0
    assert every.max() == 1


def test_a_curve_meets_its_points_and_a_corner_stays_one():
    points = strokes._places("0,0 5,0 5,0 5,10")
    curve = strokes._curve(points)
    assert all(np.isclose(curve, point).all(axis=1).any() for point in points)
    assert curve[: strokes.STEPS, 1] == pytest.approx(0, abs=0.07), "the stroke before a corner does not turn yet"
    assert strokes._curve(points[:2]) is not None
    assert len(strokes._curve(points[:2])) == 2


def test_a_thick_pen_leaves_more_ink_and_the_middle_of_the_drawing_is_that_of_the_image():
    line = [np.array([[0.0, 0.0], [0.0, 1.0]])]
    thin, thick = (strokes.pixels(line, pen, 1.0, np.zeros(2)).astype(int) for pen in (0.1, 0.2))
    assert 1.8 < thick.sum() / thin.sum() < 2.2
    left, right = thin.sum(axis=0)[3:5]
    assert 0.8 < left / right < 1.25, "as much left of the middle as right of it, but for the pixel in the middle"
    assert thin[:, [0, 1, 2, 5, 6, 7]].sum() == 0
    moved = strokes.pixels(line, 0.1, 0.5, np.array([0.25, 0.0]))
    assert moved.sum(axis=0).argmax() in (5, 6)


def test_two_drawings_of_one_outline_differ_and_a_seed_gives_one():
    first, again = (strokes.drawn("5,0 5,10", np.random.default_rng(1)) for _ in range(2))
    other = strokes.drawn("5,0 5,10", np.random.default_rng(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.max() > 100
