"""Which part of a picture an answer rests on: a heat map by occlusion, or the quick Grad-CAM.

Occlusion (Zeiler & Fergus 2014, arXiv 1311.2901, section 4.1) is the truth about the served model, at a forward pass for each
place. Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) takes one pass forth and back, and is as coarse as the network's last
feature map. Both look at the very input that is scored.

Shapes: S side of the model input; G positions; image_CHW uint8 [3, S, S].
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from matplotlib import colormaps
from PIL import Image, ImageOps
from torch import nn

from prodrec.config import Frozen, PositiveInt
from prodrec.data.colors import to_rgb_or_grey
from prodrec.data.decode import decode_rgb, prepare_image
from prodrec.data.files import Folder
from prodrec.data.formats import image_format, open_image
from prodrec.data.transforms import PAD_GREY, input_frame, resize
from prodrec.errors import ConfigError, Reject, SourceError
from prodrec.models.bundle import Bundle
from prodrec.models.scorer import Scorer
from prodrec.scoring.show import read_image_file

Method = Literal["occlusion", "gradcam"]
OnProgress = Callable[[int, int], None]
"""(positions done, positions in all)"""

# Occluded pictures scored at once. Source: shared design page, "Occlusion heat map": 2.0 to 2.3 times as fast as one by one.
_BATCH_SIZE = 32
# Longest side of an overlay, pixels. Source: assumed; a page shows no more.
_OVERLAY_PX = 1024
# Opacity of the hottest place. Source: assumed, by eye.
_OPACITY = 0.6
_COLORS = "turbo"


class OccluderConfig(Frozen):
    """What slides over the picture.

    Attributes:
        size: side of the square occluder, pixels of the model input; None: a seventh of its side (13 x 13 places).
        stride: between places, pixels; None: half of the size.
        fill: `mean` colour of the picture, `grey`, `black` or `white`.
    """

    size: PositiveInt | None = None
    stride: PositiveInt | None = None
    fill: Literal["mean", "grey", "black", "white"] = "mean"


@dataclass(frozen=True)
class HeatMap:
    """What an answer rests on.

    Attributes:
        label, probability: of which class, and how probable the whole picture makes it.
        heat: float32 [S, S]; of occlusion the mean drop of the probability where the pixel is hidden (-1 to 1, negative where
            hiding helps), of Grad-CAM relevance from 0 to 1.
        frame: where it lies in the upright original, xyxy pixels.
        size: (width, height) of the upright original.
    """

    label: str
    probability: float
    heat: npt.NDArray[np.float32]
    frame: tuple[float, float, float, float]
    size: tuple[int, int]


def explain(
    scorer: Scorer,
    data: bytes,
    label: str | None = None,
    method: Method = "occlusion",
    occluder: OccluderConfig = OccluderConfig(),
    on_progress: OnProgress = lambda done, total: None,
) -> HeatMap:
    """The heat map of one image.

    Args:
        scorer: of a classifier.
        label: that is explained; None: the likeliest.

    Raises:
        Reject: the image cannot be used.
        ConfigError: the bundle has no such label, an occluder larger than the input, or a network without a feature map.
    """
    info = scorer.info
    made = prepare_image(data, info.short_side)
    image_CHW = resize(decode_rgb(made.jpeg), info.input)
    names = [entry.name for entry in info.labels]
    if label is not None and label not in names:
        raise ConfigError(f"the bundle has no label '{label}'; its labels are in bundle.json, such as {', '.join(names[:3])}")
    whole_K = _probabilities(scorer, image_CHW[None])[0]
    label_id = int(whole_K.argmax()) if label is None else names.index(label)
    heat = occlusion(scorer, image_CHW, label_id, occluder, on_progress) if method == "occlusion" else grad_cam(scorer, image_CHW, label_id)
    size = (made.source_width, made.source_height)
    return HeatMap(names[label_id], float(whole_K[label_id]), heat, input_frame(*size, info.input), size)


def explain_file(bundle: Bundle, image: Path, out: Path, label: str | None, method: Method, occluder: OccluderConfig, device: str) -> HeatMap:
    """Explains an image file and writes the overlay.

    Raises:
        SourceError: it cannot be read, or not used as an image.
        ConfigError: as `explain`; OutputError: the overlay cannot be written.
    """
    data = read_image_file(image)
    try:
        heat_map = explain(Scorer(bundle, torch.device(device)), data, label, method, occluder)
    except Reject as reject:
        raise SourceError(f"{image}: {reject}; give another image") from reject
    Folder(out.parent).make().write(out.name, overlay(data, heat_map))
    return heat_map


def occlusion(
    scorer: Scorer, image_CHW: torch.Tensor, label_id: int, config: OccluderConfig, on_progress: OnProgress = lambda done, total: None
) -> npt.NDArray[np.float32]:
    """Mean drop of a class's probability over the places of the occluder that hide each pixel, float32 [S, S].

    Raises:
        ConfigError: the occluder is larger than the input.
    """
    side = image_CHW.shape[-1]
    size = config.size or math.ceil(side / 7)
    if size > side:
        raise ConfigError(f"--size {size}: the model input has {side} pixels a side; give less")
    starts = [*range(0, side - size, config.stride or max(1, size // 2)), side - size]
    places = [(top, left) for top in starts for left in starts]
    fill_C11 = _fill(image_CHW, config.fill)
    whole = float(_probabilities(scorer, image_CHW[None])[0, label_id])
    drops, hidden = torch.zeros(side, side), torch.zeros(side, side)
    for first in range(0, len(places), _BATCH_SIZE):
        batch = places[first : first + _BATCH_SIZE]
        occluded_BCHW = image_CHW.repeat(len(batch), 1, 1, 1)
        for picture_CHW, (top, left) in zip(occluded_BCHW, batch, strict=True):
            picture_CHW[:, top : top + size, left : left + size] = fill_C11
        shares_B = _probabilities(scorer, occluded_BCHW)[:, label_id].tolist()
        for share, (top, left) in zip(shares_B, batch, strict=True):
            drops[top : top + size, left : left + size] += whole - share
            hidden[top : top + size, left : left + size] += 1
        on_progress(first + len(batch), len(places))
    heat: npt.NDArray[np.float32] = (drops / hidden.clamp(min=1)).numpy()
    return heat


def grad_cam(scorer: Scorer, image_CHW: torch.Tensor, label_id: int) -> npt.NDArray[np.float32]:
    """Relevance of each pixel to a class's logit, float32 [S, S], 0 to 1.

    The feature map is the last one before pooling; of a vision transformer the tokens that its last block takes, as what comes
    out of it beside the class token is not used. Where the answer is a mean with that to the mirrored image, so is the map.

    Raises:
        ConfigError: the network has no feature map.
    """
    inputs_BCHW = scorer.normalizer(image_CHW[None].to(scorer.device)).contiguous(memory_format=torch.channels_last)
    cam_HW = _relevance(scorer.model, inputs_BCHW, label_id)
    if scorer.info.input.flip:
        cam_HW = cam_HW + _relevance(scorer.model, inputs_BCHW.detach().flip(-1), label_id).flip(-1)
    heat_SS = nn.functional.interpolate(cam_HW[None, None], size=image_CHW.shape[-2:], mode="bilinear")[0, 0]
    heat: npt.NDArray[np.float32] = (heat_SS / heat_SS.max().clamp(min=1e-12)).cpu().numpy()
    return heat


def overlay(data: bytes, heat_map: HeatMap) -> bytes:
    """The upright picture with its heat over it, as PNG of at most 1,024 px a side. What hiding helps stays as it is."""
    with open_image(data, image_format(data)) as image:
        picture = to_rgb_or_grey(ImageOps.exif_transpose(image)).convert("RGB")
    scale = min(1.0, _OVERLAY_PX / max(picture.size))
    picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    strength = np.clip(heat_map.heat / max(float(heat_map.heat.max()), 1e-12), 0, 1)
    left, top, right, bottom = (round(edge * scale) for edge in heat_map.frame)
    placed = Image.new("F", picture.size)
    placed.paste(Image.fromarray(strength.astype(np.float32)).resize((max(1, right - left), max(1, bottom - top)), Image.Resampling.BILINEAR), (left, top))
    share_HW = np.asarray(placed)
    colors_HWC = colormaps[_COLORS](share_HW)[..., :3] * 255
    opacity_HW1 = (_OPACITY * share_HW)[..., None]
    mixed = np.asarray(picture) * (1 - opacity_HW1) + colors_HWC * opacity_HW1
    out = io.BytesIO()
    Image.fromarray(mixed.round().astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def _probabilities(scorer: Scorer, images_BCHW: torch.Tensor) -> torch.Tensor:
    """Calibrated, [B, K], on the CPU."""
    probabilities_BK: torch.Tensor = (scorer(images_BCHW) / scorer.info.temperature).softmax(1).cpu()
    return probabilities_BK


def _fill(image_CHW: torch.Tensor, fill: str) -> torch.Tensor:
    if fill == "mean":
        return image_CHW.float().mean((1, 2)).round().to(torch.uint8)[:, None, None]
    return torch.full((3, 1, 1), {"grey": PAD_GREY, "black": 0, "white": 255}[fill], dtype=torch.uint8)


def _relevance(model: Any, inputs_BCHW: torch.Tensor, label_id: int) -> torch.Tensor:
    """Of each cell of the feature map of one forward pass, [H, W] >= 0."""
    features, logit = _last_features(model, inputs_BCHW, label_id)
    maps_CHW, slopes_CHW = (_as_map(values.detach().float(), model.backbone) for values in (features, torch.autograd.grad(logit, features)[0]))
    return (slopes_CHW.mean((1, 2))[:, None, None] * maps_CHW).sum(0).relu()


def _last_features(model: Any, inputs_BCHW: torch.Tensor, label_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The feature map of a forward pass, and the logit that came of it."""
    found: list[torch.Tensor] = []

    def keep(_module: nn.Module, values: Any) -> None:
        value = values[0] if isinstance(values, tuple) else values
        if isinstance(value, torch.Tensor) and value.requires_grad and (value.ndim == 3 or (value.ndim == 4 and min(value.shape[-2:]) > 1)):
            found.append(value)

    if hasattr(model.backbone, "num_prefix_tokens"):
        hooks = [model.backbone.blocks[-1].register_forward_pre_hook(keep)]
    else:
        skipped = nn.Dropout2d | nn.Flatten | nn.AdaptiveAvgPool2d | nn.AvgPool2d | nn.MaxPool2d
        hooks = [
            module.register_forward_hook(lambda module, _inputs, output: keep(module, output))
            for module in model.backbone.modules()
            if not isinstance(module, skipped) and module is not model.backbone and not list(module.children())
        ]
    try:
        with torch.enable_grad():
            logits_BK = model(inputs_BCHW.requires_grad_())
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise ConfigError("the network has no feature map that Grad-CAM could read; use --method occlusion")
    return found[-1], logits_BK[0, label_id].float()


def _as_map(values: torch.Tensor, backbone: Any) -> torch.Tensor:
    """[C, H, W] of a feature map [1, C, H, W], or of tokens [1, N, C] on a square grid behind the prefix tokens."""
    if values.ndim == 4:
        return values[0]
    tokens_NC = values[0, backbone.num_prefix_tokens :]
    side = math.isqrt(len(tokens_NC))
    return tokens_NC[: side * side].T.reshape(-1, side, side)
