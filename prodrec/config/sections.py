"""The sections of a recipe."""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from prodrec.config.frozen import Fraction, Frozen, PositiveFloat, PositiveInt

Interpolation = Literal["bilinear", "bicubic"]
INTERPOLATIONS: tuple[str, ...] = get_args(Interpolation)
HeadKind = Literal["linear", "relu", "mlp", "cosine", "arcface"]


class PreprocessSpec(Frozen):
    """How an image becomes a model input at evaluation and serving time; part of the bundle.

    Attributes:
        size: side of the square model input, pixels.
        resize: `squash` scales both sides to `size` whatever the aspect; `crop` scales the short side to
            `size / crop_fraction` and takes the centre; `pad` scales the long side to `size` and pads with grey.
        crop_fraction: share of the short side kept by `crop`. Source: timm's `crop_pct` default 0.875.
        interpolation: of the scaling, always antialiased; that with which the weights were made. Classifiers only.
        normalize: `zero_one` x/255; `minus_one_one` x/127.5-1; `imagenet` and `clip` (x/255-mean)/std.
        flip: the logits are the mean with those of the mirrored image, at twice the time. Source: Krizhevsky et al. 2012
            (AlexNet, NeurIPS), section 4.1. Classifiers only.
    """

    size: Annotated[int, Field(ge=16, le=2048)] = 224
    resize: Literal["squash", "crop", "pad"] = "squash"
    crop_fraction: Annotated[float, Field(gt=0, le=1)] = 0.875
    interpolation: Interpolation = "bilinear"
    normalize: Literal["zero_one", "minus_one_one", "imagenet", "clip"] = "imagenet"
    flip: bool = False

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What the first bundles lacked stands in those only that have it: else each that is older would get another id."""
        fields: dict[str, Any] = dump(self)
        return {name: value for name, value in fields.items() if (name, value) != ("interpolation", "bilinear")}


class ModelConfig(Frozen):
    """Which architecture, from which weights.

    Attributes:
        arch: a name of `prodrec.models.registry` or any timm model name.
        weights: `hub` (pretrained, downloaded), `none` (random), the path of a .safetensors or .pth file, or the folder of a
            bundle, whose labels then stay and whose head grows by the new ones.
        head: `linear`, `relu` (512-K with ReLU), `mlp` (2048-512-64-K with ReLU), `cosine` or `arcface`; `prodrec.models.heads`.
        head_args: keyword arguments of the head.
        dropout: before the head.
        freeze_backbone: train the head only; batch-norm statistics of the backbone stay fixed too. Classifiers only.
        freeze_layers: as many layers of the backbone, from the picture on, stay as they are.
        args: keyword arguments of the architecture.
        fuse: how the features of a listing's views become those of the listing: `lstm` (their order matters), `mean` or
            `attention` (it does not); None: each image is classified by itself. Classifiers only.
        max_views: of a listing; of more, those spread evenly over it are taken. Source: assumed; a listing's photos.
    """

    arch: str
    weights: str = "hub"
    head: HeadKind = "linear"
    head_args: dict[str, Any] = {}
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    freeze_backbone: bool = False
    freeze_layers: Annotated[int, Field(ge=0)] = 0
    args: dict[str, Any] = {}
    fuse: Literal["lstm", "mean", "attention"] | None = None
    max_views: Annotated[int, Field(ge=1, le=256)] = 8


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
        start_size: side of the training images of the first epochs, pixels, from which it grows to `input.size` in steps of 32;
            None: it stays the same. Source: Tan & Le 2021 (EfficientNetV2, arXiv 2104.00298), section 4. Classifiers only.
    """

    policy: Literal["none", "light", "trivial", "heavy"] = "light"
    min_crop_area: Annotated[float, Field(gt=0, le=1)] = 0.5
    flip: Fraction = 0.5
    erase: Fraction = 0.25
    mix: Fraction = 0.0
    zoom_out: Annotated[float, Field(gt=0, le=1)] = 1.0
    start_size: PositiveInt | None = None


