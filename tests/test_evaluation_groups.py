"""Groups of photographs, and what UTKFace's names tell."""

from dataclasses import replace

import numpy as np
import pytest
from little_corpus import corpus_in_memory

from mofaface.code import CodeLayout
from mofaface.evaluation.groups import between, figures_of, groupings, skin_tones, thirds, utkface
from mofaface.evaluation.photographs import Measured
from mofaface.evaluation.plausibility import plausibility


def test_names_of_utkface_tell_age_sex_and_race():
    sex, age, race = utkface(
        (
            "7_0_0_20170110224843637.jpg",
            "a/60_1_3_20170105174847679.jpg.chip.jpg",
            "39_1_20170105174847679.jpg",
        )
    )
    assert sex.group == ("male", "female", "female")
    assert age.group == ("0–9", "60 and more", "20–39")
    assert race.group == ("white", "indian", "")  # a few names of the collection lack the race


def test_other_names_are_in_no_group_of_utkface():
    for grouping in utkface(("Ann_Lee_0001.jpg", "000001.jpg", "12_0_0_7.jpg")):
        assert set(grouping.group) == {""}


def test_bounds_belong_to_the_upper_group():
    grouping = between("turn", np.array([0.0, 14.9, 15.0, 50.0]), (15.0, 30.0))
    assert grouping.group == ("below 15", "below 15", "15–30", "30 and more")


def test_thirds_have_as_many_photographs_each():
    group = thirds("light", np.random.default_rng(0).normal(size=300)).group
    assert sorted(group.count(name) for name in set(group)) == [100, 100, 100]


def test_skin_tones_are_those_of_the_typology_angle():
    assert skin_tones("skin", np.array([-40.0, 0.0, 60.0])).group == ("dark", "brown", "very light")


def test_every_photograph_of_a_group_counts_and_no_other():
    grouping = between("turn", np.array([0.0, 1.0, 20.0, 21.0, 40.0]), (15.0, 30.0))
    values = np.array([1.0, 3.0, 5.0, 5.0, np.nan])
    found = figures_of(grouping, values, ("a", "b", "c", "c", "d"))
    assert {name: (f.mean, f.count) for name, f in found.items()} == {"below 15": (2.0, 2), "15–30": (5.0, 2)}


def test_groupings_that_tell_nothing_apart_are_left_out():
    corpus = replace(corpus_in_memory(3), yaw=np.radians([0.0, 20.0, -50.0]).astype(np.float32))
    even = {name: np.full(3, 0.5) for name in ("directionality", "ita_photo", "ita_reflectance")}
    measured = Measured({}, even | {"brightness": np.array([0.1, 0.5, 0.9])}, np.zeros((3, 1), np.float32))
    titles = {g.title: g.group for g in groupings(corpus, measured)}
    assert titles.keys() == {"head turned by (°)", "light, brightness"}
    assert titles["head turned by (°)"] == ("below 15", "15–30", "45 and more")


def test_coefficients_of_the_model_itself_are_plausible_and_habits_show():
    layout = CodeLayout(40, 30, 20)
    codes = np.random.default_rng(0).normal(size=(500, layout.size)).astype(np.float32)
    codes[:, layout.slices()["delta"]] *= 2
    codes[:, layout.slices()["beta"].start] += 3
    found = plausibility(codes, layout, tuple(map(str, range(500))))
    assert found["alpha"].rms.mean == pytest.approx(1, abs=0.01)
    assert found["alpha"].far.mean == pytest.approx(0.0027, abs=0.0008)
    assert found["alpha"].density.max() == pytest.approx(0.399, abs=0.02)
    assert found["delta"].rms.mean == pytest.approx(2, abs=0.02)
    # Of N(0, 2²) lies beyond 3: twice the normal tail beyond 1.5.
    assert found["delta"].far.mean == pytest.approx(0.1336, abs=0.01)
    assert found["beta"].each_mean.argmax() == 0 and found["beta"].each_mean[0] == pytest.approx(3, abs=0.2)
