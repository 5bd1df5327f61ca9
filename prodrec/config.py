"""Recipes: one complete training run as data.

Models are frozen and refuse unknown keys. Reading them from YAML and `--set` is `prodrec.recipes`.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(ge=1)]
# Of prepared images where nothing else is asked for. Source: assumed; leaves room for crops in inputs of 224 to 256 px.
SHORT_SIDE_PX = 320
PositiveFloat = Annotated[float, Field(gt=0)]


class Frozen(BaseModel):
    """Base of every configuration and manifest model: immutable, unknown keys raise."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PreprocessSpec(Frozen):
    """How an image becomes a model input at evaluation and serving time; part of the bundle.

    Attributes:
        size: side of the square model input, pixels.
        resize: `squash` scales both sides to `size` whatever the aspect; `crop` scales the short side to
            `size / crop_fraction` and takes the centre; `pad` scales the long side to `size` and pads with grey.
        crop_fraction: share of the short side kept by `crop`. Source: timm's `crop_pct` default 0.875.
        normalize: `zero_one` x/255; `minus_one_one` x/127.5-1; `imagenet` (x/255-mean)/std.
    """

    size: Annotated[int, Field(ge=16, le=2048)] = 224
    resize: Literal["squash", "crop", "pad"] = "squash"
    crop_fraction: Annotated[float, Field(gt=0, le=1)] = 0.875
    normalize: Literal["zero_one", "minus_one_one", "imagenet"] = "imagenet"


class ModelConfig(Frozen):
    """Which architecture, from which weights.

    Attributes:
        arch: a name of `prodrec.models.registry` or any timm model name.
        weights: `hub` (pretrained, downloaded), `none` (random), the path of a .safetensors or .pth file, or the folder of a
            bundle, whose labels then stay and whose head grows by the new ones.
        head: `linear`, or `mlp` (2048-512-64-K with ReLU).
        dropout: before the head.
        freeze_backbone: train the head only; batch-norm statistics of the backbone stay fixed too. Classifiers only.
        freeze_layers: as many layers of the backbone, from the picture on, stay as they are. Taggers only.
        args: keyword arguments of the architecture.
    """

    arch: str
    weights: str = "hub"
    head: Literal["linear", "mlp"] = "linear"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    freeze_backbone: bool = False
    freeze_layers: Annotated[int, Field(ge=0)] = 0
    args: dict[str, Any] = {}


class AugmentConfig(Frozen):
    """Random changes of training images.

    Attributes:
        policy: `none`, `light`, `trivial` (TrivialAugmentWide + random erasing) or `heavy`.
        min_crop_area: smallest share of the picture's area that the random resized crop keeps; 1 switches cropping off.
        flip: probability of a horizontal flip (0 where products carry writing that matters).
        erase: probability of random erasing; used by `trivial` and `heavy`.
        mix: share of the steps whose images are mixed: for a classifier half by MixUp, half by CutMix; for a tagger by mosaic,
            four pictures as tiles of one.
        zoom_out: smallest share of the input's side that a picture is scaled to; taggers only.
    """

    policy: Literal["none", "light", "trivial", "heavy"] = "light"
    min_crop_area: Annotated[float, Field(gt=0, le=1)] = 0.5
    flip: Fraction = 0.5
    erase: Fraction = 0.25
    mix: Fraction = 0.0
    zoom_out: Annotated[float, Field(gt=0, le=1)] = 1.0


class BalanceConfig(Frozen):
    """What is done about long-tailed classes.

    Attributes:
        class_weights: weights of the loss: `none`, `inverse` frequency, or `effective` number of samples.
        beta: of `effective`. Source: Cui et al. 2019 (arXiv 1901.05555), best values 0.9-0.9999 by data set.
        sampling: `none`, `over` (repeat factors) or `under`.
        threshold: class frequency below which `over` repeats. Source: Gupta et al. 2019 (LVIS, arXiv 1908.03195).
        max_ratio: `under` keeps at most this many times the images of the median class.
    """

    class_weights: Literal["none", "inverse", "effective"] = "none"
    beta: Annotated[float, Field(ge=0, lt=1)] = 0.999
    sampling: Literal["none", "over", "under"] = "none"
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.001
    max_ratio: Annotated[float, Field(ge=1)] = 3.0


class OptimConfig(Frozen):
    """Optimiser and schedule: linear warm-up, then cosine to `final_lr_fraction`.

    Attributes:
        lr: peak learning rate for the whole global batch (not scaled by the number of workers).
        backbone_lr_fraction: the pretrained backbone's learning rate as a share of `lr`.
        weight_decay: not applied to biases and normalisation parameters.
    """

    name: Literal["sgd", "adamw"] = "adamw"
    lr: PositiveFloat = 1e-3
    backbone_lr_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    warmup_epochs: Annotated[float, Field(ge=0)] = 1.0
    final_lr_fraction: Fraction = 0.01
    clip_norm: PositiveFloat | None = 1.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1


class TagsConfig(Frozen):
    """Which of the boxes that a tagger finds become tags.

    Attributes:
        target_precision: the score threshold of each label is the lowest with at least this share of true boxes on val.
        threshold: score threshold where there is no val to choose by.
    """

    target_precision: Fraction = 0.9
    threshold: Fraction = 0.5


