"""The terms of the loss by Triton's kernels, for CUDA: values and every gradient in five launches.

Importing this module needs triton, which comes with PyTorch's CUDA builds. With TRITON_INTERPRET=1 set before that the
kernels run in NumPy on the CPU, slowly: that is how they are tested without a GPU.
"""

from typing import Literal

import torch
import triton
from jaxtyping import Float, Int
from torch import Tensor

from mofaface.decoder import AMBIENT, Decoder
from mofaface.kernels.packing import Precision
from mofaface.kernels.terms import TermsWithGradients
from mofaface.kernels.triton_geometry import geometry_kernel, pull_geometry_kernel
from mofaface.kernels.triton_model import TILE_MODES, TILE_VERTICES, TiledBasis, triton_model, up_to
from mofaface.kernels.triton_pose import landmarks_kernel
from mofaface.kernels.triton_shading import EXTRA, finish_kernel, terms_kernel

# What TRITON_INTERPRET said when the kernels were imported.
INTERPRETED = not isinstance(geometry_kernel, triton.JITFunction)
Products = Literal["ieee", "tf32x3", "tf32"]
# Pictures of a program: few stay empty at the paper's batch of five, and with 16 the shading kernel would take so many
# registers that half as many warps ran beside each other.
LANES = 8
# Tiles and rows that a program of the last kernel adds up at once.
_SUMMED_TILES, _SUMMED_ROWS = 128, 4


