"""The derivative of vertices' places and colours by the code: rows of B_i of equation 6, assembled.

Every small map (projection, light, rotation, reading the image) has its derivative written out; the chain over the
linear face model is one sparse matrix on its basis. Everything is exact, the one-ring normals included. Only the
vertices that are asked for, and their rings, are decoded.
"""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

from mofaface.camera import MODEL_TO_CAMERA_AXES, Camera, extrinsics, project
from mofaface.code import Code
from mofaface.decoder import AMBIENT, Decoder, front_facing
from mofaface.geometry import Geometry
from mofaface.harmonics import harmonics, quadratic_form
from mofaface.mesh import normalise
from mofaface.rotation import cross_matrix, rotation_matrix


class NormalDerivative:
    """What takes the places of a vertex' ring to the change of its area vector a_i when the ring moves.

    With f = (b − a) × (c − a), ∂f/∂a = [c − b]×, ∂f/∂b = [a − c]× and ∂f/∂c = [b − a]×: each neighbour moves a_i by
    [e]× with an edge e of the ring, a difference of its places that depends on the triangles alone. Every vertex has as
    many places as the largest ring, the first its own; those left over repeat it, with an edge of zero.
    """

    def __init__(self, triangles: Int[Tensor, "faces 3"], vertices: int):
        device = triangles.device
        itself = torch.arange(vertices, device=device)
        p, q = (k.flatten() for k in torch.meshgrid(*[torch.arange(3, device=device)] * 2, indexing="ij"))
        near = torch.stack((triangles[:, p].flatten(), triangles[:, q].flatten()))
        key = torch.cat((itself * (vertices + 1), near[0] * vertices + near[1]))
        pairs, pair_of = torch.unique(key, return_inverse=True)
        row, column = pairs // vertices, pairs % vertices
        self.width = torch.bincount(row, minlength=vertices)
        place = torch.arange(len(pairs), device=device) - (self.width.cumsum(0) - self.width)[row]
        # Pairs are sorted: what comes before the vertex itself makes room for it.
        place = torch.where(column == row, 0, torch.where(column < row, place + 1, place))
        size = int(self.width.max())
        self.ring = itself[:, None].repeat(1, size)
        self.ring[row, place] = column
        # The edge opposite corner q runs from corner q + 1 to q + 2; inner edges of a pair's faces cancel.
        place = place[pair_of[vertices:]].unflatten(0, (-1, 3, 3))
        ends = torch.zeros(vertices * size * size, dtype=torch.float64, device=device)
        for shift, sign in ((2, 1.0), (1, -1.0)):
            to = (triangles[:, :, None] * size + place) * size + place.roll(-shift, 2)
            ends.index_add_(0, to.flatten(), torch.full_like(ends[:1], sign).expand(to.numel()))
        self.ends = ends.reshape(vertices, size, size)
        self._columns = (3 * self.ring[:, :, None] + torch.arange(3, device=device)).flatten(1).int()

    def edges(
        self, around: Float[Tensor, "rows ring 3"], rows: Int[Tensor, "rows"]
    ) -> Float[Tensor, "rows ring 3"]:
        """The edge e that each place of the rings sees (mm), the places at `around`."""
        if self.ends.dtype != around.dtype:
            self.ends = self.ends.to(around.dtype)
        return self.ends.index_select(0, rows) @ around

    def product(
        self,
        basis: Float[Tensor, "coordinates modes"],
        edges: Float[Tensor, "rows ring 3"],
        rows: Int[Tensor, "rows"],
        of_place: Float[Tensor, "rows k 3"],
        of_area: Float[Tensor, "rows k 3"],
    ) -> Float[Tensor, "rows k modes"]:
        """The derivative of_place dx_i + of_area da_i along a basis of motions, which has a row for each coordinate.

        A sparse matrix of 3 · ring entries a row times the basis, without being stored as one.
        """
        # A row m of a matrix times [e]× is m × e.
        turns = cross_matrix(edges).permute(0, 2, 1, 3).flatten(2)
        blocks = (of_area @ turns).unflatten(2, (-1, 3))
        blocks[:, :, 0] += of_place
        columns = self._columns.index_select(0, rows).repeat_interleave(of_area.shape[1], 0)
        # The sum of weighted rows is what this function is made for; sparse products take four times as long.
        weights = blocks.flatten(0, 1).flatten(1)
        sums = embedding_bag(columns, basis, mode="sum", per_sample_weights=weights)
        return sums.unflatten(0, of_area.shape[:2])


@dataclass(frozen=True)
class Pose:
    """Where the head of a code lies, and how that changes."""

    R: Float[Tensor, "3 3"]
    """R_camera_model."""
    t: Float[Tensor, "3"]
    """t_camera, mm."""
    dR: Float[Tensor, "3 3 3"]
    """Derivative of R by the rotation vector, whose axis is the second."""


@dataclass(frozen=True)
class Point:
    """A code where derivatives are taken, and what all vertices share."""

    code: Code
    pose: Pose
    x: Float[Tensor, "vertices 3"]
    """Model space, mm."""


