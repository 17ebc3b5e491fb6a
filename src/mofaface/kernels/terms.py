"""The terms of the loss that look at the picture (equations 8 and 9), by the fastest code that can.

Here the plain decoder and losses, and the compiled kernel for the CPU; both give the same numbers up to rounding.
"""

import threading
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mofaface.code import Code, CodeLayout
from mofaface.decoder import AMBIENT, Decoder
from mofaface.kernels import native
from mofaface.kernels.packing import PackedModel, Precision, empty_aligned
from mofaface.losses import landmark, photometric


@dataclass(frozen=True)
class Terms:
    """Unweighted terms of a batch, one value per picture, and what they were measured from."""

    photo: Float[Tensor, "batch"]
    """E_photo (equation 8); differentiable by the code."""
    land: Float[Tensor, "batch"]
    """E_land (equation 9) over the given points; differentiable by the code."""
    places: Float[Tensor, "batch points 2"]
    """Where the points are seen, pixels of the crop; without gradient."""
    front: Float[Tensor, "batch"]
    """How many vertices the photometric term counted; without gradient."""


@runtime_checkable
class LossTerms(Protocol):
    """From codes and pictures to terms. Targets and confidences may be left out: the landmark term is then zero."""

    def __call__(
        self,
        code: Code,
        image: Float[Tensor, "batch 3 height width"],
        targets: Float[Tensor, "batch points 2"] | None = None,
        confidence: Float[Tensor, "batch points"] | None = None,
    ) -> Terms:
        """The terms of a batch."""
        ...


def check_inputs(
    layout: CodeLayout,
    points: int,
    x: Tensor,
    image: Tensor,
    targets: Tensor | None,
    confidence: Tensor | None,
) -> None:
    """Raise ValueError, saying what came, unless packed codes, pictures and landmarks belong together."""
    if x.dim() != 2 or x.shape[-1] != layout.size:
        raise ValueError(f"codes are batch × {layout.size} for this face model, got {tuple(x.shape)}")
    if image.dim() != 4 or image.shape[:2] != (len(x), 3) or min(image.shape[2:]) < 2:
        raise ValueError(
            f"{len(x)} codes need pictures {len(x)} × 3 × height × width, got {tuple(image.shape)}"
        )
    for name, given, shape in (
        ("targets", targets, (len(x), points, 2)),
        ("confidence", confidence, (len(x), points)),
    ):
        if given is not None and given.shape != shape:
            raise ValueError(f"{name} of {points} points are {shape}, got {tuple(given.shape)}")
    if (targets is None) != (confidence is None):
        raise ValueError("targets and their confidence belong together, got one of them")


class PlainTerms:
    """The terms by the decoder and the losses as they are written in the paper, in torch operations."""

    def __init__(self, decoder: Decoder, points: Int[Tensor, "points"]):
        self.decoder, self.points = decoder, points

    def __call__(
        self,
        code: Code,
        image: Float[Tensor, "batch 3 height width"],
        targets: Float[Tensor, "batch points 2"] | None = None,
        confidence: Float[Tensor, "batch points"] | None = None,
    ) -> Terms:
        """The terms of a batch; see LossTerms. Raises ValueError for inputs that do not belong together."""
        x = self.decoder.model.layout.pack(code)
        check_inputs(self.decoder.model.layout, len(self.points), x, image, targets, confidence)
        face = self.decoder(code)
        photo = photometric(image, face)
        land = torch.zeros_like(photo)
        if targets is not None and confidence is not None:
            land = landmark(face, self.points, targets, confidence, image.shape[-1])
        return Terms(photo, land, face.uv_crop[:, self.points].detach(), face.front.sum(-1).to(photo))


class TermsWithGradients:
    """Terms whose code makes values and gradients in one pass; subclasses say how in `evaluate`."""

    decoder: Decoder
    points: Int[Tensor, "points"]

    def __call__(
        self,
        code: Code,
        image: Float[Tensor, "batch 3 height width"],
        targets: Float[Tensor, "batch points 2"] | None = None,
        confidence: Float[Tensor, "batch points"] | None = None,
    ) -> Terms:
        """The terms of a batch; see LossTerms. Raises ValueError for inputs that do not belong together."""
        x = self.decoder.model.layout.pack(code)
        check_inputs(self.decoder.model.layout, len(self.points), x, image, targets, confidence)
        photo, land, places, front = GradientsAhead.apply(x, image, targets, confidence, self)
        return Terms(photo, land, places, front)

    def evaluate(
        self,
        x: Float[Tensor, "batch size"],
        image: Float[Tensor, "batch 3 height width"],
        targets: Tensor | None,
        confidence: Tensor | None,
        gradient: bool,
    ) -> tuple[Tensor, ...]:
        """Terms, places, fronts, and the gradients of both terms by the packed code (none of them without)."""
        raise NotImplementedError


