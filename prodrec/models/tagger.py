"""Taggers: torchvision's detectors behind one name, one input and one output.

Every detector takes square pictures that come resized, padded and normalised already (`data.box_transforms`); torchvision's
own resizing is taken out, so that training, evaluation and serving see the same pixels. Class 0 is torchvision's background
and stays in here: label ids go in and come out counted from 0.

images_BCHW    [B, 3, S, S]  float, normalised
boxes_M4       absolute xyxy pixels of the model input
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self

from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign

from prodrec.config import ModelConfig, PreprocessSpec
from prodrec.data.objects import Objects
from prodrec.errors import ConfigError, WeightsError
from prodrec.models.weights import HUB, MEND, NONE, StateDict, misfits, read_weights

# Boxes of a smaller side in the model input are not learned from; torchvision refuses those of none. Source: assumed.
_LEAST_SIDE_PX = 1.0


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


class Tags(NamedTuple):
    """What a tagger finds on one picture, best first.

    Attributes:
        boxes_N4: float32; scores_N: float32 in 0..1; labels_N: int64, label ids.
    """

    boxes_N4: Tensor
    scores_N: Tensor
    labels_N: Tensor


class _AsGiven(nn.Module):
    """Takes the place of torchvision's GeneralizedRCNNTransform: nothing is left to resize."""

    def forward(self, images: Tensor, targets: Any = None) -> tuple[ImageList, Any]:
        return ImageList(images, [(images.shape[-2], images.shape[-1])] * len(images)), targets

    def postprocess(self, found: Any, image_shapes: Any, original_image_sizes: Any) -> Any:
        return found


