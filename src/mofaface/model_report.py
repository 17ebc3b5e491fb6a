"""What a face model holds, in figures: sizes, units, licence, spread, and how its variance is shared by the modes."""

import textwrap

import numpy as np
from jaxtyping import Float

from mofaface.face_model import FaceModel, FaceModelArrays

LISTED = (1, 5, 10, 20, 40, 64, 80)  # numbers of modes that reports give
KINDS = ("shape", "expression", "reflectance")
UNIT = {"shape": "mm", "expression": "mm", "reflectance": "of 1, all three channels"}
RANDOM_FACES = 200
LONGEST_LICENCE = 160  # characters of a licence's text in the report


def basis_figures(basis: Float[np.ndarray, "vertices 3 modes"]) -> dict[str, object]:
    """Spread per vertex, worst cosine between two modes, and the cumulative shares of the modes' variance.

    The shares are those of the principal modes of E c, c ~ N(0, 1): the file's own modes where they are orthogonal.
    """
    if basis.shape[-1] == 0:
        return {"spread per vertex": 0.0, "worst cosine between modes": 0.0, "share of the first modes": {}}
    flat = basis.reshape(-1, basis.shape[-1]).astype(np.float64)
    gram = flat.T @ flat
    sigma = np.sqrt(np.diag(gram)).clip(1e-300)
    variance = np.linalg.eigvalsh(gram)[::-1].clip(0)
    share = np.cumsum(variance) / variance.sum().clip(1e-300)
    return {
        "spread per vertex": round(float(np.sqrt(variance.sum() / len(basis))), 4),
        "worst cosine between modes": float(np.abs(gram / np.outer(sigma, sigma) - np.eye(len(sigma))).max()),
        "share of the first modes": {n: round(float(share[n - 1]), 4) for n in LISTED if n <= len(sigma)},
    }


def share_outside(model: FaceModel) -> float:
    """Share of the reflectance values of random faces that lie outside [0, 1]."""
    beta = (
        np.random.default_rng(0).standard_normal((RANDOM_FACES, model.layout.reflectance)).astype(np.float32)
    )
    mean, basis = model.mean_reflectance.cpu().numpy(), model.reflectance_basis.cpu().numpy()
    faces = mean.ravel() + beta @ basis.reshape(mean.size, -1).T
    return float(((faces < 0) | (faces > 1)).mean())


def report_lines(model: FaceModel) -> list[str]:
    """What `mofaface model info` prints, line by line."""
    arrays = model.arrays
    size = np.ptp(arrays.mean_shape, axis=0)
    lines = [
        f"{model.name} {model.version}, digest {model.digest[:16]}",
        f"licence: {shortened(model.licence)}",
        f"units: {model.units}; RGB in [0, 1], sRGB encoded; coefficients in standard deviations",
        f"mesh: {model.vertices} vertices, {len(model.triangles)} triangles, "
        f"{size[0]:.0f} × {size[1]:.0f} × {size[2]:.0f} mm; {coarse_text(arrays)}",
        f"code: {model.layout.size} numbers, modes of "
        + ", ".join(f"{kind} {getattr(model.layout, kind)}" for kind in KINDS),
    ]
    for kind in KINDS:
        lines.append(variance_line(kind, getattr(model, f"{kind}_basis").cpu().numpy()))
    lines.append(f"reflectance values of random faces outside [0, 1]: {100 * share_outside(model):.1f} %")
    lines.append(
        f"landmarks: 68 on the mesh, 46 of them used; uv: {'yes' if arrays.uv is not None else 'no'}"
    )
    lines.append(f"regions: {regions_text(arrays)}")
    lines.append(f"named face units: {len(model.unit_names)}{units_text(model.unit_names)}")
    return lines + ([f"notes: {model.notes}"] if model.notes else [])


def shortened(text: str) -> str:
    """The beginning of a licence's text on one line."""
    return textwrap.shorten(text, LONGEST_LICENCE, placeholder=" … (whole text in the file)") or "not stated"


def coarse_text(arrays: FaceModelArrays) -> str:
    """The size of the coarse mesh."""
    if arrays.coarse_vertices is None:
        return "no coarse mesh"
    return f"coarse mesh of {len(arrays.coarse_vertices)} vertices"


def regions_text(arrays: FaceModelArrays) -> str:
    """The names of the regions, each with its number of vertices."""
    return ", ".join(f"{name} {len(rows)}" for name, rows in sorted(arrays.regions.items())) or "none"


def units_text(names: tuple[str, ...]) -> str:
    """The first few names of the face units."""
    return f" ({', '.join(names[:4])}{', …' if len(names) > 4 else ''})" if names else ""


def variance_line(kind: str, basis: Float[np.ndarray, "vertices 3 modes"]) -> str:
    """Spread per vertex and shares of variance of one kind of mode."""
    if basis.shape[-1] == 0:
        return f"{kind}: no modes"
    figures = basis_figures(basis)
    shares = figures["share of the first modes"]
    assert isinstance(shares, dict)
    numbers, parts = "/".join(map(str, shares)), "/".join(f"{100 * s:.1f}" for s in shares.values())
    spread = f"spread per vertex {figures['spread per vertex']:.3g} {UNIT[kind]}"
    return f"{kind}: {spread}; first {numbers} modes hold {parts} %"