class FusedTerms(TermsWithGradients):
    """The terms by the compiled kernel: values and every gradient in one pass over the model.

    `bfloat16` and `int8` keep the bases in that precision (float32 means and arithmetic).
    """

    def __init__(self, decoder: Decoder, points: Int[Tensor, "points"], precision: Precision = "float32"):
        """Raises RuntimeError where nothing was compiled."""
        library = native.library()
        if library is None:
            raise RuntimeError("no compiled kernel is installed or it is switched off; use PlainTerms")
        self._library = library
        self.decoder, self.points = decoder, points
        self.packed = PackedModel(decoder.model, points, precision)
        camera = decoder.camera
        self._camera = native.Camera(
            camera.focal, *camera.principal, 0.1 * camera.distance, camera.distance, AMBIENT
        )
        # Memory is kept between calls: getting it anew from the system costs more than the arithmetic.
        self._spare: list[Tensor] = []
        self._lock = threading.Lock()

    def evaluate(
        self,
        x: Float[Tensor, "batch size"],
        image: Float[Tensor, "batch 3 height width"],
        targets: Tensor | None,
        confidence: Tensor | None,
        gradient: bool,
    ) -> tuple[Tensor, ...]:
        """See TermsWithGradients."""
        inputs = [x, image] + (
            [targets, confidence] if targets is not None and confidence is not None else []
        )
        kept = [t.detach().to("cpu", torch.float32).contiguous() for t in inputs]
        batch, points = len(x), len(self.points)
        photo, land, front = torch.zeros(3, batch).unbind()
        places = torch.zeros(batch, points, 2)
        gradients = [torch.zeros(batch, x.shape[-1]) for _ in range(2)] if gradient else []
        if batch == 0:
            return photo, land, places, front, *gradients
        threads = torch.get_num_threads()
        structure = native.Batch(batch, *image.shape[2:], x.shape[-1])
        addresses = dict(zip(("codes", "image", "targets", "confidence"), kept, strict=False))
        addresses |= {"photo": photo, "places": places, "front": front}
        addresses |= dict(zip(("photo_gradient",), gradients[:1], strict=False))
        if targets is not None:
            addresses |= {"land": land} | dict(zip(("land_gradient",), gradients[1:], strict=False))
        for name, tensor in addresses.items():
            setattr(structure, name, tensor.data_ptr())
        memory = self._memory(batch, threads)
        self._library.mofaface_terms(
            self.packed.structure, self._camera, structure, memory.data_ptr(), threads
        )
        with self._lock:
            self._spare.append(memory)
        return photo, land, places, front, *gradients

    def workspace_bytes(self, batch: int) -> int:
        """Memory that a batch needs beside model, pictures and results."""
        needed: int = self._library.mofaface_workspace(self.packed.structure, batch, torch.get_num_threads())
        return needed

    def _memory(self, batch: int, threads: int) -> Tensor:
        needed = self._library.mofaface_workspace(self.packed.structure, batch, threads)
        with self._lock:
            fitting = [m for m in self._spare if m.numel() >= needed]
            if fitting:
                self._spare = [m for m in self._spare if m is not fitting[0]]
                return fitting[0]
            self._spare.clear()
        return torch.from_numpy(empty_aligned(needed))


class GradientsAhead(torch.autograd.Function):
    """The kernel under autograd: its gradients are made in the forward pass and only scaled in the backward one."""

    @staticmethod
    def forward(ctx, x, image, targets, confidence, terms):  # type: ignore[no-untyped-def, override]
        gradient = ctx.needs_input_grad[0]
        photo, land, places, front, *gradients = terms.evaluate(x, image, targets, confidence, gradient)
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(places, front)
        return photo.to(x), land.to(x), places.to(x), front.to(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, by_photo, by_land, *_):  # type: ignore[no-untyped-def, override]
        photo, land = ctx.saved_tensors
        x = by_photo[:, None] * photo + by_land[:, None] * land
        return x, None, None, None, None
