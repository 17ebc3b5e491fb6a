"""The encoder: a convolutional backbone, the layer that predicts the code, and feedback that corrects it."""

from jaxtyping import Float
from torch import Tensor, nn

from mofaface.code import Code
from mofaface.encoders.backbone import Backbone, Maps
from mofaface.encoders.evidence import readings_of
from mofaface.encoders.feedback import Feedback
from mofaface.encoders.head import CodeHead


class Encoder(nn.Module):
    """Crops, RGB in [0,1] → Code."""

    def __init__(self, backbone: Backbone, head: CodeHead, feedback: Feedback | None = None, rounds: int = 0):
        """With `feedback` the answer is corrected in so many rounds; the backbone has to have maps."""
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.feedback = feedback
        self.rounds = rounds

    def forward(self, images: Float[Tensor, "batch 3 240 240"]) -> Code:
        return self.answers(images)[-1]

    def answers(self, images: Float[Tensor, "batch 3 240 240"]) -> list[Code]:
        """The first answer, and the one after each round of feedback."""
        if self.feedback is None:
            return [self.head(self.backbone(images))]
        features, maps = self.backbone.features_and_maps(images)
        return self.corrected(images, self.head(features), maps)

    def corrected(self, images: Float[Tensor, "batch 3 240 240"], code: Code, maps: Maps) -> list[Code]:
        """The first answer, and the one after each round of feedback, given what the backbone made of the crops."""
        if self.feedback is None:
            return [code]
        layout, readings = self.head.layout, readings_of(images)
        packed = [layout.pack(code)]
        for _ in range(self.rounds):
            packed.append(self.feedback(readings, packed[-1], maps))
        return [layout.unpack(one) for one in packed]

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """All parameters: "z" predict the z-translation alone, "backbone" may be pretrained, "feedback" correct the
        answer, "rest" are new."""
        groups: dict[str, list[nn.Parameter]] = {"z": [], "backbone": [], "feedback": [], "rest": []}
        pretrained = self.backbone.pretrained_shapes()
        for name, parameter in self.named_parameters():
            if name.removeprefix("backbone.") in pretrained:
                group = "backbone"
            elif name.startswith("feedback."):
                group = "feedback"
            else:
                group = "z" if name.startswith("head.z.") else "rest"
            groups[group].append(parameter)
        return groups
