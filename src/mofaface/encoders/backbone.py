"""What every convolutional backbone offers: images in, one feature vector per image out."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from mofaface.encoders.preprocess import InputFormat, Preprocess


class Backbone(nn.Module):
    """A convolutional network without its classifier; subclasses define `forward`."""

    name: ClassVar[str]
    out_features: int

    def __init__(self, format: InputFormat):
        super().__init__()
        self.preprocess = Preprocess(format)

    def forward(self, images: Float[Tensor, "batch 3 _ _"]) -> Float[Tensor, "batch features"]:
        raise NotImplementedError

    def pretrained_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name → shape of every tensor a pretrained file must bring: all but the `readout`, learned here."""
        state = self.state_dict()
        return {name: tuple(value.shape) for name, value in state.items() if not name.startswith("readout.")}
