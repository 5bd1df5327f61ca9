"""Taggers: torchvision's detectors behind one name, one input and one output.

Every detector takes square pictures that come resized, padded and normalised already (`data.box_transforms`); torchvision's
own resizing is taken out, so that training, evaluation and serving see the same pixels. Class 0 is torchvision's background
and stays in here: label ids go in and come out counted from 0.

images_BCHW    [B, 3, S, S]  float, normalised
boxes_M4       absolute xyxy pixels of the model input
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Self

from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torchvision.models.detection.image_list import ImageList

from prodrec.config import ModelConfig, PreprocessSpec
from prodrec.errors import ConfigError, WeightsError
from prodrec.images.objects import Objects
from prodrec.models.detectors import DETECTORS, Detector
from prodrec.models.weights import HUB, MEND, NONE, StateDict, misfits, read_weights

# Boxes of a smaller side in the model input are not learned from; torchvision refuses those of none. Source: assumed.
_LEAST_SIDE_PX = 1.0


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
