"""The code of one photograph by optimisation: the energy of training, without an encoder.

Damped Gauss–Newton (Levenberg and Marquardt). Energy and gradient are exact and of all vertices. In the matrix the
ℓ2,1 norm of equation 8 becomes squares by weights that are one over each vertex's present distance (iteratively
reweighted least squares), the front-facing vertices are found anew each time, and a sample of them is enough. Stages go
from landmarks and a blurred picture on a coarse mesh to the full energy. A step counts only when its energy falls, and
the best end of all stages is kept.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, pad

from mofaface.code import Code, CodeLayout
from mofaface.decoder import Decoder
from mofaface.fit_energy import Hold, Landmarks, Problem, Tools
from mofaface.losses import LossWeights

POSE = ("rotation", "translation")
GEOMETRY = (*POSE, "alpha", "delta")
EVERYTHING = tuple(f.name for f in fields(Code))
# Standard deviations of a code about its start: coefficients, radians, mm. Nothing is expected of light.
_EXPECTED = {
    "alpha": [1.0],
    "delta": [1.0],
    "beta": [1.0],
    "rotation": [0.3],
    "translation": [12.0, 12.0, 60.0],
    "gamma": [math.inf],
}
_FIRST_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-2, 1e-7, 1e7


@dataclass(frozen=True)
class Stage:
    """One minimisation: what is free, what counts, and how fine."""

    free: tuple[str, ...] = EVERYTHING
    """Parts of the code that move."""
    photo: bool = True
    """Whether the photograph counts; without it, landmarks and regulariser alone."""
    blur: float = 0.0
    """Standard deviation of the picture's blur in pixels."""
    coarse: bool = True
    """Whether the model's coarse mesh is used."""
    hold: float = 0.0
    """Extra weight of the squared distance, in standard deviations, from where the photo's stages began."""
    iterations: int = 10
    """Most steps, taken or refused."""


@dataclass(frozen=True)
class FitConfig:
    """The stages of a fit and when they end."""

    landmark_stages: tuple[Stage, ...] = (
        Stage(POSE, photo=False, iterations=15),
        Stage(GEOMETRY, photo=False, iterations=10),
    )
    """Run first when there are landmarks, with their weight at 1 at least."""
    stages: tuple[Stage, ...] = (
        Stage(("gamma",), blur=4.0, iterations=4),
        Stage((*POSE, "beta", "gamma"), blur=8.0, hold=3e-3, iterations=12),
        Stage(blur=4.0, hold=3e-3, iterations=10),
        Stage(blur=2.0, hold=1e-3, iterations=8),
        Stage(blur=1.5, hold=3e-4, iterations=8),
        Stage(blur=1.0, hold=1e-4, iterations=8),
        Stage(coarse=False, iterations=20),
    )
    """Run in any case, on the photograph."""
    tolerance: float = 2e-4
    """A stage ends when a step lowers the energy by less than this part of it, twice in a row."""
    sample: int | None = 600
    """Vertices that a step's matrix is made from, others every third step; None takes all, each time.

    Energy and gradient always count all vertices, so that a fit ends in the same place.
    """

    def __post_init__(self) -> None:
        if self.sample is not None and self.sample < 1:
            raise ValueError(f"a step's matrix needs at least one vertex, got a sample of {self.sample}")


@dataclass(frozen=True)
class Fit:
    """What a fit found. Energies are equation 7 on the full mesh and the sharp picture, over the 46 landmarks."""

    code: Code
    """The best code, a batch of one."""
    energy: float
    energy_start: float
    iterations: int
    """Steps tried over all stages."""
    converged: bool
    reason: str
    """Why it stopped, one sentence."""


class Fitter:
    """Fits one face model to any number of photographs; what does not depend on the photograph is made once."""

    def __init__(self, decoder: Decoder):
        self.decoder = decoder
        self.full = Tools(decoder)
        coarse = decoder.model.arrays.coarse_vertices is not None
        self.coarse = Tools(Decoder(decoder.model.coarse(), decoder.camera)) if coarse else self.full

    def __call__(
        self,
        image: Float[Tensor, "1 3 height width"],
        weights: LossWeights | None = None,
        landmarks: Float[Tensor, "1 46 2"] | None = None,
        confidence: Float[Tensor, "1 46"] | None = None,
        start: Code | None = None,
        config: FitConfig | None = None,
    ) -> Fit:
        """The code whose face explains one photograph (a crop, RGB in [0, 1]), from a start or the average face.

        Landmarks, in pixels of the crop, first place the head; in the energy they count with `weights.land`.
        """
        weights, config = weights or LossWeights(), config or FitConfig()
        _check(image, self.decoder)
        given = None
        if landmarks is not None:
            confidence = torch.ones_like(landmarks[..., 0]) if confidence is None else confidence
            given = Landmarks(landmarks.to(image), confidence.to(image))
        layout = self.decoder.model.layout
        x = layout.pack(start or layout.zero(dtype=image.dtype, device=image.device))[0].to(image)
        truth = Problem(image, self.full, weights, given)
        first = truth.energy(x)
        if image.flatten(2).std(-1).max() < 1e-3:
            reason = "the picture has one colour everywhere: there is no face to fit"
            return Fit(layout.unpack(x[None]), first, first, 0, False, reason)
        descent = self._run_stages(truth, x, first, config)
        if not descent.energy < first:
            reason = "no step lowered the energy of the start, which is returned"
            return Fit(layout.unpack(x[None]), first, first, descent.iterations, False, reason)
        code = layout.unpack(descent.x[None])
        return Fit(code, descent.energy, first, descent.iterations, descent.converged, descent.reason)

    def _run_stages(self, truth: Problem, x: Tensor, first: float, config: FitConfig) -> "Descent":
        """The stages one after the other; the end with the lowest true energy counts."""
        best, iterations, begun = Descent(x, first, 0, False, ""), 0, None
        for stage in (config.landmark_stages if truth.landmarks is not None else ()) + config.stages:
            tools = self.coarse if stage.coarse else self.full
            image, weights = blurred(truth.image, stage.blur), _stage_weights(truth, stage)
            begun = x if begun is None and stage.photo else begun
            hold = None if begun is None else _hold(truth.layout, begun, stage.hold)
            problem = Problem(image, tools, weights, truth.landmarks, hold, config.sample)
            descent = minimise(problem, x, stage, config.tolerance)
            x, iterations = descent.x, iterations + descent.iterations
            E = truth.energy(x)
            if E <= best.energy or best.iterations == 0:
                best = Descent(x, E, iterations, descent.converged, descent.reason)
        return Descent(best.x, best.energy, iterations, best.converged, best.reason)


