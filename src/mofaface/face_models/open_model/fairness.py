"""python -m mofaface.face_models.open_model.fairness PHOTOS.tar [--model MODEL] [--per-group 60] [--seed 0]

How well a model's reflectance explains people, by skin tone (ITA) and by the groups that UTKFace's file names tell. Every
photo goes the same way: fitted by its landmarks, divided by fitted light of one mean strength, then explained by the
model's modes.
"""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mofaface.face_model import FaceModel
from mofaface.face_models import load_face_model
from mofaface.face_models.open_model.learned_reflectance import LearningConfig
from mofaface.face_models.open_model.portraits import Sighting, read_portraits, see
from mofaface.face_models.open_model.unlit import fit_light
from mofaface.photo import PhotoError
from mofaface.skin_tone import BOUNDS, GROUPS, ita, lab

ETHNICITY = ("white", "black", "asian", "indian", "others")  # the third number of a file's name
# What the prior of a coefficient weighs: the noise of a vertex' colour, in sRGB, for as many independent vertices.
NOISE, INDEPENDENT = 0.06, 600
ROUNDS = 2
LIGHT = LearningConfig().exposure, LearningConfig().light_ridge


@dataclass(frozen=True)
class Explained:
    """One photo: its group, its skin tone, and what the model misses."""

    group: str
    ita: float
    """Of the skin after dividing by the light, degrees."""
    error: float
    """Root mean square of what is left, in sRGB over the channels of seen vertices."""
    relative: float
    """The same over the mean brightness."""
    lightness_bias: float
    """L* of the model's skin minus that of the photo's."""


def explain(sighting: Sighting, model: FaceModel) -> Explained:
    """The most likely coefficients of the photo's reflectance, and what they leave."""
    mean, basis = model.mean_reflectance.numpy(), model.reflectance_basis.numpy()
    weight, own = sighting.weight.astype(np.float32), mean
    unlit = sighting.colour
    for _ in range(ROUNDS):
        shading = fit_light(sighting.colour, sighting.normal.astype(np.float32), weight, own, *LIGHT)
        unlit = sighting.colour / shading[:, None]
        own = mean + basis @ most_likely(unlit - mean, basis, weight)
    gap = (unlit - own) ** 2
    error = float(np.sqrt((weight @ gap.mean(axis=1)) / weight.sum()))
    skin, explained = (np.median(colour[weight > 0.5], axis=0) for colour in (unlit, own))
    bright = float((weight @ unlit.mean(axis=1)) / weight.sum())
    bias = float(lab(explained)[0] - lab(skin)[0])
    return Explained(group_of(sighting.name), ita(skin), error, error / bright, bias)


def most_likely(
    offset: Float[np.ndarray, "vertices 3"],
    basis: Float[np.ndarray, "vertices 3 k"],
    weight: Float[np.ndarray, "vertices"],
) -> Float[np.ndarray, "k"]:
    """Coefficients under N(0, 1) and independent noise at INDEPENDENT places."""
    flat = basis.reshape(-1, basis.shape[-1]).astype(np.float64)
    w = np.repeat(weight / weight.sum() * INDEPENDENT, 3)
    normal = (flat * w[:, None]).T @ flat + NOISE**2 * np.eye(flat.shape[1])
    return np.linalg.solve(normal, (flat * w[:, None]).T @ offset.ravel()).astype(np.float32)


def group_of(name: str) -> str:
    """The group in a UTKFace name such as 25_0_1_2017….jpg; "unknown" where it has none."""
    parts = Path(name).name.split("_")
    if len(parts) > 3 and parts[2].isdigit() and int(parts[2]) < len(ETHNICITY):
        return ETHNICITY[int(parts[2])]
    return "unknown"


def chosen(photos: Iterable[tuple[str, bytes]], per_group: int, seed: int) -> list[tuple[str, bytes]]:
    """As many photos of every group, adults only (UTKFace's first number is the age)."""
    by_group: dict[str, list[tuple[str, bytes]]] = {}
    for name, content in photos:
        age = Path(name).name.split("_")[0]
        if age.isdigit() and int(age) < 18:
            continue
        by_group.setdefault(group_of(name), []).append((name, content))
    random = np.random.default_rng(seed)
    return [
        members[i]
        for _, members in sorted(by_group.items())
        for i in random.permutation(len(members))[:per_group]
    ]


def table(results: list[Explained], key: dict[int, str]) -> str:
    """Mean errors of the groups, and each over the best group's."""
    names = sorted(set(key.values()), key=list(key.values()).index)
    rows = []
    means = {n: [r for i, r in enumerate(results) if key[i] == n] for n in names}
    best = min(np.mean([r.error for r in m]) for m in means.values() if len(m) >= FEWEST)
    for name, members in means.items():
        error, relative, bias = (
            float(np.mean([getattr(r, field) for r in members]))
            for field in ("error", "relative", "lightness_bias")
        )
        few = "" if len(members) >= FEWEST else "  (too few to judge)"
        rows.append(
            f"  {name:13s} n {len(members):3d}  error {error:.4f}  ×{error / best:.2f}  "
            f"relative {relative:.3f}  L* bias {bias:+.2f}{few}"
        )
    return "\n".join(rows)


FEWEST = 10


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", default="open")
    parser.add_argument("--per-group", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = load_face_model(options.model)
    results = []
    for name, content in chosen(read_portraits([options.photos]), options.per_group, options.seed):
        try:
            sighting = see(name, content, model)
        except PhotoError:
            continue
        if sighting is not None and sighting.weight.sum() > 0:
            results.append(explain(sighting, model))
    order = sorted(range(len(results)), key=lambda i: results[i].ita)
    results = [results[i] for i in order]
    print(f"{len(results)} photos, model {options.model}, seed {options.seed}")
    print("by skin tone (ITA)")
    print(table(results, {i: GROUPS[int(np.digitize(r.ita, BOUNDS))] for i, r in enumerate(results)}))
    print("by UTKFace's groups")
    print(table(results, {i: r.group for i, r in enumerate(results)}))


if __name__ == "__main__":
    main()
