"""The encoder: a convolutional backbone followed by the layer that predicts the code."""

from jaxtyping import Float
from torch import Tensor, nn

from mofaface.code import Code
from mofaface.encoders.backbone import Backbone
from mofaface.encoders.head import CodeHead


class Encoder(nn.Module):
    """Crops, RGB in [0,1] → Code."""

    def __init__(self, backbone: Backbone, head: CodeHead):
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Float[Tensor, "batch 3 240 240"]) -> Code:
        return self.head(self.backbone(images))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """All parameters: "z" predict the z-translation alone, "backbone" may be pretrained, "rest" are new."""
        groups: dict[str, list[nn.Parameter]] = {"z": [], "backbone": [], "rest": []}
        pretrained = self.backbone.pretrained_shapes()
        for name, parameter in self.named_parameters():
            known = name.removeprefix("backbone.") in pretrained
            groups["z" if name.startswith("head.z.") else "backbone" if known else "rest"].append(parameter)
        return groups