class BalanceConfig(Frozen):
    """What is done about long-tailed classes.

    Attributes:
        class_weights: weights of the loss: `none`, `inverse` frequency, its square root `inverse_sqrt`, or `effective` number of samples.
        beta: of `effective`; below about 1 / (1 - beta) images a class, where its weights are those of `inverse` up to a twentieth,
            it has no other effect. Source: Cui et al. 2019 (arXiv 1901.05555), 0.9-0.9999 for classes of 5 to 5,000 images.
        sampling: `none`, `over` (repeat factors) or `under`.
        threshold: class frequency below which `over` repeats; None: that of an even share, 1 / classes. Source: Gupta et al. 2019 (LVIS,
            arXiv 1908.03195) took 0.001 for 1,203 classes; docs/results.md measured it.
        max_ratio: `under` keeps at most this many times the images of the median class.
        logit_adjustment: tau: the loss sees the logits + tau * log(share of the class), 1 for equal class errors; 0 is off.
            Source: Menon et al. 2021 (arXiv 2007.07314), equation 10.
    """

    class_weights: Literal["none", "inverse", "inverse_sqrt", "effective"] = "none"
    beta: Annotated[float, Field(ge=0, lt=1)] = 0.999
    sampling: Literal["none", "over", "under"] = "none"
    threshold: Annotated[float, Field(gt=0, le=1)] | None = None
    max_ratio: Annotated[float, Field(ge=1)] = 3.0
    logit_adjustment: Annotated[float, Field(ge=0)] = 0.0


class OptimConfig(Frozen):
    """Optimiser and schedule: linear warm-up, then cosine to `final_lr_fraction`.

    Attributes:
        lr: peak learning rate for the whole global batch (not scaled by the number of workers).
        backbone_lr_fraction: the pretrained backbone's learning rate as a share of `lr`.
        layer_decay: each layer of the backbone learns at this share of the rate of the one behind it, the last one at this share
            of the backbone's. Source: Bao et al. 2022 (BEiT, arXiv 2106.08254), appendix; 0.65 to 0.9 for pretrained ViTs. 1 is off.
        weight_decay: not applied to biases, normalisation, and what the backbone spares (tokens and positions of transformers).
    """

    name: Literal["sgd", "adamw"] = "adamw"
    lr: PositiveFloat = 1e-3
    backbone_lr_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
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
        batch_size: images (with model.fuse listings) of one optimiser step over all workers together.
        micro_batch: images that go through the model at once on each worker, where the memory of a GPU holds no more: the step is that of the
            whole batch, but batch norm sees these alone; None: the worker's share of the batch.
        sync_batchnorm: batch norm takes its statistics from the images of all workers; on GPUs.
        freeze_bn: batch norm keeps the statistics that the weights came with; its scale and shift are trained. For pretrained weights and
            few images at once.
        precision: `bf16` autocast (a CPU without bf16 arithmetic computes in fp32, which is quicker there) or `fp32`.
        ema_decay: decay by step of an exponential moving average of the weights that is validated and kept; 0 is off.
        keep_checkpoints: the best this many (and the latest two) stay on disk.
        checkpoint_minutes: between two checkpoints at most, within an epoch too.
        head_epochs: of `epochs` the first this many train the head only, then all is trained; each phase has the whole schedule of
            the learning rate. Source: Kumar et al. 2022 (LP-FT, arXiv 2202.10054). 0 is off. Classifiers only.
        average_best: the mean of the weights of the best this many epochs is kept instead of the best, if it is as good on val;
            1 is off. Source: Izmailov et al. 2018 (SWA, arXiv 1803.05407), Wortsman et al. 2022 (model soups, arXiv 2203.05482).
    """

    epochs: PositiveInt = 30
    batch_size: Annotated[int, Field(ge=2)] = 128
    micro_batch: PositiveInt | None = None
    sync_batchnorm: bool = False
    freeze_bn: bool = False
    seed: int = 0
    precision: Literal["bf16", "fp32"] = "bf16"
    channels_last: bool = True
    compile: bool = False
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    early_stop: EarlyStopConfig = EarlyStopConfig()
    keep_checkpoints: PositiveInt = 2
    checkpoint_minutes: PositiveFloat = 10.0
    head_epochs: Annotated[int, Field(ge=0)] = 0
    average_best: PositiveInt = 1


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
