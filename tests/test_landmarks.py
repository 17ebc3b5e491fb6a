"""The tables of the 68 landmarks."""

from mofaface.landmarks import LANDMARK_GROUPS, LANDMARK_NAMES, LANDMARKS_46, MIRROR_68


def test_groups_cover_each_of_the_68_once_and_in_order():
    assert [index for group in LANDMARK_GROUPS.values() for index in group] == list(range(68))
    assert len(set(LANDMARK_NAMES)) == 68


def test_the_46_leave_out_jaw_bridge_and_inner_mouth_corners():
    assert len(LANDMARKS_46) == 46
    assert sorted(set(range(68)) - set(LANDMARKS_46)) == [*range(17), 27, 28, 29, 60, 64]


def test_mirroring_twice_changes_nothing():
    assert [MIRROR_68[index] for index in MIRROR_68] == list(range(68))


def test_the_mirror_swaps_right_and_left_groups():
    for right, left in (("right_brow", "left_brow"), ("right_eye", "left_eye")):
        assert {MIRROR_68[index] for index in LANDMARK_GROUPS[right]} == set(LANDMARK_GROUPS[left])
    for group in ("jaw", "nose_bridge", "nose_base", "outer_lips", "inner_lips"):
        assert {MIRROR_68[index] for index in LANDMARK_GROUPS[group]} == set(LANDMARK_GROUPS[group])
