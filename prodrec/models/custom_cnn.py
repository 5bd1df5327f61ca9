"""A small convolutional network that trains from scratch on a CPU.

images_BCHW    [B, 3, S, S]      float, normalised; any S >= 16
block 1        [B, 12, S/2, S/2]
block 2        [B, 20, S/4, S/4]
block 3        [B, 32, G, G]     the last pooling is adaptive: G is the same for every S
features_BD    [B, 32 * G * G]   D = 512 for G = 4
"""

from torch import Tensor, nn

# Source: the assignment of the first recipe (12, 20 and 32 filters).
FILTERS = (12, 20, 32)


class CustomCNN(nn.Module):
    """Three blocks of convolution, batch norm, ReLU, pooling and dropout.

    Args:
        grid: side of the pooled grid, cells. Source: assumed; 4 keeps coarse position at 512 features.
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
            _block(second, third, nn.AdaptiveAvgPool2d(grid), dropout),
        )

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Features [B, D] of normalised float images [B, 3, S, S]."""
        features_BD: Tensor = self.blocks(images_BCHW).flatten(1)
        return features_BD

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """The order of its layers, as timm's models tell it."""
        return {"blocks": r"^blocks\.(\d+)"}


def _block(channels_in: int, channels_out: int, pooling: nn.Module, dropout: float) -> nn.Sequential:
    # The batch norm that follows has a bias of its own.
    convolution = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True), pooling, nn.Dropout2d(dropout))
