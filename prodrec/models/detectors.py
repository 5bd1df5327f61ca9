"""The detectors that a tagger can be built on: torchvision's, and a tiny one of its parts.

images_BCHW    [B, 3, S, S]  float, normalised
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign


class Detector(NamedTuple):
    """How an architecture is built, and where its parts are.

    Attributes:
        build: number of classes (with background) and the architecture's arguments to a torchvision detector without weights.
        weights: torchvision's published ones, None where there are none.
        losses: names of the parts of its loss.
        head: prefixes of the tensors whose shape depends on the number of classes.
        normalize: how the pixels were scaled that the published weights were trained on.
        stride: that the input's side must be a multiple of: anchors are laid out by it.
        fixed_norms: its weights were published with batch norms that do not learn; with weights they stay so.
    """

    build: Callable[..., nn.Module]
    weights: Any
    losses: tuple[str, ...]
    head: tuple[str, ...]
    normalize: str = "imagenet"
    stride: int = 32
    fixed_norms: bool = False


class TinyBackbone(nn.Module):
    """Six convolutions at stride 8; each coarser level halves that again, and its view is added on the way back up.

    images_BCHW [B, 3, S, S] to features [B, 128, S/8, S/8]. Source of the way back up: Lin et al. 2017 (arXiv 1612.03144).
    """

    out_channels = 128

    def __init__(self, coarse_levels: int) -> None:
        super().__init__()
        widths, strides = (3, 32, 64, 64, 128, 128, 128), (2, 2, 1, 2, 1, 1)
        self.body = nn.Sequential(*(_convolution(*shape) for shape in zip(widths[:-1], widths[1:], strides, strict=True)))
        self.coarse = nn.ModuleList(nn.Sequential(_convolution(128, 128, 2), _convolution(128, 128, 1)) for _ in range(coarse_levels))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        levels = [self.body(images_BCHW)]
        for deeper in self.coarse:
            levels.append(deeper(levels[-1]))
        view: Tensor = levels.pop()
        while levels:
            finer = levels.pop()
            view = finer + nn.functional.interpolate(view, size=finer.shape[-2:])
        return view


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _tiny(num_classes: int, min_anchor: int = 12, coarse_levels: int = 2, **args: Any) -> nn.Module:
    """Faster R-CNN on six convolutions at stride 8: learns a few products from scratch in minutes on two cores.

    Source: the first sketch of this recipe (widths, anchors, proposals, pooling, head), docs/log.md 2026-11-21.
    """
    backbone: Any = TinyBackbone(coarse_levels)
    channels = backbone.out_channels
    anchors = AnchorGenerator((tuple(round(min_anchor * factor) for factor in (1, 2, 4, 8, 13.4)),), ((0.5, 1.0, 2.0),))
    pooled = 5
    if strangers := sorted(args.keys() - _RCNN_ARGS):
        raise TypeError(f"unknown argument '{strangers[0]}'; there are coarse_levels, min_anchor, {', '.join(sorted(_RCNN_ARGS))}")
    # 128 regions a picture instead of 512: the backward of RoI align was half of a step on a CPU. Source: docs/log.md 2026-11-21.
    settings = {"box_batch_size_per_image": 128, "rpn_pre_nms_top_n_train": 600, "rpn_pre_nms_top_n_test": 600}
    settings |= {"rpn_post_nms_top_n_train": 300, "rpn_post_nms_top_n_test": 150}
    return detection.FasterRCNN(
        backbone,
        rpn_anchor_generator=anchors,
        box_roi_pool=MultiScaleRoIAlign(["0"], pooled, 2),
        box_head=TwoMLPHead(channels * pooled**2, 128),
        box_predictor=FastRCNNPredictor(128, num_classes),
        **(settings | args),
    )


def _torchvision(name: str) -> Callable[..., nn.Module]:
    def build(num_classes: int, **args: Any) -> nn.Module:
        module: nn.Module = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=num_classes, **args)
        return module

    return build


# torchvision passes what it does not know on to its resizing and drops it there without a word.
_RCNN_ARGS = {name for name in inspect.signature(detection.FasterRCNN).parameters if name.startswith(("rpn_", "box_"))}
_RCNN_LOSSES = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")
_RCNN_HEAD = ("roi_heads.box_predictor.",)
DETECTORS: dict[str, Detector] = {
    "fasterrcnn_resnet50_fpn_v2": Detector(
        _torchvision("fasterrcnn_resnet50_fpn_v2"), detection.FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1, _RCNN_LOSSES, _RCNN_HEAD
    ),
    "fasterrcnn_mobilenet_v3_large_320_fpn": Detector(
        _torchvision("fasterrcnn_mobilenet_v3_large_320_fpn"),
        detection.FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1,
        _RCNN_LOSSES,
        _RCNN_HEAD,
        fixed_norms=True,
    ),
    "fasterrcnn_tiny": Detector(_tiny, None, _RCNN_LOSSES, _RCNN_HEAD, stride=8),
    "retinanet_resnet50_fpn_v2": Detector(
        _torchvision("retinanet_resnet50_fpn_v2"),
        detection.RetinaNet_ResNet50_FPN_V2_Weights.COCO_V1,
        ("classification", "bbox_regression"),
        ("head.classification_head.cls_logits.",),
    ),
    "fcos_resnet50_fpn": Detector(
        _torchvision("fcos_resnet50_fpn"),
        detection.FCOS_ResNet50_FPN_Weights.COCO_V1,
        ("classification", "bbox_regression", "bbox_ctrness"),
        ("head.classification_head.cls_logits.",),
        fixed_norms=True,
    ),
    "ssdlite320_mobilenet_v3_large": Detector(
        _torchvision("ssdlite320_mobilenet_v3_large"),
        detection.SSDLite320_MobileNet_V3_Large_Weights.COCO_V1,
        ("bbox_regression", "classification"),
        ("head.classification_head.",),
        "minus_one_one",
    ),
}
