"""Reflectance learned from portraits: photographs divided by fitted shading, and their statistics.

1. Light: second-order harmonics, white, fitted to the ratio of photograph and reflectance by robust regression. The
   exposure of a portrait is taken as right: every photo gets the same mean shading, so dark skin is not explained as dim
   light. Most of a photo's colour cast is divided out.
2. Statistics: probabilistic principal components with missing data (Tipping and Bishop 1999), by EM. Hidden vertices have
   no weight; what a person's own estimate calls unlikely (hair, glasses, highlights) loses it. Every face counts as its
   mirror image, too, and people are weighted so that skin tones count alike.
3. With the new statistics light is fitted again, until it settles.
4. Where no portrait sees (lips' inside, rim), the painted prior goes on smoothly from what is seen.
"""

import logging
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csc_array, diags_array
from scipy.sparse.linalg import splu

from mofaface.face_models.gaussian_process import cotangent_laplacian
from mofaface.face_models.open_model.modes import COLOUR_MIRROR, Modes, mirrored, principal_modes
from mofaface.face_models.open_model.portraits import Sighting
from mofaface.face_models.open_model.unlit import balanced, fit_light, like_skin
from mofaface.skin_tone import ita

LOG = logging.getLogger(__name__)
# A person's components are read from every third vertex: neighbours tell the same, and counting them all is no surer.
EVERY = 3
# People whose completed faces are held in memory at once.
CHUNK = 32


@dataclass(frozen=True)
class LearningConfig:
    """Choices of learning; colours are sRGB in [0, 1]."""

    modes: int = 80
    components: int = 56
    """Principal components estimated from portraits; the painted prior completes them to `modes`."""
    rounds: int = 3
    """Light, then statistics, so many times."""
    iterations: int = 8
    """EM steps in each round."""
    exposure: float = 0.9
    """Mean shading of every face: what the loss' prior on light expects (losses.USUAL_LIGHT)."""
    light_ridge: float = 0.05
    """Weight of the wish for even light, relative to all vertices' agreement."""
    white_balance: float = 0.7
    """Share of a skin colour's departure from the line of skin tones that is put down to the photo's white balance."""
    noise: float = 0.04
    """Standard deviation at which a vertex starts to lose weight as an outlier."""
    fewest: float = 0.35
    """Share of people that must show a vertex for it to count as seen."""
    painted: float = 0.5
    """Amplitude of the painted modes in what the portraits' components do not span."""
    tone_bins: tuple[float, ...] = (-30.0, 10.0, 28.0, 41.0, 55.0)
    """ITA angles, degrees, between the groups of skin tone that count alike (Del Bino and Bernerd 2013)."""
    heaviest: float = 6.0
    """The most that one person counts, relative to the mean."""


@dataclass(frozen=True)
class LearnedReflectance:
    """Mean and modes in sRGB, and how much of each mode's variance comes from portraits."""

    mean: Float[np.ndarray, "vertices 3"]
    modes: Modes
    data_share: Float[np.ndarray, "modes"]
    people: int


@dataclass(frozen=True)
class Statistics:
    """A probabilistic principal component model: x = mean + W z + noise."""

    mean: Float[np.ndarray, "vertices 3"]
    W: Float[np.ndarray, "vertices 3 components"]
    variance: float


@dataclass(frozen=True)
class Observations:
    """All people: reflectance as seen, and what each vertex' value is worth."""

    value: Float[np.ndarray, "people vertices 3"]
    weight: Float[np.ndarray, "people vertices"]


def learn_reflectance(
    seen: list[Sighting],
    painted_mean: Float[np.ndarray, "vertices 3"],
    painted: Modes,
    positions: Float[np.ndarray, "vertices 3"],
    triangles: Int[np.ndarray, "faces 3"],
    mirror: Int[np.ndarray, "vertices"],
    bare: Bool[np.ndarray, "vertices"],
    config: LearningConfig | None = None,
) -> LearnedReflectance:
    """Statistics of the reflectance of the people seen, completed by the painted prior to `modes` modes.

    `bare` vertices are the forehead: what differs from a person's skin there is hair.
    """
    config = config or LearningConfig()
    colour = np.stack([s.colour for s in seen]).astype(np.float32)
    normal = np.stack([s.normal for s in seen]).astype(np.float32)
    weight = np.stack([s.weight for s in seen]).astype(np.float32)
    colour = balanced(colour, weight, config.white_balance)
    own = np.broadcast_to(painted_mean.astype(np.float32), colour.shape)
    people, statistics = np.ones(len(seen)), None
    light = config.exposure, config.light_ridge
    for round_ in range(config.rounds):
        shading = np.stack([fit_light(*one, *light) for one in zip(colour, normal, weight, own, strict=True)])
        value = colour / shading[..., None]
        if round_ == 0:
            weight[:, bare] *= like_skin(value, weight, bare)
            people = tone_weights(value, weight, config)
        robust = weight * outlier_weights(
            value, own, weight, config.noise * (3 - round_ if round_ < 2 else 1)
        )
        start = statistics or _start(value, robust, people, painted_mean, config)
        statistics = expectation_maximisation(Observations(value, robust), people, mirror, start, config)
        own = reconstruct(Observations(value, robust), statistics)
        LOG.info("round %d: noise %.4f, people %d", round_ + 1, statistics.variance**0.5, len(seen))
    assert statistics is not None
    cover = (people @ np.minimum(robust, 1)) / people.sum()
    cover = np.minimum(cover, cover[mirror])
    return complete(statistics, cover, painted_mean, painted, positions, triangles, mirror, config, len(seen))


