"""Starting from trained weights, also from those of another face model of the same mesh.

A network's last layer is linear, and so is a face model: what one model's coefficients say is, up to what the other
cannot show, a linear map of the other's. The map goes into the last layer, and everything the network knows is kept.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mofaface.camera import Camera, extrinsics
from mofaface.encoders import CodeHead, Encoder
from mofaface.face_model import FaceModel

# Standard deviations of what need not be carried exactly: a vertex's place, mm, and its reflectance.
PLACE, COLOUR = 0.5, 0.03


@dataclass(frozen=True)
class Carried:
    """Coefficients of one model from another's: new = matrix @ old + constant, in the order of the code's vector."""

    matrix: Float[Tensor, "new old"]
    constant: Float[Tensor, "new"]


def carry_encoder(old: Encoder, own: FaceModel, camera: Camera, encoder: Encoder, model: FaceModel) -> None:
    """Give `encoder`, made for `model`, the weights of the network `old`, made for the face model `own`.

    Raises ValueError when the networks differ in more than their last layer, or the meshes in their triangles.
    """
    states = [{n: t for n, t in e.state_dict().items() if not n.startswith("head.")} for e in (old, encoder)]
    if {n: t.shape for n, t in states[0].items()} != {n: t.shape for n, t in states[1].items()}:
        raise ValueError(
            "training starts from weights of the same network; these are of another (--encoder.…)"
        )
    encoder.load_state_dict(states[0], strict=False)
    if own.digest == model.digest:
        encoder.head.load_state_dict(old.head.state_dict())
        return
    if own.vertices != model.vertices or not torch.equal(own.triangles, model.triangles):
        raise ValueError(
            f"weights can be carried over between face models of one mesh; '{own.name}' version {own.version} has "
            f"{own.vertices} vertices and '{model.name}' version {model.version} {model.vertices}, or other triangles"
        )
    carry_head(old.head, encoder.head, carried(own, model, camera))


@torch.no_grad()
def carry_head(old: CodeHead, new: CodeHead, change: Carried) -> None:
    """Give the new last layer the outputs of the old one, seen through the change of coefficients."""
    from_units, to_units = old.units(), new.units()
    matrix = change.matrix * from_units / to_units[:, None]
    weight, bias = old.every.weight.clone(), old.every.bias.clone()
    z_old, z_new = (head.layout.slices()["translation"].start + 2 for head in (old, new))
    weight[z_old], bias[z_old] = old.z.weight[0], old.z.bias[0]
    weight, bias = matrix @ weight, matrix @ bias + change.constant / to_units
    new.every.weight.copy_(weight)
    new.every.bias.copy_(bias)
    new.z.weight.copy_(weight[z_new : z_new + 1])
    new.z.bias.copy_(bias[z_new : z_new + 1])


def carried(old: FaceModel, new: FaceModel, camera: Camera) -> Carried:
    """The most likely coefficients of `new` for faces of `old` on the same mesh, seen frontally.

    Geometry may shift as a whole, which the translation takes back; rotation and light stay as they are.
    """
    slices, places = new.layout.slices(), old.layout.slices()
    matrix = torch.zeros(new.layout.size, old.layout.size)
    constant = torch.zeros(new.layout.size)
    for name in ("rotation", "translation", "gamma"):
        matrix[slices[name], places[name]] = torch.eye(slices[name].stop - slices[name].start)
    compared = new.frontal
    shift = torch.eye(3).expand(int(compared.sum()), 3, 3)
    A, a = _most_likely(
        torch.cat([new.shape_basis, new.expression_basis], -1)[compared],
        torch.cat([old.shape_basis, old.expression_basis], -1)[compared],
        (old.mean_shape - new.mean_shape)[compared],
        shift,
        PLACE,
    )
    geometry, was = slice(0, slices["delta"].stop), slice(0, places["delta"].stop)
    matrix[geometry, was], constant[geometry] = A[:-3], a[:-3]
    axes, _ = extrinsics(torch.eye(3)[None], torch.zeros(1, 3), camera)
    matrix[slices["translation"], was] = axes[0] @ A[-3:]
    constant[slices["translation"]] = axes[0] @ a[-3:]
    B, b = _most_likely(
        new.reflectance_basis,
        old.reflectance_basis,
        old.mean_reflectance - new.mean_reflectance,
        None,
        COLOUR,
    )
    matrix[slices["beta"], places["beta"]], constant[slices["beta"]] = B, b
    return Carried(matrix, constant)


def _most_likely(
    basis: Float[Tensor, "vertices 3 new"],
    fields: Float[Tensor, "vertices 3 old"],
    offset: Float[Tensor, "vertices 3"],
    free: Float[Tensor, "vertices 3 free"] | None,
    sigma: float,
) -> tuple[Float[Tensor, "coefficients old"], Float[Tensor, "coefficients"]]:
    """Ridge regression of fields and offset on the basis, whose coefficients are N(0, 1), and on free columns."""
    E = basis.double().flatten(0, 1)
    prior = torch.ones(E.shape[1], dtype=torch.float64)
    if free is not None:
        E = torch.cat([E, free.double().flatten(0, 1)], -1)
        prior = torch.cat([prior, torch.zeros(free.shape[-1], dtype=torch.float64)])
    targets = torch.cat([fields, offset[..., None]], -1).double().flatten(0, 1)
    solution = torch.linalg.solve(E.mT @ E + sigma**2 * prior.diag(), E.mT @ targets).float()
    return solution[:, :-1], solution[:, -1]
