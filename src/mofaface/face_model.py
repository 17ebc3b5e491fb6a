"""Linear face models: an average face and the ways in which faces differ (equations 1 to 3).

Any model of the form "mean plus bases" is a FaceModel: the open one of this project, or a licensed one that was
imported. Everything is in model space, millimetres and RGB in [0, 1] encoded like the photographs (sRGB).
"""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mofaface.code import CodeLayout
from mofaface.landmarks import LANDMARKS_46


@dataclass(frozen=True)
class SparseMatrix:
    """A sparse matrix by compressed rows, as SciPy's csr_matrix."""

    indptr: Int[np.ndarray, "starts"]
    indices: Int[np.ndarray, "entries"]
    values: Float[np.ndarray, "entries"]
    columns: int

    def __matmul__(self, dense: Float[np.ndarray, "columns *rest"]) -> Float[np.ndarray, "rows *rest"]:
        """The product with a dense array, float32."""
        rows = np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))
        # By places, not by compressed rows: torch warns its users that the latter are in beta.
        sparse = torch.sparse_coo_tensor(
            torch.from_numpy(np.stack((rows, self.indices.astype(np.int64)))),
            torch.from_numpy(self.values.astype(np.float32)),
            size=(len(self.indptr) - 1, self.columns),
            check_invariants=True,
        )
        flat = torch.from_numpy(dense.reshape(len(dense), -1).astype(np.float32))
        return (sparse @ flat).numpy().reshape(-1, *dense.shape[1:])

    def rows(self, keep: Int[np.ndarray, "_"]) -> "SparseMatrix":
        """Some of its rows, in the given order."""
        count = np.diff(self.indptr)[keep]
        start = np.concatenate(([0], np.cumsum(count)))
        entry = np.arange(start[-1]) + np.repeat(self.indptr[keep] - start[:-1], count)
        return SparseMatrix(start, self.indices[entry], self.values[entry], self.columns)

    def transposed(self) -> "SparseMatrix":
        """Its transpose."""
        row = np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))
        order = np.argsort(self.indices, kind="stable")
        start = np.concatenate(([0], np.cumsum(np.bincount(self.indices, minlength=self.columns))))
        return SparseMatrix(start, row[order], self.values[order], len(self.indptr) - 1)


@dataclass(frozen=True)
class FaceModelArrays:
    """Every array of a face model, as builders and importers make it and the container keeps it.

    Geometry is given on the vertices, or, with a `subdivision` operator S, on the vertices of a coarser cage:
    S V = S A_s + S E_s α + S E_e δ, so subdividing the mean and the bases once is subdividing every face.
    """

    name: str
    version: str
    licence: str
    mean_shape: Float[np.ndarray, "cage 3"]
    shape_basis: Float[np.ndarray, "cage 3 shape"]
    expression_basis: Float[np.ndarray, "cage 3 expression"]
    mean_reflectance: Float[np.ndarray, "vertices 3"]
    reflectance_basis: Float[np.ndarray, "vertices 3 reflectance"]
    triangles: Int[np.ndarray, "faces 3"]
    landmarks_68: Int[np.ndarray, "68"]
    subdivision: SparseMatrix | None = None
    uv: Float[np.ndarray, "vertices 2"] | None = None
    mirror: Int[np.ndarray, "vertices"] | None = None
    coarse_vertices: Int[np.ndarray, "coarse"] | None = None
    coarse_triangles: Int[np.ndarray, "coarse_faces 3"] | None = None
    regions: dict[str, Int[np.ndarray, "_"]] = field(default_factory=dict)
    unit_names: tuple[str, ...] = ()
    units_expression: Float[np.ndarray, "units expression"] | None = None
    notes: str = ""
    units: str = "mm"

    def subdivided(self) -> "FaceModelArrays":
        """The same model with geometry on its vertices and no subdivision operator."""
        if self.subdivision is None:
            return self
        S = self.subdivision
        return replace(
            self,
            mean_shape=S @ self.mean_shape,
            shape_basis=S @ self.shape_basis,
            expression_basis=S @ self.expression_basis,
            subdivision=None,
        )