@dataclass(frozen=True)
class Patch:
    """Some vertices of the face at a point, as the decoder has them; one row per vertex."""

    rows: Int[Tensor, "rows"]
    x: Float[Tensor, "rows 3"]
    """Model space, mm."""
    area: Float[Tensor, "rows 3"]
    """Area vectors of the one-rings in model space, mm²."""
    edges: Float[Tensor, "rows ring 3"]
    """Of `NormalDerivative.edges`."""
    x_camera: Float[Tensor, "rows 3"]
    front: Bool[Tensor, "rows"]
    """Whether the vertex faces the camera."""

    def visible(self) -> "Patch":
        """Its front-facing vertices."""
        kept = torch.nonzero(self.front)[:, 0]
        return Patch(**{f.name: getattr(self, f.name).index_select(0, kept) for f in fields(self)})


@dataclass(frozen=True)
class Colours:
    """A patch under the light, beside the picture."""

    n: Float[Tensor, "rows 3"]
    """Unit normals in model space."""
    harmonics: Float[Tensor, "rows 9"]
    basis: Float[Tensor, "rows 3 modes"]
    """Derivative of the reflectance by β."""
    reflectance: Float[Tensor, "rows 3"]
    shading: Float[Tensor, "rows 3"]
    dshading: Float[Tensor, "rows 3 3"]
    """Derivative of the shading by the normal in camera space."""
    residual: Float[Tensor, "rows 3"]
    """I(u_i) − c_i, RGB."""
    dimage: Float[Tensor, "rows 3 2"]
    """Derivative of I(u_i) by the place, RGB for a pixel."""


class Linearisation:
    """Derivatives of a decoder's faces by the packed code. Codes are batches of one."""

    def __init__(self, decoder: Decoder):
        self.decoder = decoder
        self.model = model = decoder.model
        self.normals = NormalDerivative(model.triangles, model.vertices)
        self.bases = torch.cat((model.shape_basis, model.expression_basis), -1)
        self.geometry = Geometry(model)

    def at(self, code: Code, pose: Pose) -> Point:
        """What every derivative at a code shares."""
        return Point(code, pose, self.geometry(code.alpha[0], code.delta[0]))

    def patch(self, point: Point, rows: Int[Tensor, "rows"]) -> Patch:
        """The vertices `rows`."""
        ring = self.normals.ring.index_select(0, rows)
        around = point.x.index_select(0, ring.flatten()).unflatten(0, ring.shape)
        x, edges = around[:, 0], self.normals.edges(around, rows)
        # A quadratic function is half its derivative along its argument; from here, for the digits' sake.
        area = torch.linalg.cross(edges, around - x[:, None]).sum(1) / 2
        x_camera = x @ point.pose.R.mT + point.pose.t
        front = front_facing(x_camera[None], (area @ point.pose.R.mT)[None])[0]
        return Patch(rows, x, area, edges, x_camera, front)

    def colours(self, image: Float[Tensor, "1 3 height width"], point: Point, patch: Patch) -> Colours:
        """The colours of a patch, in the model and in the picture."""
        n = normalise(patch.area)
        n_camera = n @ point.pose.R.mT
        ambient = point.code.gamma.new_zeros(9, 1)
        ambient[0] = AMBIENT
        Q, l, m = quadratic_form(point.code.gamma[0] + ambient)
        Qn = (n_camera @ Q.flatten(0, 1).mT).unflatten(1, (3, 3))
        shading = ((Qn + l) * n_camera[:, None]).sum(-1) + m
        beta, model = point.code.beta[0], self.model
        basis = model.reflectance_basis.index_select(0, patch.rows)
        reflectance = model.mean_reflectance[patch.rows] + basis @ beta
        seen, dimage = read_image(image, project(patch.x_camera, self.decoder.camera))
        residual = seen - reflectance * shading
        return Colours(n, harmonics(n_camera), basis, reflectance, shading, 2 * Qn + l, residual, dimage)

    def places(
        self, code: Code, pose: Pose, rows: Int[Tensor, "rows"]
    ) -> tuple[Float[Tensor, "rows 2"], Float[Tensor, "rows 2 size"]]:
        """The places u_i in pixels of the vertices `rows`, and their derivative."""
        bases = self.bases[rows]
        x = self.model.mean_shape[rows] + bases @ torch.cat((code.alpha, code.delta), -1)[0]
        x_camera = x @ pose.R.mT + pose.t
        P = projection(x_camera, self.decoder.camera)
        derivative = self._columns(geometry=P @ pose.R @ bases, rotation=P @ _turned(pose, x), translation=P)
        return project(x_camera, self.decoder.camera), derivative

    def residuals(
        self, point: Point, patch: Patch, colours: Colours, scale: Float[Tensor, "rows"]
    ) -> Float[Tensor, "rows 3 size"]:
        """Derivative of I(u_i) − c_i, RGB, of a patch, each vertex times its `scale`."""
        # The scale goes into what is small; everything is linear in these three.
        reflectance, shading = (scale[:, None] * c for c in (colours.reflectance, colours.shading))
        dimage = scale[:, None, None] * colours.dimage
        pose, n = point.pose, colours.n
        length = patch.area.norm(dim=-1).clamp(min=torch.finfo(n.dtype).tiny)
        seen = dimage @ projection(patch.x_camera, self.decoder.camera)
        lit = reflectance[:, :, None] * colours.dshading
        of_normal = lit @ pose.R
        of_area = ((of_normal @ n[:, :, None]) * n[:, None] - of_normal) / length[:, None, None]
        basis, of_place = self.bases.flatten(0, 1), seen @ pose.R
        light = reflectance[:, :, None, None] * colours.harmonics[:, None, :, None]
        return self._columns(
            geometry=self.normals.product(basis, patch.edges, patch.rows, of_place, of_area),
            rotation=seen @ _turned(pose, patch.x) - lit @ _turned(pose, n),
            translation=seen,
            beta=-shading[:, :, None] * colours.basis,
            gamma=-(light * torch.eye(3).to(light)[:, None]).flatten(2),
        )

    def _columns(
        self, geometry: Float[Tensor, "rows k modes"], **parts: Tensor
    ) -> Float[Tensor, "rows k size"]:
        """The parts of a derivative at their places in the packed code; what is not given is zero."""
        first = next(iter(parts.values()))
        sizes = self.model.layout.sizes
        parts["alpha"], parts["delta"] = geometry.split((sizes["alpha"], sizes["delta"]), -1)
        zero = {name: first.new_zeros(*first.shape[:2], n) for name, n in sizes.items() if name not in parts}
        return torch.cat([(parts | zero)[name] for name in sizes], -1)

    def pose(self, code: Code) -> Pose:
        """The pose of a code and its derivative."""
        w = code.rotation[0]
        T, F = rotation_matrix(w), w.new_tensor(MODEL_TO_CAMERA_AXES)
        R, t = extrinsics(T, code.translation[0], self.decoder.camera)
        # T(w + d) = T(w) exp([J d]×) with the right Jacobian J.
        turns = cross_matrix(right_jacobian(w).mT)
        return Pose(R, t, (F[:, None] * (turns @ -T.mT)).transpose(0, 1))


