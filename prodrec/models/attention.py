"""A residual network with channel and spatial attention, for logos and labels: small things that decide, on busy pictures.

Source: CBAM, Woo et al. 2018 (arXiv 1807.06521): channel attention first, then spatial (table 3), in the residual branch before
the sum (figure 3). Stem and shortcuts: ResNet-D, He et al. 2019 (arXiv 1812.01187), which small inputs need (docs/log.md 2026-11-21).

images_BCHW    [B, 3, S, S]        float, normalised; any S >= 16
stem           [B, 32, S/2, S/2]
stage 1        [B, 64, S/4, S/4]
stage 2        [B, 128, S/8, S/8]
stage 3        [B, 256, S/16, S/16]
features_BD    [B, 256]
"""

import torch
from torch import Tensor, nn

STEM = 32
# Channels and blocks of the stages. Source: assumed; about a ResNet-14 at half of ResNet-18's width at the end.
WIDTHS, DEPTHS = (64, 128, 256), (1, 2, 2)
# Source: Woo et al. 2018, sections 3.1 (r = 16) and 3.2 (7 x 7, better than 3 x 3 in table 2). The bottleneck of the narrow
# stages never falls under 8 channels. Source: assumed.
REDUCTION, LEAST_BOTTLENECK, SPATIAL_KERNEL = 16, 8, 7


class ChannelAttention(nn.Module):
    """What to look at: a weight for each channel, of its mean and its maximum over the picture.

    gates = sigmoid(MLP(mean) + MLP(max))
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = max(LEAST_BOTTLENECK, channels // REDUCTION)
        self.mlp = nn.Sequential(nn.Conv2d(channels, narrow, 1, bias=False), nn.ReLU(inplace=True), nn.Conv2d(narrow, channels, 1, bias=False))

    def forward(self, features_BCHW: Tensor) -> Tensor:
        """Gates [B, C, 1, 1], 0 to 1."""
        mean_BC11, most_BC11 = features_BCHW.mean((2, 3), keepdim=True), features_BCHW.amax((2, 3), keepdim=True)
        return torch.sigmoid(self.mlp(mean_BC11) + self.mlp(most_BC11))


class SpatialAttention(nn.Module):
    """Where to look: a weight for each place, of the mean and the maximum over the channels.

    gates = sigmoid(BN(conv7x7([mean; max])))
    """

    def __init__(self) -> None:
        super().__init__()
        # The batch norm is in the authors' code (github.com/Jongchan/attention-module), not in the paper.
        self.gate = nn.Sequential(nn.Conv2d(2, 1, SPATIAL_KERNEL, padding=SPATIAL_KERNEL // 2, bias=False), nn.BatchNorm2d(1))

    def forward(self, features_BCHW: Tensor) -> Tensor:
        """Gates [B, 1, H, W], 0 to 1."""
        pooled_B2HW = torch.cat([features_BCHW.mean(1, keepdim=True), features_BCHW.amax(1, keepdim=True)], 1)
        return torch.sigmoid(self.gate(pooled_B2HW))


class AttentionBlock(nn.Module):
    """Two convolutions, channel attention, spatial attention, and the sum with the shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_convolution(channels_in, channels, stride), nn.ReLU(inplace=True), *_convolution(channels, channels))
        self.channel, self.spatial = ChannelAttention(channels), SpatialAttention()
        self.shortcut = nn.Sequential()
        if stride > 1 or channels_in != channels:
            self.shortcut = nn.Sequential(nn.AvgPool2d(stride, ceil_mode=True), *_convolution(channels_in, channels, kernel=1))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """The block's output, and the spatial gates [B, 1, H, W] that it took."""
        found_BCHW = self.body(features_BCHW)
        found_BCHW = found_BCHW * self.channel(found_BCHW)
        gates_B1HW = self.spatial(found_BCHW)
        return self.relu(found_BCHW * gates_B1HW + self.shortcut(features_BCHW)), gates_B1HW


class AttentionCNN(nn.Module):
    """Three stages of blocks with attention.

    Args:
        dropout: share of the channels dropped behind each stage while training. Source: assumed.

    Raises:
        ValueError: `dropout` out of range.
    """

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_convolution(3, STEM, 2), nn.ReLU(inplace=True), *_convolution(STEM, STEM), nn.ReLU(inplace=True))
        widths_in = (STEM, *WIDTHS[:-1])
        self.stages = nn.ModuleList(
            nn.ModuleList(AttentionBlock(width_in if number == 0 else width, width, 2 if number == 0 else 1) for number in range(depth))
            for width_in, width, depth in zip(widths_in, WIDTHS, DEPTHS, strict=True)
        )
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Features [B, D] of normalised float images [B, 3, S, S]."""
        features_BD: Tensor = self._run(images_BCHW)[0].mean((2, 3))
        return features_BD

    def attention_map(self, images_BCHW: Tensor) -> Tensor:
        """Where the last block looks, [B, S/16, S/16], 0 to 1: its spatial gates. They hold for all classes alike."""
        return self._run(images_BCHW)[1][:, 0]

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """The order of its layers, as timm's models tell it."""
        return {"stem": r"^stem", "stages": r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.(\d+)"}

    def _run(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        features_BCHW, gates_B1HW = self.stem(images_BCHW), images_BCHW.new_empty(0)
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]  # a ModuleList, which mypy takes for any Module
                features_BCHW, gates_B1HW = block(features_BCHW)
            features_BCHW = self.dropout(features_BCHW)
        return features_BCHW, gates_B1HW


def _convolution(channels_in: int, channels: int, stride: int = 1, kernel: int = 3) -> list[nn.Module]:
    return [nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(channels)]
