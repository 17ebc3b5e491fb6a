"""Fast twins of the decoder and its loss: compiled where a compiler was at hand, with the plain code beside them."""

from mofaface.kernels.choose import loss_terms
from mofaface.kernels.native import native_level
from mofaface.kernels.terms import FusedTerms, LossTerms, PlainTerms, Terms

__all__ = ["FusedTerms", "LossTerms", "PlainTerms", "Terms", "loss_terms", "native_level"]