class FaceModel(nn.Module):
    """A face model in tensors: it turns coefficients into geometry and reflectance.

    Its tensors are buffers that move with the module and are never saved in a checkpoint. `stored` keeps the arrays as
    they came, with the cage where there is one; `arrays` are the same with geometry on the vertices.
    """

    mean_shape: Tensor
    shape_basis: Tensor
    expression_basis: Tensor
    mean_reflectance: Tensor
    reflectance_basis: Tensor
    triangles: Tensor
    landmarks_68: Tensor
    landmarks_46: Tensor
    frontal: Tensor

    def __init__(self, arrays: FaceModelArrays, digest: str = ""):
        super().__init__()
        self.name, self.version, self.licence, self.digest = (
            arrays.name,
            arrays.version,
            arrays.licence,
            digest,
        )
        self.units, self.notes, self.unit_names = arrays.units, arrays.notes, arrays.unit_names
        self.stored = arrays
        self.arrays = arrays = arrays.subdivided()
        for name in (
            "mean_shape",
            "shape_basis",
            "expression_basis",
            "mean_reflectance",
            "reflectance_basis",
        ):
            self._keep(name, torch.from_numpy(np.ascontiguousarray(getattr(arrays, name), np.float32)))
        self._keep("triangles", torch.from_numpy(arrays.triangles.astype(np.int64)))
        landmarks = torch.from_numpy(arrays.landmarks_68.astype(np.int64))
        self._keep("landmarks_68", landmarks)
        self._keep("landmarks_46", landmarks[list(LANDMARKS_46)])
        self._keep("frontal", _frontal(arrays))
        self.regions = {name: torch.from_numpy(r.astype(np.int64)) for name, r in arrays.regions.items()}
        self.layout = CodeLayout(
            self.shape_basis.shape[-1], self.expression_basis.shape[-1], self.reflectance_basis.shape[-1]
        )

    def _keep(self, name: str, tensor: Tensor) -> None:
        self.register_buffer(name, tensor, persistent=False)

    @property
    def vertices(self) -> int:
        """The number of vertices N."""
        return len(self.mean_shape)

    def geometry(
        self, alpha: Float[Tensor, "batch shape"], delta: Float[Tensor, "batch expression"]
    ) -> Float[Tensor, "batch vertices 3"]:
        """Vertices V = A_s + E_s α + E_e δ in mm (equation 2)."""
        return self.mean_shape + _span(self.shape_basis, alpha) + _span(self.expression_basis, delta)

    def reflectance(self, beta: Float[Tensor, "batch reflectance"]) -> Float[Tensor, "batch vertices 3"]:
        """Skin reflectance R = A_r + E_r β, RGB (equation 3); nothing keeps it inside [0, 1]."""
        return self.mean_reflectance + _span(self.reflectance_basis, beta)

    def coarse(self) -> "FaceModel":
        """The same faces on a fraction of the vertices (about a third for the open model), for fast training.

        The places are those of the full model; normals come from the wider one-ring. A model without a coarse
        mesh is returned as it is.
        """
        a = self.arrays
        if a.coarse_vertices is None or a.coarse_triangles is None:
            return self
        restricted = _restrict(self.stored, a.coarse_vertices, a.coarse_triangles)
        return FaceModel(restricted, self.digest).to(self.mean_shape)


def _frontal(arrays: FaceModelArrays) -> Bool[Tensor, "vertices"]:
    """The vertices of the region "frontal"; all of them for a model without it."""
    region = arrays.regions.get("frontal")
    mask = torch.full((len(arrays.mean_shape),), region is None)
    if region is not None:
        mask[torch.from_numpy(region.astype(np.int64))] = True
    return mask


def _span(
    basis: Float[Tensor, "vertices 3 modes"], coefficients: Float[Tensor, "batch modes"]
) -> Float[Tensor, "batch vertices 3"]:
    return (coefficients @ basis.flatten(0, 1).mT).unflatten(-1, (-1, 3))


def _restrict(
    a: FaceModelArrays, keep: Int[np.ndarray, "coarse"], triangles: Int[np.ndarray, "coarse_faces 3"]
) -> FaceModelArrays:
    place = np.full(len(a.mean_reflectance), -1, np.int64)
    place[keep] = np.arange(len(keep))
    if (place[a.landmarks_68] < 0).any():
        raise ValueError(
            f"the coarse mesh of face model '{a.name}' lacks some of its landmarks; rebuild the model"
        )
    if a.subdivision is None:
        a = replace(
            a,
            mean_shape=a.mean_shape[keep],
            shape_basis=a.shape_basis[keep],
            expression_basis=a.expression_basis[keep],
        )
    else:
        a = replace(a, subdivision=a.subdivision.rows(keep))
    return replace(
        a,
        mean_reflectance=a.mean_reflectance[keep],
        reflectance_basis=a.reflectance_basis[keep],
        triangles=triangles,
        landmarks_68=place[a.landmarks_68],
        uv=None if a.uv is None else a.uv[keep],
        mirror=None,
        coarse_vertices=None,
        coarse_triangles=None,
        regions={name: place[r][place[r] >= 0] for name, r in a.regions.items()},
    )