class EarlyStopConfig(Frozen):
    """Stop after `patience` epochs without a better `metric` on `val`."""

    metric: Literal["val_top1", "val_top5", "val_loss", "val_ap50", "val_map"] = "val_top1"
    patience: PositiveInt | None = None


class TrainConfig(Frozen):
    """The loop.

    Attributes:
        batch_size: images of one optimiser step over all workers together.
        precision: `bf16` autocast or `fp32`.
        ema_decay: decay by step of an exponential moving average of the weights that is validated and kept; 0 is off.
        keep_checkpoints: the best this many (and the latest) stay on disk.
    """

    epochs: PositiveInt = 30
    batch_size: Annotated[int, Field(ge=2)] = 128
    seed: int = 0
    precision: Literal["bf16", "fp32"] = "bf16"
    channels_last: bool = True
    compile: bool = False
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    early_stop: EarlyStopConfig = EarlyStopConfig()
    keep_checkpoints: PositiveInt = 2


class DataConfig(Frozen):
    """How shards are read.

    Attributes:
        lanes: parallel streams that every global batch is made of; worker counts that divide it see the same batches.
            None: one a worker.
        window_row_groups: row groups shuffled together (about 256 images each).
        decode: `worker` decodes and augments in threads beside the training process; `stream` does it in Ray Data
            tasks anywhere on the cluster (for GPU machines with few cores).
        threads: decoding threads of each worker; None: the cores it may use.
        limit: use at most this many images, the splits in proportion; None: all.
    """

    lanes: PositiveInt | None = None
    window_row_groups: PositiveInt = 16
    decode: Literal["worker", "stream"] = "worker"
    threads: PositiveInt | None = None
    limit: PositiveInt | None = None


class TrackingConfig(Frozen):
    """Where a run is told of beside its own folder; no part of what the run is.

    Attributes:
        mlflow: tracking URI of MLflow, such as http://host:5000 or sqlite:////data/mlflow.db; None: nowhere.
        experiment: its name there; made where there is none.
    """

    mlflow: str | None = None
    experiment: Annotated[str, Field(min_length=1)] = "prodrec"


_METRICS = {"classifier": ("val_top1", "val_top5", "val_loss"), "tagger": ("val_ap50", "val_map", "val_loss")}
# Fields by section that the other kind uses.
_FOREIGN: dict[str, dict[str, tuple[str, ...]]] = {
    "classifier": {"model": ("freeze_layers",), "augment": ("zoom_out",)},
    "tagger": {
        "model": ("head", "dropout", "freeze_backbone"),
        "augment": ("erase",),
        "balance": ("class_weights", "sampling"),
        "optim": ("label_smoothing",),
    },
}


class Recipe(Frozen):
    """One complete training run."""

    name: str
    kind: Literal["classifier", "tagger"] = "classifier"
    model: ModelConfig
    input: PreprocessSpec = PreprocessSpec()
    augment: AugmentConfig = AugmentConfig()
    balance: BalanceConfig = BalanceConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    data: DataConfig = DataConfig()
    tags: TagsConfig = TagsConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.data.lanes and self.train.batch_size < 2 * self.data.lanes:
            raise ValueError(f"train.batch_size {self.train.batch_size} is under two images a lane; raise it or lower data.lanes {self.data.lanes}")
        if self.model.freeze_backbone and self.model.weights == "none":
            raise ValueError("model.freeze_backbone with model.weights=none would train a head on random features; set one of them otherwise")
        if self.model.freeze_layers and self.model.weights == "none":
            raise ValueError("model.freeze_layers with model.weights=none would keep random layers; set model.freeze_layers=0 (--freeze 0) as well")
        if self.kind == "tagger" and self.input.resize == "crop":
            raise ValueError("input.resize=crop would cut boxes away; use pad or squash")
        if self.kind == "tagger" and self.augment.policy not in ("none", "light"):
            raise ValueError(f"augment.policy={self.augment.policy} does not know boxes; use light or none")
        if self.train.early_stop.metric not in (metrics := _METRICS[self.kind]):
            raise ValueError(f"train.early_stop.metric {self.train.early_stop.metric} is not known of a {self.kind}; use one of {', '.join(metrics)}")
        for section, names in _FOREIGN[self.kind].items():
            values = getattr(self, section)
            for name in names:
                if getattr(values, name) != type(values).model_fields[name].default:
                    raise ValueError(f"{section}.{name} has no meaning for a {self.kind}; leave it out")
        return self


def explain_validation(error: ValidationError, model: type[BaseModel]) -> str:
    """One line for a pydantic error; for an unknown key it lists the valid ones."""
    parts = []
    for item in error.errors():
        path = ".".join(str(p) for p in item["loc"])
        if item["type"] == "extra_forbidden":
            parts.append(f"unknown key '{path}'; valid here: {', '.join(_fields_at(model, item['loc'][:-1]))}")
        else:
            message = item["msg"].removeprefix("Value error, ")
            parts.append(f"{path}: {message}" if path else message)
    return "; ".join(parts)


def _fields_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        annotation = model.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
