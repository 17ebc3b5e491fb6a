"""What synthetic faces look like, and how often: frozen dataclasses whose fields are the options of `mofaface synth`.

A field that ends in `_rate` is a share of the pictures, from 0 to 1. The defaults were set by looking at rendered
pictures beside crops of photographs.
"""

from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from mofaface.corpus import CorpusError
from mofaface.pool import Where


@dataclass(frozen=True)
class People:
    """Who is shown, and with which expression."""

    shape: float = 1.0
    """Standard deviation of the shape coefficients α; 1 is the face model's own population."""
    reflectance: float = 1.0
    """Standard deviation of the reflectance coefficients β."""
    expression: float = 0.2
    """Standard deviation of the Gaussian part of the expression coefficients δ."""
    neutral_rate: float = 0.15
    """No named face unit is active."""
    blink_rate: float = 0.06
    """Eyes are closed."""
    asymmetry: float = 0.25
    """Largest relative difference between the two sides of an expression."""
    photos_per_person: int = 1
    """Pictures that share one shape and reflectance."""


@dataclass(frozen=True)
class Pose:
    """Where the head is, and which camera sees it."""

    wide_rate: float = 0.3
    """The turn is uniform up to `yaw_limit`; of other pictures it is Gaussian."""
    yaw: float = 15.0
    """Standard deviation of the Gaussian turns, degrees."""
    yaw_limit: float = 60.0
    """Largest turn, degrees."""
    pitch: float = 7.0
    """Standard deviation of nods, degrees; at most three of them."""
    roll: float = 5.0
    """Standard deviation of tilts, degrees; at most three of them."""
    shift: float = 3.6
    """Standard deviation of the face's place in the crop, pixels: what the crop rule leaves (docs/corpus.md)."""
    size: float = 0.053
    """Standard deviation of the face's relative size in the crop: the same."""
    focal_low: float = 1000.0
    """Shortest focal length, pixels at 240; the distance changes with it, so that the face keeps its size."""
    focal_high: float = 1000.0
    """Longest focal length, pixels at 240. Networks are trained for a single camera, so the default is that one."""


@dataclass(frozen=True)
class Light:
    """The nine harmonics' light."""

    sources: int = 3
    """Most sources beside the ambient light, 1 or more of them in each picture."""
    contrast: float = 1.0
    """How strong the sources may be beside the ambient light: 0 is ambient light alone."""
    exposure: float = 0.85
    """Median shading of the part of the face that is seen."""
    exposure_spread: float = 0.2
    """Standard deviation of its logarithm."""
    tint: float = 0.06
    """Standard deviation of the logarithm of the colour of sources and of the white balance."""
    brightest: float = 1.1
    """Bright skin that the light hits fully is at most that bright; above 1 the picture is cut off."""
    darkest: float = 0.04
    """Least shading in any direction: light is never negative."""


@dataclass(frozen=True)
class Surroundings:
    """What is seen beside the face."""

    head_rate: float = 0.95
    """The face is part of a head with ears, neck and shoulders; otherwise it is a mask before the background."""
    hair_rate: float = 0.85
    """Of heads: hair."""
    long_hair_rate: float = 0.35
    """Of hair: it hangs down the sides."""
    fringe_rate: float = 0.2
    """Of hair: it covers part of the forehead."""
    hat_rate: float = 0.06
    """Of hair: a hat in its place."""
    glasses_rate: float = 0.12
    """Glasses' rims; a quarter of them have dark glass."""
    occluder_rate: float = 0.12
    """A hand-like or arbitrary shape lies over part of the face."""
    photograph_rate: float = 0.7
    """The background is a photograph, where some are given."""
    noise_rate: float = 0.08
    """The background is noise; whatever is left are procedural textures."""


@dataclass(frozen=True)
class Degradation:
    """What a camera and a file do to the picture."""

    resolution_rate: float = 0.8
    """The picture comes from fewer pixels than the crop has."""
    resolution_low: float = 0.33
    """The fewest pixels along a side, as a share of the crop's."""
    blur_rate: float = 0.2
    """Out of focus."""
    blur: float = 2.2
    """Largest standard deviation of that, pixels."""
    motion_rate: float = 0.06
    """Blurred by motion."""
    motion: float = 9.0
    """Longest motion, pixels."""
    noise_rate: float = 0.5
    """Noise of the sensor."""
    noise: float = 0.03
    """Largest standard deviation of that; white is 1."""
    jpeg_rate: float = 0.8
    """Compressed as JPEG before it is cropped."""
    jpeg_low: int = 45
    """Lowest quality of that."""
    edge_rate: float = 0.2
    """The photograph ends inside the crop, and its edge is repeated."""