class TritonTerms(TermsWithGradients):
    """The terms by five kernels. A call waits for nothing and copies nothing from the host, so that a CUDA graph can
    hold it once it has run.

    `bfloat16` and `int8` keep the bases in that precision (float32 means and arithmetic). `products` is how tiles are
    multiplied: "ieee" in float32, "tf32x3" on the tensor cores with nearly its precision, "tf32" with 10 bits of it.
    """

    def __init__(
        self,
        decoder: Decoder,
        points: Int[Tensor, "points"],
        precision: Precision = "float32",
        products: Products = "ieee",
    ):
        """Raises RuntimeError for a model that is not on a CUDA device, unless Triton interprets."""
        device = decoder.model.mean_shape.device
        if device.type != "cuda" and not INTERPRETED:
            raise RuntimeError(
                f"Triton's kernels need a CUDA device, and the face model is on {device}: move it, use PlainTerms, or set "
                "TRITON_INTERPRET=1 before Python starts to run them slowly on the CPU"
            )
        self.decoder, self.points = decoder, points
        self.packed = triton_model(decoder.model, points, precision)
        self._device, self._products = device, products
        # The order of a packed code is known here; the kernels are told where its parts begin.
        layout = decoder.model.layout
        self._first = {name: part.start for name, part in layout.slices().items()}

    def evaluate(
        self,
        x: Float[Tensor, "batch size"],
        image: Float[Tensor, "batch 3 height width"],
        targets: Tensor | None,
        confidence: Tensor | None,
        gradient: bool,
    ) -> tuple[Tensor, ...]:
        """See TermsWithGradients."""
        batch = len(x)
        codes, image = self._here(x).contiguous(), self._here(image)
        photo, land, front = codes.new_zeros(3, batch).unbind()
        places = codes.new_zeros(batch, len(self.points), 2)
        gradients = codes.new_zeros(2, batch, codes.shape[-1]).unbind() if gradient else ()
        if batch > 0:
            with torch.cuda.device_of(codes):
                self._photometric(codes, image, photo, front, *gradients[:1])
                if len(self.points):
                    given = [self._here(t).contiguous() for t in (targets, confidence) if t is not None]
                    self._landmarks(codes, image.shape[-1], given, land, places, *gradients[1:])
        return photo, land, places, front, *gradients

    def workspace_bytes(self, batch: int) -> int:
        """Memory that a batch needs beside model, pictures and results."""
        size = self.decoder.model.layout.size
        return 4 * self.width(batch) * self.packed.geometry.tiles * (9 * TILE_VERTICES + size + EXTRA)

    def width(self, batch: int) -> int:
        """The batch with the empty lanes that it is computed with."""
        return up_to(batch, _wide_lanes(batch))

    def _photometric(
        self,
        codes: Float[Tensor, "batch size"],
        image: Float[Tensor, "batch 3 height width"],
        photo: Float[Tensor, "batch"],
        front: Float[Tensor, "batch"],
        gradient: Float[Tensor, "batch size"] | None = None,
    ) -> None:
        """E_photo, the number of fronts and E_photo's gradient into the last three."""
        m, camera, first = self.packed, self.decoder.camera, self._first
        batch, size = codes.shape
        wide = _wide_lanes(batch)
        width, vertices, rows = self.width(batch), m.ring.shape[-1], size + EXTRA
        tiles = {"BV": TILE_VERTICES, "BK": TILE_MODES, "DOT": self._products}
        geometry = {"K": len(m.geometry.scale), "BB": wide} | tiles
        x, by_x, by_normal = codes.new_empty(3, vertices, 3, width).unbind()
        partial = codes.new_empty(m.geometry.tiles, rows, width)
        # Programs that read the same tile of a basis for other pictures run beside each other.
        geometry_kernel[width // wide, m.geometry.tiles](
            *_arguments(m.geometry),
            codes,
            x,
            batch,
            size,
            width,
            first["alpha"],
            m.geometry.modes,
            **geometry,
        )
        terms_kernel[width // LANES, m.reflectance.tiles](
            x, m.ring, m.degree, *_arguments(m.reflectance), codes, image, by_x, by_normal, partial,
            batch, size, width, vertices, rows, m.frontal, m.reflectance.modes,
            first["beta"], first["rotation"], first["gamma"], *image.shape[2:], *image.stride(),
            camera.focal, *camera.principal, 0.1 * camera.distance, camera.distance, AMBIENT,
            K=len(m.reflectance.scale), BB=LANES, GRADIENT=gradient is not None, **tiles,
        )  # fmt: skip
        if gradient is not None:
            pull_geometry_kernel[width // wide, m.geometry.tiles](
                m.geometry.numbers, x, by_x, by_normal, m.ring, m.degree, partial,
                width, vertices, rows, m.frontal, first["alpha"], m.geometry.modes, **geometry,
            )  # fmt: skip
        programs = 1 if gradient is None else up_to(size, _SUMMED_ROWS) // _SUMMED_ROWS
        finish_kernel[width // LANES, programs](
            partial, codes, m.worth, photo, front, photo if gradient is None else gradient,
            batch, size, width, rows, m.geometry.tiles, m.reflectance.tiles, m.frontal, first["alpha"], first["beta"],
            SIZE=triton.next_power_of_2(size), BT=_SUMMED_TILES, BR=_SUMMED_ROWS, BB=LANES,
            GRADIENT=gradient is not None,
        )  # fmt: skip

    def _landmarks(
        self,
        codes: Float[Tensor, "batch size"],
        image_width: int,
        given: list[Tensor],
        land: Float[Tensor, "batch"],
        places: Float[Tensor, "batch points 2"],
        gradient: Float[Tensor, "batch size"] | None = None,
    ) -> None:
        """Places, and E_land and its gradient for given targets and their confidence, into the last three."""
        m, camera, first = self.packed, self.decoder.camera, self._first
        batch, size = codes.shape
        targets, confidence = given or (places, places)
        landmarks_kernel[(up_to(batch, LANES) // LANES,)](
            *_arguments(m.landmarks), codes, targets, confidence, land, places, land if gradient is None else gradient,
            batch, size, len(self.points), m.landmarks.modes, first["alpha"], first["rotation"], image_width,
            camera.focal, *camera.principal, 0.1 * camera.distance, camera.distance,
            K=len(m.landmarks.scale), BV=m.landmarks.mean.shape[-1], BK=TILE_MODES, BB=LANES, DOT="ieee",
            LAND=bool(given), GRADIENT=gradient is not None,
        )  # fmt: skip

    def _here(self, tensor: Tensor) -> Tensor:
        return tensor.detach().to(self._device, torch.float32)


def _wide_lanes(batch: int) -> int:
    """Pictures of a program that only multiplies: a large batch reads the basis half as often."""
    return LANES if batch <= LANES else 2 * LANES


def _arguments(basis: TiledBasis) -> tuple[Tensor, Tensor, Tensor]:
    return basis.numbers, basis.mean, basis.scale