def tone_weights(
    value: np.ndarray, weight: np.ndarray, config: LearningConfig
) -> Float[np.ndarray, "people"]:
    """Weights of people, mean 1, so that the groups of skin tone count alike as far as `heaviest` allows."""
    # The median over the face is skin, whatever brows, lips and hair do.
    tones = np.array([ita(np.median(v[w > 0.5], axis=0)) for v, w in zip(value, weight, strict=True)])
    group = np.digitize(tones, config.tone_bins)
    count = np.bincount(group, minlength=len(config.tone_bins) + 1)
    LOG.info("people by skin tone, dark to light: %s", count.tolist())
    share = 1 / count[group]
    share = np.minimum(share / share.mean(), config.heaviest)
    return share / share.mean()


def outlier_weights(
    value: np.ndarray, own: np.ndarray, weight: np.ndarray, noise: float
) -> Float[np.ndarray, "people vertices"]:
    """1 where a value is near what the person's estimate says, falling to 0 where it is another thing (Geman–McClure)."""
    # In round one the estimate is one mean for all: a person's own tone must not count as an outlier.
    gap = value - own
    tone = np.stack([np.median(g[w > 0.5], axis=0) for g, w in zip(gap, weight, strict=True)])
    distance = np.linalg.norm(gap - tone[:, None], axis=-1) / np.sqrt(3)
    return (1 / (1 + (distance / (2.5 * noise)) ** 2) ** 2).astype(np.float32)


def _start(
    value: np.ndarray,
    weight: np.ndarray,
    people: np.ndarray,
    painted_mean: np.ndarray,
    config: LearningConfig,
) -> Statistics:
    """Weighted mean and principal components with missing values at the mean."""
    w = weight * people[:, None].astype(np.float32)
    total = w.sum(axis=0)[:, None]
    mean = (np.einsum("pv,pvc->vc", w, value) + 0.5 * painted_mean) / (total + 0.5)
    centred = ((value - mean) * weight[..., None]).reshape(len(value), -1)
    centred *= np.sqrt(people / people.sum())[:, None].astype(np.float32)
    _, S, Vt = np.linalg.svd(centred @ centred.T)
    U = Vt[: config.components]
    W = (U @ centred).T.reshape(*mean.shape, -1)
    return Statistics(mean.astype(np.float32), W.astype(np.float32), config.noise**2 / 4)


def posterior(
    one: Float[np.ndarray, "vertices 3"], weight: Float[np.ndarray, "vertices"], model: Statistics
) -> tuple[Float[np.ndarray, "k"], Float[np.ndarray, "k k"]]:
    """Mean and covariance of z given the weighted values of one person."""
    k = model.W.shape[-1]
    W, w = model.W[::EVERY].reshape(-1, k), np.repeat(weight[::EVERY], 3)[:, None]
    Ww = W * w
    precision = np.eye(k) + (Ww.T @ W).astype(np.float64) / model.variance
    covariance = np.linalg.inv(precision)
    gap = (one - model.mean)[::EVERY].ravel()
    return covariance @ (Ww.T @ gap).astype(np.float64) / model.variance, covariance


def expectation_maximisation(
    seen: Observations, people: np.ndarray, mirror: np.ndarray, start: Statistics, config: LearningConfig
) -> Statistics:
    """EM with missing values among the hidden variables; each person is there twice, once in the mirror.

    A value of weight w counts as w of an observation and 1 − w of the model's own guess. The mean is estimated with W.
    """
    model = start
    for _ in range(config.iterations):
        model = _step(seen, people, mirror, model)
    return model