def fit(image: Float[Tensor, "1 3 height width"], decoder: Decoder, *args: Any, **options: Any) -> Fit:
    """`Fitter` for a single photograph."""
    return Fitter(decoder)(image, *args, **options)


@dataclass(frozen=True)
class Descent:
    """Where a minimisation came to."""

    x: Float[Tensor, "size"]
    energy: float
    iterations: int
    converged: bool
    reason: str


def _hold(layout: CodeLayout, x: Float[Tensor, "size"], weight: float) -> Hold | None:
    """The spring of a stage: the weak prior of the paper alone lets a face that is off shrink into a patch of skin."""
    if weight == 0:
        return None
    stiffness = torch.zeros_like(x)
    for name, place in layout.slices().items():
        stiffness[place] = weight * x.new_tensor(_EXPECTED[name]) ** -2
    return Hold(x, stiffness)


def _stage_weights(truth: Problem, stage: Stage) -> LossWeights:
    if stage.photo:
        return truth.weights
    return replace(truth.weights, photo=0.0, land=max(truth.weights.land, 1.0))


def minimise(problem: Problem, x: Float[Tensor, "size"], stage: Stage, tolerance: float) -> Descent:
    """The lowest energy that damped Gauss–Newton steps reach from x in one stage."""
    slices = problem.layout.slices()
    free = torch.cat([torch.arange(slices[name].start, slices[name].stop) for name in stage.free]).to(
        x.device
    )
    (E, g), damping, small = problem.slope(x), _FIRST_DAMPING, 0
    H = problem.matrix(x)
    for iteration in range(1, stage.iterations + 1):
        step = _step(g[free], H[free][:, free], damping)
        trial = x.index_add(0, free, step.to(x))
        E_trial, g_trial = problem.slope(trial)
        if not E_trial < E:
            damping *= 5
            if damping > _MOST_DAMPING:
                return Descent(x, E, iteration, math.isfinite(E), "no step, however short, lowers the energy")
            continue
        fall, x, E, damping = (E - E_trial) / E, trial, E_trial, max(damping / 4, _LEAST_DAMPING)
        small = small + 1 if fall < tolerance else 0
        if small == 2:
            reason = f"two steps in a row lowered the energy by less than {tolerance:g} of it"
            return Descent(x, E, iteration, True, reason)
        g, H = g_trial, problem.matrix(x)
    return Descent(x, E, stage.iterations, False, f"the last stage's {stage.iterations} steps were used up")


def _step(g: Float[Tensor, "free"], H: Float[Tensor, "free free"], damping: float) -> Float[Tensor, "free"]:
    """The step −(H + damping · diag H)⁻¹ g."""
    scale = H.diagonal()
    # What nothing determines (a vertex set without a front, say) stays where it is.
    floor = 1e-12 * scale.max().clamp(min=1e-30)
    L, info = torch.linalg.cholesky_ex(H + torch.diag(damping * scale + floor))
    if info != 0:
        return torch.zeros_like(g)
    return -torch.cholesky_solve(g[:, None], L)[:, 0]


def blurred(image: Float[Tensor, "1 3 height width"], sigma: float) -> Float[Tensor, "1 3 height width"]:
    """The picture under a Gaussian of `sigma` pixels, its border going on outside."""
    if sigma == 0:
        return image
    radius = math.ceil(3 * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    image = conv2d(pad(image, (radius, radius, 0, 0), mode="replicate"), kernel, groups=3)
    return conv2d(pad(image, (0, 0, radius, radius), mode="replicate"), kernel.mT, groups=3)


def _check(image: Tensor, decoder: Decoder) -> None:
    size = decoder.camera.size
    if image.shape[-2:] != (size, size):
        height, width = image.shape[-2:]
        raise ValueError(
            f"a crop for this camera is {size} × {size} pixels, got {width} × {height}; cut it again"
        )
    if not image.isfinite().all():
        raise ValueError("a picture's values are finite, got NaN or infinity; check how it was read")
