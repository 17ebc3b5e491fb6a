"""Names, groups and mirror images of the 68 landmarks (the usual order of the 300-W annotations).

"Right" and "left" are the subject's; the subject's right is on the picture's left. Numbers count from 0.
"""

LANDMARK_GROUPS: dict[str, range] = {
    "jaw": range(0, 17),
    "right_brow": range(17, 22),
    "left_brow": range(22, 27),
    "nose_bridge": range(27, 31),
    "nose_base": range(31, 36),
    "right_eye": range(36, 42),
    "left_eye": range(42, 48),
    "outer_lips": range(48, 60),
    "inner_lips": range(60, 68),
}

LANDMARK_NAMES: tuple[str, ...] = tuple(
    f"{group}_{position}" for group, members in LANDMARK_GROUPS.items() for position in range(len(members))
)

# The landmark term uses 46: no jaw (a contour that slides over the surface as the head turns), no nose bridge
# above the tip (27-29: no visible feature holds them along the ridge), no inner mouth corners (60, 64: they
# all but coincide with the outer ones).
_NOT_IN_46 = frozenset([*range(17), 27, 28, 29, 60, 64])
LANDMARKS_46: tuple[int, ...] = tuple(index for index in range(68) if index not in _NOT_IN_46)

MIRROR_68: tuple[int, ...] = (
    *range(16, -1, -1),
    *range(26, 16, -1),
    27, 28, 29, 30, 35, 34, 33, 32, 31,
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55,
    64, 63, 62, 61, 60, 67, 66, 65,
)  # fmt: skip
