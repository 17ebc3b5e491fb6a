"""Intervals: against the normal theory, and by how often they cover a mean that is known."""

import math

import numpy as np
import pytest

from mofaface.evaluation.bootstrap import figure


def test_figure_is_the_mean_with_its_interval():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    result = figure(values)
    assert result.mean == pytest.approx(values.mean()) and result.count == 400 and result.people == 400
    error = values.std() / 20
    assert result.low == pytest.approx(values.mean() - 1.96 * error, abs=0.05)
    assert result.high == pytest.approx(values.mean() + 1.96 * error, abs=0.05)
    assert result.median == pytest.approx(np.median(values)) and result.p90 == np.quantile(values, 0.9)
    assert str(figure(np.ones(3))) == "1 [1, 1] (n = 3)"


def covered(per_person: int, clustered: bool, trials: int = 200) -> float:
    """How often the interval holds the true mean 1 of 50 people with several alike (exponential) photographs each."""
    hits = 0
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        person = rng.exponential(1.0, 50)
        values = np.repeat(person, per_person) + rng.normal(0, 0.1, 50 * per_person)
        names = [f"p{i // per_person}" for i in range(len(values))] if clustered else None
        result = figure(values, names, seed)
        hits += result.low <= 1.0 <= result.high
    return hits / trials


def test_intervals_by_person_cover_the_true_mean_as_often_as_they_say():
    # 200 trials at 95 %: a standard error of 1.5 %; skewed values lose a little with 50 people.
    assert 0.88 < covered(6, clustered=True) < 0.99


def test_photographs_of_the_same_people_taken_as_independent_cover_far_too_rarely():
    assert covered(6, clustered=False) < 0.75


def test_a_draw_weighs_people_by_their_photographs():
    values, people = np.array([0.0] * 9 + [1.0]), ["a"] * 9 + ["b"]
    result = figure(values, people)
    assert result.mean == pytest.approx(0.1) and (result.low, result.high) == (0.0, 1.0)
    assert result.people == 2


def test_what_was_not_measured_does_not_count():
    result = figure(np.array([1.0, np.nan, 3.0]), ["a", "b", "c"])
    assert result.mean == 2.0 and result.count == 2 and result.people == 2
    with pytest.raises(ValueError, match="of 2 none is"):
        figure(np.array([np.nan, np.nan]))


def test_one_person_tells_nothing_of_others_and_json_can_say_so():
    result = figure(np.array([1.0, 2.0]), ["a", "a"])
    assert math.isnan(result.low) and result.plain()["low"] is None and result.plain()["mean"] == 1.5
    assert str(result) == "1.5 [one person] (n = 2)"