PERFECT = Degradation(
    resolution_rate=0, blur_rate=0, motion_rate=0, noise_rate=0, jpeg_rate=0, edge_rate=0
)  # fmt: skip
MASK_ONLY = Surroundings(head_rate=0, glasses_rate=0, occluder_rate=0)


@dataclass(frozen=True)
class SynthConfig:
    """Which faces to render, how many, and the folder for them."""

    out: Path
    """Folder for the pictures, a corpus like any other; a run that was interrupted goes on where it stopped."""
    n: int = 1000
    """Pictures in all."""
    validation: int = 0
    """How many of them, the last ones, are held out."""
    seed: int = 0
    """Picture i is a function of the seed, i and the settings."""
    engine: Where = "local"
    """Where they are rendered: in processes of this machine, or of a Ray cluster (docs/cluster.md)."""
    workers: int = 1
    """Processes that render; a cluster that RAY_ADDRESS names has its own number."""
    shard_size: int = 1000
    """Pictures per shard."""
    model: str = "open"
    """Face model: open, or a container file."""
    codes: Path | None = None
    """File of `mofaface synth-codes`: pose, light and expression of real photographs, for a part of the pictures."""
    codes_rate: float = 0.6
    """That part."""
    backgrounds: tuple[Path, ...] = ()
    """Folders or tar archives of photographs to put behind the faces."""
    supersample: int = 2
    """Samples along a pixel's side."""
    people: People = field(default_factory=People)
    """Who is shown."""
    pose: Pose = field(default_factory=Pose)
    """Where the head is."""
    light: Light = field(default_factory=Light)
    """The light."""
    surroundings: Surroundings = field(default_factory=Surroundings)
    """What is seen beside the face."""
    degradation: Degradation = field(default_factory=Degradation)
    """What camera and file do to the picture."""

    def __post_init__(self) -> None:
        for name, least in (
            ("n", 1),
            ("validation", 0),
            ("workers", 1),
            ("shard_size", 1),
            ("supersample", 1),
        ):
            if getattr(self, name) < least:
                raise CorpusError(f"{name} is at least {least}; {getattr(self, name)} came.")
        if self.validation > self.n:
            raise CorpusError(
                f"validation pictures are a part of all n; validation {self.validation} of n {self.n} came."
            )
        if not 0 < self.pose.focal_low <= self.pose.focal_high:
            raise CorpusError(
                "focal lengths are positive and pose.focal_low is at most pose.focal_high; "
                f"{self.pose.focal_low} and {self.pose.focal_high} came."
            )
        if not 0 <= self.pose.yaw_limit <= 90:
            raise CorpusError(f"pose.yaw_limit lies in [0, 90] degrees; {self.pose.yaw_limit} came.")
        if self.light.sources < 1 or self.people.photos_per_person < 1:
            raise CorpusError("light.sources and people.photos_per_person are at least 1.")
        if not 1 <= self.degradation.jpeg_low <= 100:
            raise CorpusError(f"degradation.jpeg_low lies in [1, 100]; {self.degradation.jpeg_low} came.")
        if not 0 < self.degradation.resolution_low <= 1:
            raise CorpusError(
                f"degradation.resolution_low lies in (0, 1]; {self.degradation.resolution_low} came."
            )
        _check_numbers("", self)


def _check_numbers(prefix: str, config: Any) -> None:
    """CorpusError for a rate outside [0, 1] or a negative number, with the option's name."""
    for f in fields(config):
        value = getattr(config, f.name)
        if is_dataclass(value):
            _check_numbers(f"{prefix}{f.name}.", value)
        elif f.name.endswith("_rate") and not 0.0 <= value <= 1.0:
            raise CorpusError(f"{prefix}{f.name} is a share of the pictures, in [0, 1]; {value} came.")
        elif isinstance(value, (int, float)) and not value >= 0:
            raise CorpusError(f"{prefix}{f.name} is not negative; {value} came.")
