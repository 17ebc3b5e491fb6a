"""What others measured, to stand beside our figures.

The paper: Tewari et al. 2017, section 7 (5k held-out photographs, AlexNet / VGG-Face where two numbers are given; for
synthetic faces from the start of training to its end, as in figure 10). 3DDFA_V2 (Guo et al. 2020, half width, supervised):
its figures on LFW and YouTube frames as they were given to us, on other people of these collections.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A figure's name for readers, its unit, and what is known of others."""

    title: str
    unit: str
    published: str = ""
    factor: float = 1.0
    """Values are shown times this: 100 for what is kept as a share and read in percent."""
    lines: tuple[tuple[str, float], ...] = ()
    """Published values to draw into plots, in the unit that is shown."""


METRICS: dict[str, Metric] = {
    "landmark_px": Metric(
        "landmarks, 46 points",
        "px at 240",
        "5.3 / 4.9 unsupervised, 3.7 / 3.4 with landmarks",
        lines=(("paper, unsupervised", 4.9), ("paper, with landmarks", 3.4)),
    ),
    "landmark_inner_px": Metric("landmarks, 51 inner points", "px at 240"),
    "landmark_68_px": Metric("landmarks, 68 points", "px at 240"),
    "landmark_eyes": Metric("46 points over outer-eye distance", "%", factor=100),
    "landmark_box": Metric("68 points over box", "%", factor=100),
    "photometric": Metric(
        "photometric, RGB distance",
        "of 1",
        "0.075 / 0.073 unsupervised, 0.078 with landmarks",
        lines=(("paper, unsupervised", 0.073), ("paper, with landmarks", 0.078)),
    ),
    "geometry_mm": Metric(
        "geometry, rotation kept",
        "mm",
        "21.6 → 4.5",
        lines=(("paper, before training", 21.6), ("paper, after", 4.5)),
    ),
    "geometry_face_mm": Metric("geometry, frontal part, rotation kept", "mm"),
    "geometry_turned_mm": Metric("geometry, rotation removed", "mm"),
    "truth_landmark_px": Metric(
        "landmarks, 46 true points",
        "px at 240",
        "31.6 → 3.9",
        lines=(("paper, before training", 31.6), ("paper, after", 3.9)),
    ),
    "truth_photometric": Metric(
        "photometric, RGB distance",
        "of 1",
        "0.33 → 0.05",
        lines=(("paper, before training", 0.33), ("paper, after", 0.05)),
    ),
    "reflectance_rms": Metric("reflectance, RGB rms", "of 1"),
    "light_rms": Metric("light, shading of a sphere, rms", "of 1"),
    "rotation_deg": Metric("rotation", "°"),
    "five_points": Metric(
        "five points over eye distance",
        "%",
        "3DDFA_V2: 5.6 (other people)",
        factor=100,
        lines=(("3DDFA_V2, other people", 5.6),),
    ),
    "five_points_px": Metric("five points", "px at 240"),
    "inner_51": Metric(
        "51 inner points over outer-eye distance",
        "%",
        "3DDFA_V2: 6.8 (other people)",
        factor=100,
        lines=(("3DDFA_V2, other people", 6.8),),
    ),
    "inner_51_px": Metric("51 inner points", "px at 240", "3DDFA_V2: 6.1 (other people)"),
    "all_68": Metric("68 points over outer-eye distance", "%", factor=100),
    "all_68_px": Metric("68 points", "px at 240"),
    "loss_46": Metric("46 points over outer-eye distance", "%", factor=100),
    "without_offsets": Metric("the main figure without each point's constant offset", "%", factor=100),
    "detector": Metric("the same for the landmark detector", "%", factor=100),
}