def _step(seen: Observations, people: np.ndarray, mirror: np.ndarray, model: Statistics) -> Statistics:
    n, k = len(model.mean) * 3, model.W.shape[-1]
    flat = np.concatenate([model.W.reshape(n, k), model.mean.reshape(n, 1)], axis=1)
    cross, moment = np.zeros((n, k + 1), np.float32), np.zeros((k + 1, k + 1))
    error = mass = 0.0
    for first in range(0, len(people), CHUNK):
        part = slice(first, first + CHUNK)
        for value, weight in (
            (seen.value[part], seen.weight[part]),
            (seen.value[part][:, mirror], seen.weight[part][:, mirror]),
        ):
            share = people[part]
            z, covariance = zip(
                *(posterior(x, w, model) for x, w in zip(value, weight, strict=True)), strict=True
            )
            Z = np.concatenate([np.stack(z), np.ones((len(z), 1))], axis=1)
            gap = value.reshape(len(z), -1) - Z.astype(np.float32) @ flat.T
            wide = np.repeat(weight, 3, axis=1)
            # A value of weight w is w of an observation and 1 - w of the model's guess.
            filled = value.reshape(len(z), -1) - (1 - wide) * gap
            cross += filled.T @ (share[:, None] * Z).astype(np.float32)
            moment += (share[:, None] * Z).T @ Z
            moment[:k, :k] += np.tensordot(share, np.stack(covariance), axes=1)
            error += float(share @ (wide * gap**2).sum(axis=1))
            mass += float(share @ wide.sum(axis=1))
    solved = np.linalg.solve(moment, cross.T.astype(np.float64)).T.astype(np.float32)
    return Statistics(solved[:, k].reshape(-1, 3), solved[:, :k].reshape(-1, 3, k), max(error / mass, 1e-5))


def reconstruct(seen: Observations, model: Statistics) -> Float[np.ndarray, "people vertices 3"]:
    """Each person's most likely reflectance."""
    z = [posterior(x, w, model)[0] for x, w in zip(seen.value, seen.weight, strict=True)]
    return np.stack([model.mean + model.W @ one.astype(np.float32) for one in z])


def complete(
    statistics: Statistics,
    cover: Float[np.ndarray, "vertices"],
    painted_mean: Float[np.ndarray, "vertices 3"],
    painted: Modes,
    positions: Float[np.ndarray, "vertices 3"],
    triangles: Int[np.ndarray, "faces 3"],
    mirror: Int[np.ndarray, "vertices"],
    config: LearningConfig,
    people: int,
) -> LearnedReflectance:
    """Mean and modes on every vertex: portraits where they see, the painted prior beyond and for what is left."""
    blend = smooth_blend(cover >= config.fewest, positions, triangles)
    carried = extend((statistics.mean - painted_mean), blend, positions, triangles)
    mean = painted_mean + carried
    mean = 0.5 * (mean + mean[mirror])
    k = statistics.W.shape[-1]
    W = extend(statistics.W.reshape(len(mean), -1), blend, positions, triangles).reshape(len(mean), 3, k)
    data = np.moveaxis(W, -1, 0)
    data = np.concatenate([data, mirrored(data, mirror, COLOUR_MIRROR)]) * np.sqrt(0.5)
    prior = config.painted * np.moveaxis(painted.basis, -1, 0).astype(np.float64)
    prior = without_span(prior, data, blend)
    prior = np.concatenate([prior, mirrored(prior, mirror, COLOUR_MIRROR)]) * np.sqrt(0.5)
    fields = np.concatenate([data, prior]).astype(np.float64)
    modes = principal_modes(fields * np.sqrt(len(fields)), None, mirror, COLOUR_MIRROR, config.modes)
    unit = modes.basis.reshape(-1, len(modes.sigma)) / modes.sigma
    of_data = ((data.reshape(len(data), -1) @ unit) ** 2).sum(axis=0)
    return LearnedReflectance(mean.astype(np.float64), modes, of_data / modes.sigma**2, people)


def smooth_blend(
    covered: np.ndarray, positions: np.ndarray, triangles: np.ndarray, length: float = 3.0
) -> Float[np.ndarray, "vertices"]:
    """1 where portraits see, 0 where not, smooth over `length` mm."""
    stiffness, mass = cotangent_laplacian(positions, triangles)
    solver = splu(csc_array(diags_array(mass) + length**2 * stiffness))
    blend = solver.solve(mass * covered.astype(np.float64))
    return np.clip(2 * blend - 1, 0, 1)


def extend(
    fields: Float[np.ndarray, "vertices *c"],
    blend: Float[np.ndarray, "vertices"],
    positions: np.ndarray,
    triangles: np.ndarray,
) -> Float[np.ndarray, "vertices *c"]:
    """The fields where `blend` is 1, going on smoothly where it is 0 and fading out over a metre."""
    stiffness, mass = cotangent_laplacian(positions, triangles)
    far = 1000.0**-2
    data = mass * blend / np.maximum(1 - blend, 1e-4)
    system = csc_array(diags_array(data + far * mass) + stiffness)
    right = (data[:, None] * fields.reshape(len(fields), -1)).astype(np.float64)
    return splu(system).solve(right).reshape(fields.shape)


def without_span(
    fields: Float[np.ndarray, "n vertices 3"],
    span: Float[np.ndarray, "m vertices 3"],
    weight: Float[np.ndarray, "vertices"],
) -> Float[np.ndarray, "n vertices 3"]:
    """The fields without what a least-squares combination of `span` shows of them where portraits see."""
    w = np.repeat(weight, 3)
    A, B = span.reshape(len(span), -1), fields.reshape(len(fields), -1)
    gram = (A * w) @ A.T
    gram += 1e-6 * np.trace(gram) / len(gram) * np.eye(len(gram))
    return (B - (np.linalg.solve(gram, (A * w) @ B.T).T @ A)).reshape(fields.shape)
