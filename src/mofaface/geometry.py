"""The geometry of single faces, fast: the model's cage is bent, and only then subdivided; and landmarks alone, exactly.

A model with a cage (equation 2 on its vertices) costs a tenth of reading the subdivided bases. Models without one, and
other devices than the CPU, take the plain way; the numbers are the same up to rounding.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mofaface.camera import Camera, extrinsics, project
from mofaface.code import Code
from mofaface.face_model import FaceModel
from mofaface.rotation import rotation_matrix

# What float32 makes of a row of weights that sums to 1.
ROUNDING = 1e-6


class Geometry:
    """Coefficients → vertices of a face model, one face after the other."""

    def __init__(self, model: FaceModel):
        self.model = model
        stored, S = model.stored, model.stored.subdivision
        self._has_cage = S is not None and model.mean_shape.device.type == "cpu"
        if S is None or not self._has_cage:
            return
        like = model.mean_shape
        basis = np.concatenate((stored.shape_basis, stored.expression_basis), -1)
        self._mean = torch.from_numpy(stored.mean_shape).to(like).flatten()
        # One row for each mode: a product with one vector then reads memory in order.
        self._basis = torch.from_numpy(basis).to(like).flatten(0, 1).mT.contiguous()
        self._first = torch.from_numpy(S.indptr.astype(np.int64))
        self._corner = torch.from_numpy(S.indices.astype(np.int64))
        self._share = torch.from_numpy(S.values).to(like)
        # Rows that sum to 1 subdivide a moved cage to the moved face.
        sums = np.add.reduceat(S.values.astype(np.float64), S.indptr[:-1])
        self._moves_with_cage = bool((np.diff(S.indptr) > 0).all() and np.abs(sums - 1).max() < ROUNDING)

    def __call__(
        self, alpha: Float[Tensor, "shape"], delta: Float[Tensor, "expression"]
    ) -> Float[Tensor, "vertices 3"]:
        """V in model space, mm (equation 2)."""
        if not self._has_cage:
            return self.model.geometry(alpha[None], delta[None])[0]
        return self._subdivided(self._cage(alpha, delta))

    def posed(
        self,
        alpha: Float[Tensor, "shape"],
        delta: Float[Tensor, "expression"],
        R: Float[Tensor, "3 3"],
        t: Float[Tensor, "3"],
    ) -> Float[Tensor, "vertices 3"]:
        """The vertices seen from a camera, R v + t, mm."""
        if not self._has_cage or not self._moves_with_cage:
            return torch.addmm(t, self(alpha, delta), R.mT)
        return self._subdivided(torch.addmm(t, self._cage(alpha, delta), R.mT))

    def _cage(self, alpha: Tensor, delta: Tensor) -> Float[Tensor, "cage 3"]:
        return torch.addmv(self._mean, self._basis.mT, torch.cat((alpha, delta))).view(-1, 3)

    def _subdivided(self, cage: Float[Tensor, "cage 3"]) -> Float[Tensor, "vertices 3"]:
        return F.embedding_bag(
            self._corner,
            cage,
            self._first,
            mode="sum",
            per_sample_weights=self._share,
            include_last_offset=True,
        )


def landmark_places(model: FaceModel, camera: Camera, code: Code) -> Float[Tensor, "batch 68 2"]:
    """Where the 68 landmarks are seen, pixels of the crop, float64: the decoder's answer for these vertices alone."""
    rows = model.landmarks_68
    basis = torch.cat((model.shape_basis[rows], model.expression_basis[rows]), -1).cpu().double()
    coefficients = torch.cat((code.alpha, code.delta), -1).cpu().double()
    x_model = model.mean_shape[rows].cpu().double() + torch.einsum("bk,nck->bnc", coefficients, basis)
    R, t = extrinsics(rotation_matrix(code.rotation.cpu().double()), code.translation.cpu().double(), camera)
    return project(x_model @ R.mT + t[:, None], camera)