def projection(x_camera: Float[Tensor, "points 3"], camera: Camera) -> Float[Tensor, "points 2 3"]:
    """The derivative of `project` by points in camera space, pixels for a millimetre."""
    z = x_camera[:, 2].clamp(min=camera.nearest)
    P = x_camera.new_zeros(len(x_camera), 2, 3)
    P[:, 0, 0] = P[:, 1, 1] = camera.focal / z
    away = torch.where(x_camera[:, 2] >= camera.nearest, camera.focal / z**2, 0.0)
    P[:, :, 2] = -away[:, None] * x_camera[:, :2]
    return P


def right_jacobian(w: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """J with exp([w + d]×) = exp([w]×) exp([J d]×) for short d."""
    W, s = cross_matrix(w), (w * w).sum()
    small = s < 1e-4
    safe = torch.where(small, torch.ones_like(s), s)
    angle = safe.sqrt()
    cosc = torch.where(small, 0.5 - s / 24 + s * s / 720, (1 - angle.cos()) / safe)
    rest = torch.where(small, 1 / 6 - s / 120 + s * s / 5040, (angle - angle.sin()) / (safe * angle))
    return torch.eye(3).to(w) - cosc * W + rest * W @ W


def read_image(
    image: Float[Tensor, "1 3 height width"], uv: Float[Tensor, "points 2"]
) -> tuple[Float[Tensor, "points 3"], Float[Tensor, "points 3 2"]]:
    """Colours of the image at places uv as `sample_bilinear` reads them, and their derivative by the places."""
    height, width = image.shape[-2:]
    last = uv.new_tensor((width - 1, height - 1))
    nowhere = uv.isnan().any(-1, keepdim=True)
    p = (uv - 0.5).masked_fill(nowhere, -1.0)
    inside = (p > 0) & (p < last)
    p = torch.minimum(p.clamp(min=0), last)
    corner = torch.minimum(p.floor(), last - 1)
    f = (p - corner).unbind(-1)
    corner = corner.long()
    places = (corner[:, 1] * width + corner[:, 0])[:, None] + corner.new_tensor((0, 1, width, width + 1))
    # A pixel's colours stand together, so that it is fetched once.
    pixels = image[0].flatten(1).mT.contiguous().index_select(0, places.flatten()).unflatten(0, (-1, 4))
    x, y = f[0][:, None, None], f[1][:, None, None]
    left, right = pixels[:, ::2], pixels[:, 1::2]
    above, below = pixels[:, :2], pixels[:, 2:]
    rows = left + x * (right - left)
    columns = above + y * (below - above)
    colour = rows[:, 0] + y[:, 0] * (rows[:, 1] - rows[:, 0])
    derivative = torch.stack((columns[:, 1] - columns[:, 0], rows[:, 1] - rows[:, 0]), -1)
    return colour.masked_fill(nowhere, float("nan")), derivative * inside[:, None]


def _turned(pose: Pose, v: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3 3"]:
    """Derivative of R v by the rotation vector."""
    return torch.einsum("akb,nb->nak", pose.dR, v)
