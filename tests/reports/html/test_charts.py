"""Charts as places in per cent: where a number comes to lie, and what is left out."""

import math

import pytest

from robustjax.reports.html.charts import TONES, Track, Values, plot


def corner_to_corner(**options):
    return plot(
        "title", [Values("a", [(0, 0.0), (5, 50.0), (10, 100.0)])], x_name="x", y_name="y",
        y_range=(0, 100), **options,
    )  # fmt: skip


def test_the_lowest_is_at_the_lower_left_and_the_highest_at_the_upper_right():
    (line,) = corner_to_corner().lines
    assert line.parts == ["0,100 50,50 100,0"]
    assert list(line.dots) == [(0, 100), (50, 50), (100, 0)]


def test_a_logarithmic_axis_is_that_of_log1p():
    (line,) = corner_to_corner(linear_below=1.0).lines
    assert line.dots[1][0] == pytest.approx(100 * math.log(6) / math.log(11), abs=0.01)
    assert line.dots[0][0] == 0 and line.dots[2][0] == 100


def test_ticks_are_numbers_of_the_axis_and_levels_are_where_they_belong():
    chart = corner_to_corner(levels=[("clean", 25.0, False), ("radius", 2.0, True)])
    assert all(float(text) == pytest.approx(place / 10) for place, text in chart.x_ticks)
    assert all(float(text) == pytest.approx(100 - place) for place, text in chart.y_ticks)
    assert [(level.place, level.upright) for level in chart.levels] == [(75, False), (20, True)]


def test_a_missing_value_is_a_gap_and_what_is_outside_stays_on_the_chart():
    points = [(0, 1.0), (1, 2.0), (2, None), (3, math.nan), (4, 3.0), (5, 400.0)]
    chart = plot("t", [Values("a", points)], x_name="x", y_name="y", y_range=(0, 100))
    (line,) = chart.lines
    assert len(line.parts) == 2 and len(line.dots) == 4
    assert line.dots[-1] == (100, 0)
    assert "from 1 at 0 to 400 at 5" in chart.description


def test_a_band_surrounds_its_line():
    values = Values("a", [(0, 1.0), (1, 2.0)], [(0.0, 2.0), (1.0, 4.0)])
    (line,) = plot("t", [values], x_name="x", y_name="y", y_range=(0, 4)).lines
    assert line.band == "0,50 100,0 100,75 0,100"


def test_one_point_and_none_and_equal_ones_are_drawn_or_left_out():
    assert plot("t", [Values("a", [(0, None)])], x_name="x", y_name="y") is None
    assert plot("t", [], x_name="x", y_name="y") is None
    (line,) = plot("t", [Values("a", [(3, 7.0)])], x_name="x", y_name="y").lines
    assert line.dots == [(50, 50)] and not line.parts
    (line,) = plot("t", [Values("a", [(3, 7.0), (4, 7.0)])], x_name="x", y_name="y").lines
    assert line.parts == ["0,50 100,50"]


def test_many_points_have_no_dots_and_many_lines_come_back_to_the_first_tone():
    lines = [Values(str(n), [(x, float(x)) for x in range(100)]) for n in range(TONES + 1)]
    drawn = plot("t", lines, x_name="x", y_name="y").lines
    assert not drawn[0].dots and drawn[0].tone == drawn[-1].tone == 0 and drawn[1].tone == 1


def test_a_track_says_in_words_what_it_draws():
    track = Track("broken", "3 of 9", 100 / 3, (10, 60), 20.0)
    assert track.in_words == "broken: 3 of 9; allowed: 20 %"
