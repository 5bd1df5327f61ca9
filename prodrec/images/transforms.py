"""From a prepared image to a model input: uint8 all the way to the device, normalised there.

Shapes: image_CHW and images_BCHW are uint8 RGB in 0..255; S is `PreprocessSpec.size`.
"""

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from prodrec.config import AugmentConfig, PreprocessSpec
from prodrec.images.augment import POLICIES, erase, random_resized_crop

# Source: ImageNet channel statistics as in torchvision's and timm's weights.
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Preset to (mean, standard deviation) by channel, of pixels in 0..1.
NORMALIZATIONS = {
    "zero_one": ((0.0,) * 3, (1.0,) * 3),
    "minus_one_one": ((0.5,) * 3, (0.5,) * 3),
    "imagenet": (_IMAGENET_MEAN, _IMAGENET_STD),
    # Source: Radford et al. 2021, github.com/openai/CLIP (clip.py, _transform); timm's OPENAI_CLIP_MEAN and OPENAI_CLIP_STD.
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}
PAD_GREY = 128
# A longer picture is cut to this many times its short side before `crop` scales it: of a strip of 65,500 x 1 px that would be
# gigabytes, most of which the crop throws away. Source: assumed.
_MOST_ASPECT = 8


def resize(image_CHW: torch.Tensor, spec: PreprocessSpec) -> torch.Tensor:
    """The evaluation transform: [3, H, W] to [3, S, S], antialiased; part of the bundle through `spec`."""
    size, how = spec.size, InterpolationMode(spec.interpolation)
    if spec.resize == "squash":
        return F.resize(image_CHW, [size, size], how, antialias=True)
    height, width = image_CHW.shape[-2:]
    if spec.resize == "crop":
        if max(height, width) > _MOST_ASPECT * min(height, width):
            most = _MOST_ASPECT * min(height, width)
            image_CHW = F.center_crop(image_CHW, [min(height, most), min(width, most)])
            height, width = image_CHW.shape[-2:]
        scale = size / spec.crop_fraction / min(height, width)
        scaled = F.resize(image_CHW, [max(size, round(height * scale)), max(size, round(width * scale))], how, antialias=True)
        return F.center_crop(scaled, [size, size])
    scale = size / max(height, width)
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    scaled = F.resize(image_CHW, [new_height, new_width], how, antialias=True)
    left, top = (size - new_width) // 2, (size - new_height) // 2
    return F.pad(scaled, [left, top, size - new_width - left, size - new_height - top], fill=PAD_GREY)


def input_frame(width: int, height: int, spec: PreprocessSpec) -> tuple[float, float, float, float]:
    """Where the model input lies in a picture, xyxy in its pixels: within it for `crop`, beyond its edges for `pad`."""
    if spec.resize == "squash":
        return 0.0, 0.0, float(width), float(height)
    side = min(width, height) * spec.crop_fraction if spec.resize == "crop" else max(width, height)
    return (width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2


def augment(image_CHW: torch.Tensor, spec: PreprocessSpec, config: AugmentConfig, rng: np.random.Generator) -> torch.Tensor:
    """The training transform: [3, H, W] to [3, S, S]. All randomness comes from `rng`, so any thread or machine can replay it."""
    if config.policy == "none":
        return resize(image_CHW, spec)
    crops = config.min_crop_area < 1
    image_CHW = random_resized_crop(image_CHW, spec, config.min_crop_area, rng) if crops else resize(image_CHW, spec)
    if rng.random() < config.flip:
        image_CHW = F.horizontal_flip(image_CHW)
    image_CHW = POLICIES[config.policy](image_CHW, rng)
    if config.policy in {"trivial", "heavy"} and rng.random() < config.erase:
        image_CHW = erase(image_CHW, rng)
    return image_CHW


class Normalizer(torch.nn.Module):
    """uint8 [B, 3, S, S] to float32 of the preset `spec.normalize`, on the device of the module."""

    def __init__(self, spec: PreprocessSpec) -> None:
        super().__init__()
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in NORMALIZATIONS[spec.normalize])
        # x/255 and (x - mean)/std folded into one multiplication and one subtraction.
        self.scale, self.shift = torch.nn.Buffer(1 / (255 * std)), torch.nn.Buffer(mean / std)

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        return images_BCHW.float() * self.scale - self.shift
