"""Reading an image between its pixels."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample


def sample_bilinear(
    image: Float[Tensor, "batch channels height width"], uv: Float[Tensor, "batch points 2"]
) -> Float[Tensor, "batch points channels"]:
    """Colours of the image at places uv (pixels; (0, 0) is the corner, pixel centres at +0.5).

    Outside the outermost pixel centres the border's colour goes on, and the place has no gradient. A place that is
    no number gives a colour that is none.
    """
    height, width = image.shape[-2:]
    # grid_sample without align_corners has exactly our convention, scaled to [−1, 1].
    grid = uv / uv.new_tensor((width / 2, height / 2)) - 1
    # Its gradient at NaN writes outside its memory on the CPU: such places are moved, and get their NaN after.
    nowhere = grid.isnan().any(-1, keepdim=True)
    grid = grid.masked_fill(nowhere, 0)
    values = grid_sample(image, grid[:, None], mode="bilinear", padding_mode="border", align_corners=False)
    return values[:, :, 0].mT.masked_fill(nowhere, float("nan"))
