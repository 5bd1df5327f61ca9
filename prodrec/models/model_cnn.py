"""The plain convolutional network of the textbooks, from scratch: a baseline that every other architecture has to beat.

images_BCHW    [B, 3, S, S]      float, normalised; any S >= 16
block 1        [B, 32, S/2, S/2]
block 2        [B, 64, S/4, S/4]
block 3        [B, 128, G, G]    the last pooling is adaptive: G is the same for every S
features_BD    [B, 128 * G * G]  D = 2048 for G = 4

The two fully connected layers are the head (`model.head: relu`), so that they grow with the labels like every other head.
"""

from torch import Tensor, nn

# Source: assumed; doubling from 32, as in Simonyan & Zisserman 2015 (arXiv 1409.1556) from 64.
FILTERS = (32, 64, 128)


class ModelCNN(nn.Module):
    """Three blocks of convolution, ReLU, max pooling and dropout; no normalisation layers.

    Args:
        grid: side of the pooled grid, cells. Source: assumed, as of custom_cnn.
        dropout: share of the channels that each block drops while training. Source: assumed.

    Raises:
        ValueError: `grid` or `dropout` out of range.
    """

    def __init__(self, grid: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        if grid < 1:
            raise ValueError(f"grid {grid} is under 1")
        first, second, third = FILTERS
        self.blocks = nn.Sequential(
            _block(3, first, nn.MaxPool2d(2), dropout),
            _block(first, second, nn.MaxPool2d(2), dropout),
            _block(second, third, nn.AdaptiveMaxPool2d(grid), dropout),
        )

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Features [B, D] of normalised float images [B, 3, S, S]."""
        features_BD: Tensor = self.blocks(images_BCHW).flatten(1)
        return features_BD

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """The order of its layers, as timm's models tell it."""
        return {"blocks": r"^blocks\.(\d+)"}


def _block(channels_in: int, channels_out: int, pooling: nn.Module, dropout: float) -> nn.Sequential:
    convolution = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1)
    # Without normalisation layers the scale of the signal rests on the first weights. Source: He et al. 2015, arXiv 1502.01852.
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return nn.Sequential(convolution, nn.ReLU(inplace=True), pooling, nn.Dropout2d(dropout))