class Tagger(nn.Module):
    """A torchvision detector for K labels.

    Args:
        detector: built for K + 1 classes.
        freeze_layers: the first layers of the backbone that get no gradients and stay in eval mode.
        fixed_norms: so do all norms of the backbone.

    Raises:
        ConfigError: the backbone has fewer layers.
    """

    def __init__(self, detector: Any, head: tuple[str, ...], freeze_layers: int = 0, fixed_norms: bool = False) -> None:
        super().__init__()
        detector.transform = _AsGiven()
        self.detector = detector
        for part in _deciding(detector):
            part.register_forward_hook(_as_float)
        self._head = tuple(f"detector.{prefix}" for prefix in head)
        layers = _layers(detector.backbone)
        if freeze_layers > len(layers):
            raise ConfigError(f"model.freeze_layers {freeze_layers}: the backbone has {len(layers)} layers; freeze at most these")
        self._frozen = layers[:freeze_layers]
        if fixed_norms:
            self._frozen += [module for module in detector.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
        for layer in self._frozen:
            layer.requires_grad_(False).eval()

    def losses(self, images_BCHW: Tensor, objects: Objects) -> dict[str, Tensor]:
        """The parts of the loss, each a mean over the batch; the module must be in train mode."""
        parts: dict[str, Tensor] = self.detector(images_BCHW, [_target(picture) for picture in objects.pictures()])
        return parts

    def forward(self, images_BCHW: Tensor) -> list[Tags]:
        """What is found on each picture; the module must be in eval mode."""
        return [Tags(found["boxes"].float(), found["scores"].float(), found["labels"] - 1) for found in self.detector(images_BCHW)]

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for layer in self._frozen:
            layer.eval()
        return self

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Trainable parameters that pretrained weights would fill."""
        return (p for name, p in self.named_parameters() if p.requires_grad and not name.startswith(self._head))

    def head_parameters(self) -> Iterator[nn.Parameter]:
        return (p for name, p in self.named_parameters() if p.requires_grad and name.startswith(self._head))


def create_tagger(config: ModelConfig, num_labels: int, spec: PreprocessSpec | None = None) -> Tagger:
    """Builds the detector of a recipe and gives it the weights that the recipe names.

    The head of published weights, and of a file of another number of classes, starts fresh.

    Args:
        spec: the recipe's input; None is not checked.

    Raises:
        ConfigError: an unknown architecture, arguments that it does not take, an input that is no multiple of its stride, or
            pixels scaled otherwise than its published weights were trained on.
        WeightsError: pretrained weights that cannot be had or do not fit.
    """
    if config.arch not in DETECTORS:
        raise ConfigError(f"unknown model.arch '{config.arch}' for a tagger; there are {', '.join(DETECTORS)}")
    entry = DETECTORS[config.arch]
    if spec and spec.size % entry.stride:
        raise ConfigError(f"input.size {spec.size}: {config.arch} takes multiples of {entry.stride}; set {-(-spec.size // entry.stride) * entry.stride}")
    if spec and config.weights == HUB and spec.normalize != entry.normalize:
        raise ConfigError(f"the published weights of {config.arch} were trained with input.normalize={entry.normalize}, not {spec.normalize}; set that")
    try:
        tagger = Tagger(entry.build(num_labels + 1, **config.args), entry.head, config.freeze_layers, entry.fixed_norms and config.weights != NONE)
    except TypeError as error:
        raise ConfigError(f"cannot build model.arch {config.arch} with model.args {config.args}: {error}; change one of them") from error
    if config.weights == HUB:
        _load(tagger.detector, _published(config.arch, entry), HUB, entry.head)
    elif config.weights != NONE:
        state = read_weights(config.weights)
        own = {key.removeprefix("detector."): value for key, value in state.items() if key.startswith("detector.")}
        _load(tagger.detector, own or state, config.weights, entry.head)
    return tagger


def _deciding(detector: Any) -> list[nn.Module]:
    """Whose outputs torchvision makes boxes, anchors and targets of, in their precision."""
    if hasattr(detector, "roi_heads"):
        return [detector.backbone, detector.rpn.head, detector.roi_heads.box_predictor]
    return [detector.backbone, detector.head]


def _as_float(module: nn.Module, inputs: Any, outputs: Any) -> Any:
    """In bfloat16 coordinates beyond 128 would be whole pixels, beyond 256 even ones; autocast has done its part before."""
    return tree_map(lambda value: value.float(), outputs)


def _target(picture: Objects) -> dict[str, Tensor]:
    sides_M2 = picture.boxes_M4[:, 2:] - picture.boxes_M4[:, :2]
    usable_M = (sides_M2 >= _LEAST_SIDE_PX).all(1) & ~picture.crowd_M
    return {"boxes": picture.boxes_M4[usable_M], "labels": picture.labels_M[usable_M] + 1}


def _layers(backbone: Any) -> list[nn.Module]:
    """The backbone's layers from the picture on: each has weights of a convolution; a norm belongs to what stands before it."""
    body = getattr(backbone, "body", None) or getattr(backbone, "features", backbone)
    layers: list[nn.Module] = []
    for child in body.children():
        if any(parameter.ndim > 1 for parameter in child.parameters()) or not layers:
            layers.append(child)
        else:
            layers[-1] = nn.Sequential(layers[-1], child)
    return layers


def _published(arch: str, entry: Detector) -> StateDict:
    if entry.weights is None:
        raise WeightsError(f"model.weights=hub: there are no pretrained weights of {arch}; {MEND}")
    try:
        state: StateDict = entry.weights.get_state_dict(progress=False, check_hash=True)
    except Exception as error:  # urllib, hashlib and torch each have errors of their own
        raise WeightsError(f"model.weights=hub: cannot load the pretrained weights of {arch}: {' '.join(str(error).split())}; {MEND}") from error
    return state


def _load(detector: nn.Module, state: StateDict, where: str, head: tuple[str, ...]) -> None:
    wanted = detector.state_dict()
    ours = {key for key in wanted if key.startswith(head)}
    fresh = ours if any(key in state and state[key].shape != wanted[key].shape for key in ours) or where == HUB else set()
    state = {key: value for key, value in state.items() if key not in fresh}
    if told := misfits(state, {key: value for key, value in wanted.items() if key not in fresh}):
        raise WeightsError(f"model.weights: {where} does not fit: {told}; give weights of the same architecture, or {MEND}")
    detector.load_state_dict(state, strict=False)


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
