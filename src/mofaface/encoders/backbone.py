"""What every convolutional backbone offers: images in, one feature vector per image out."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from mofaface.encoders.preprocess import InputFormat, Preprocess

# A fine and a coarse map, which feedback looks its points up in.
Maps = tuple[Float[Tensor, "batch fine _ _"], Float[Tensor, "batch coarse _ _"]]


class Backbone(nn.Module):
    """A convolutional network without its classifier; subclasses define `forward`."""

    name: ClassVar[str]
    out_features: int
    map_channels: tuple[int, int] | None = None
    """Channels of the maps that feedback can look at, a fine and a coarse one; None without."""
    map_strides: tuple[int, int] = (4, 8)
    """Pixels of the network's input between cells of these maps; the first cell is centred on the first pixel."""

    def __init__(self, format: InputFormat):
        super().__init__()
        self.preprocess = Preprocess(format)

    def forward(self, images: Float[Tensor, "batch 3 _ _"]) -> Float[Tensor, "batch features"]:
        raise NotImplementedError

    def features_and_maps(
        self, images: Float[Tensor, "batch 3 _ _"]
    ) -> tuple[Float[Tensor, "batch features"], Maps]:
        """The features, and the maps on the way to them; for backbones with `map_channels`."""
        raise NotImplementedError

    def pretrained_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name → shape of every tensor a pretrained file must bring: all but the `readout`, learned here."""
        state = self.state_dict()
        return {name: tuple(value.shape) for name, value in state.items() if not name.startswith("readout.")}
