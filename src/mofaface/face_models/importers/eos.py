"""eos' models (.bin, a cereal archive), such as the Surrey Face Model's shape, read through eos-py."""

from pathlib import Path
from typing import Any

import numpy as np

from mofaface.face_models.importers.basel import only_file
from mofaface.face_models.importers.matlab import modes, points
from mofaface.face_models.importers.raw import ModelFileError, RawModel, outward


def read_eos(files: list[Path]) -> RawModel:
    """A PCA model of shape, and of colour and expression where the file holds them; mm as eos' own models have."""
    path = only_file(files, "an eos model", (".bin",))
    try:
        import eos
    except ImportError as error:
        raise ModelFileError(
            "eos' .bin files are read by eos-py, which is not installed: pip install eos-py"
        ) from error
    try:
        model = eos.morphablemodel.load_model(str(path))
    except Exception as error:  # cereal raises a RuntimeError of its own for anything damaged
        raise ModelFileError(f"{path} is no readable eos model ({error}); copy it again") from error
    shape = model.get_shape_model()
    mean = points(shape.get_mean())
    triangles = np.array(shape.get_triangle_list(), np.int64)
    base, expression = _expression(model, len(mean))
    return RawModel(
        name="eos",
        version=path.stem,
        licence="the licence of the model's owner (the Surrey Face Model: University of Surrey, research use)",
        mean_shape=mean + base,
        shape_basis=modes(shape.get_rescaled_pca_basis()),
        expression_basis=expression,
        triangles=outward(mean, triangles),
        notes=f"Read from {path.name} by eos-py.",
        **_colour(model),
    )


def _colour(model: Any) -> dict[str, Any]:
    """Colours in [0, 1]; eos keeps some models' in 0 to 255."""
    if not model.has_color_model():
        return {}
    colour = model.get_color_model()
    mean = points(colour.get_mean())
    unit = 255.0 if mean.max() > 2 else 1.0
    return {
        "mean_reflectance": mean / unit,
        "reflectance_basis": modes(colour.get_rescaled_pca_basis()) / unit,
    }


def _expression(model: Any, vertices: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean expression, added to the face, and modes; blendshapes become modes of full strength."""
    if not model.has_separate_expression_model():
        return np.zeros((vertices, 3)), np.zeros((vertices, 3, 0))
    expression = model.get_expression_model()
    if isinstance(expression, list):
        columns = np.stack([np.ravel(shape.deformation) for shape in expression], axis=1)
        return np.zeros((vertices, 3)), modes(columns)
    return points(expression.get_mean()), modes(expression.get_rescaled_pca_basis())
