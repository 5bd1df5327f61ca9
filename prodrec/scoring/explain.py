"""Which part of a picture an answer rests on: a heat map by occlusion, by the quick Grad-CAM, or of a network's own attention.

Occlusion (Zeiler & Fergus 2014, arXiv 1311.2901, section 4.1) is the truth about the served model, at a forward pass for each
place. Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) takes one pass forth and back, and is as coarse as the network's last
feature map. Attention (CBAM, Woo et al. 2018, arXiv 1807.06521) tells where a network with spatial attention looks, whatever the
product. All look at the very input that is scored.
"""

from pathlib import Path
from typing import Literal, get_args

import torch

from prodrec.errors import ConfigError, Reject, SourceError
from prodrec.files import Folder
from prodrec.images.decode import decode_rgb, prepare_image
from prodrec.images.formats import ImageLimits
from prodrec.images.transforms import input_frame, resize
from prodrec.models.bundle import Bundle
from prodrec.models.scorer import Scorer
from prodrec.scoring.feature_maps import attention, grad_cam
from prodrec.scoring.heat_map import HeatMap, overlay
from prodrec.scoring.occlusion import OccluderConfig, OnProgress, occlusion, probabilities
from prodrec.scoring.show import read_image_file

Method = Literal["occlusion", "gradcam", "attention"]
METHODS: tuple[Method, ...] = get_args(Method)


def explain(
    scorer: Scorer,
    data: bytes,
    label: str | None = None,
    method: Method = "occlusion",
    occluder: OccluderConfig = OccluderConfig(),
    on_progress: OnProgress = lambda done, total: None,
    limits: ImageLimits = ImageLimits(),
) -> HeatMap:
    """The heat map of one image.

    Args:
        scorer: of a classifier.
        label: that is explained; None: the likeliest.

    Raises:
        Reject: the image cannot be used.
        ConfigError: the bundle has no such label, an occluder larger than the input, or a network without what `method` reads.
    """
    info = scorer.info
    made = prepare_image(data, info.short_side, limits)
    image_CHW = resize(decode_rgb(made.jpeg), info.input)
    names = [entry.name for entry in info.labels]
    if label is not None and label not in names:
        raise ConfigError(f"the bundle has no label '{label}'; its labels are in bundle.json, such as {', '.join(entry.shown for entry in info.labels[:3])}")
    whole_K = probabilities(scorer, image_CHW[None])[0]
    label_id = int(whole_K.argmax()) if label is None else names.index(label)
    if method == "occlusion":
        heat = occlusion(scorer, image_CHW, label_id, occluder, on_progress)
    else:
        heat = attention(scorer, image_CHW) if method == "attention" else grad_cam(scorer, image_CHW, label_id)
    size = (made.source_width, made.source_height)
    return HeatMap(names[label_id], float(whole_K[label_id]), heat, input_frame(*size, info.input), size, info.labels[label_id].title)


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
