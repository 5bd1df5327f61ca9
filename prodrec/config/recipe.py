"""One complete training run, and what its sections must agree on."""

from collections.abc import Iterator
from typing import Literal, Self

from pydantic import BaseModel, model_validator

from prodrec.config.distill import DistillConfig
from prodrec.config.fit import FitConfig
from prodrec.config.frozen import Frozen
from prodrec.config.refit import RefitConfig
from prodrec.config.sections import (
    AugmentConfig,
    BalanceConfig,
    DataConfig,
    ModelConfig,
    OptimConfig,
    PreprocessSpec,
    TagsConfig,
    TrackingConfig,
    TrainConfig,
)

_METRICS = {"classifier": ("val_top1", "val_top5", "val_loss"), "tagger": ("val_ap50", "val_map", "val_loss")}
# Fields by section that the other kind uses.
_FOREIGN: dict[str, dict[str, tuple[str, ...]]] = {
    "classifier": {"augment": ("zoom_out",)},
    "tagger": {
        "model": ("head", "head_args", "dropout", "freeze_backbone", "fuse"),
        "input": ("flip", "interpolation"),
        "augment": ("erase", "start_size"),
        "balance": ("class_weights", "sampling", "logit_adjustment"),
        "optim": ("label_smoothing", "layer_decay"),
        "train": ("head_epochs",),
    },
}
# What a fit reads, by section; every other field of a recipe must be left at its default. A list of what is allowed, so
# that a field which is new elsewhere is refused here instead of being passed over in silence.
_USED: dict[str, set[str]] = {
    "input": {"size", "resize", "crop_fraction", "interpolation", "normalize"},
    "model": {"arch", "weights", "dropout", "freeze_backbone", "args"},
    "balance": {"class_weights", "beta"},
    "optim": {"name", "lr", "momentum", "warmup_epochs", "final_lr_fraction", "clip_norm", "label_smoothing"},
    "train": {"epochs", "batch_size", "seed", "precision", "early_stop"},
    "data": {"threads", "limit"},
    "tracking": {"mlflow", "experiment"},
}
# Where the field has a counterpart, the error names it.
_INSTEAD = {"model.head": "fit.heads", "optim.weight_decay": "fit.weight_decays"}
# Training sides grow by it. Source: docs/log.md, sides that are no multiple of the network's stride cost accuracy; strides are at most 32.
SIDE_STEP = 32


class Recipe(Frozen):
    """One complete training run; with `fit`, of heads on the features of a frozen backbone; with `distill`, of a teacher's student."""

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
    fit: FitConfig | None = None
    distill: DistillConfig | None = None
    refit: RefitConfig | None = None
    tracking: TrackingConfig = TrackingConfig()

    @property
    def chosen_epochs(self) -> tuple[int, ...]:
        """Those whose weights are kept, whatever they score; empty: the run finds out."""
        return self.refit.epochs if self.refit else ()

    @property
    def last_epoch(self) -> int:
        """After which training ends at the latest; the schedule of the learning rate is that of `train.epochs`."""
        return max(self.chosen_epochs, default=self.train.epochs)

    @model_validator(mode="after")
    def _check(self) -> Self:
        faults = (
            *(self._of_a_fit(self.fit) if self.fit else ()),
            *self._of_a_student(),
            *self._of_a_refit(),
            *self._foreign(),
            *self._freezing(),
            *self._of_a_tagger(),
            *self._of_a_classifier(),
        )
        if faults:
            raise ValueError(faults[0])
        if self.data.lanes and self.train.batch_size < 2 * self.data.lanes:
            raise ValueError(f"train.batch_size {self.train.batch_size} is under two images a lane; raise it or lower data.lanes {self.data.lanes}")
        if self.train.early_stop.metric not in (metrics := _METRICS[self.kind]):
            raise ValueError(f"train.early_stop.metric {self.train.early_stop.metric} is not known of a {self.kind}; use one of {', '.join(metrics)}")
        return self

    def _of_a_fit(self, fit: FitConfig) -> Iterator[str]:
        """What has no meaning beside `fit`, a line each that names the field."""
        if self.kind != "classifier":
            yield f"fit has no meaning for a {self.kind}; leave it out"
        if self.model.weights == "none" and not fit.random_backbone:
            yield (
                "model.weights=none with fit would fit heads on random features; set model.weights to hub, a file or a bundle "
                "(fit.random_backbone=true if random features are what you want to measure)"
            )
        for section, values in self:
            if not isinstance(values, BaseModel) or section in ("fit", "distill", "refit"):
                continue
            for name, field in type(values).model_fields.items():
                if name not in _USED.get(section, ()) and getattr(values, name) != field.get_default(call_default_factory=True):
                    path = f"{section}.{name}"
                    instead = f"; set {_INSTEAD[path]} instead" if path in _INSTEAD else "; leave it out"
                    yield f"{path} has no meaning with fit, which trains heads on features{instead}"
        if self.train.early_stop.patience is not None:
            yield "train.early_stop.patience has no meaning with fit: every head is fitted to the end; leave it out"

    def _of_a_student(self) -> Iterator[str]:
        if self.distill is None:
            return
        if self.kind != "classifier":
            yield f"distill (--teacher) has no meaning for a {self.kind}; leave it out"
        if self.fit:
            yield "distill (--teacher) has no meaning with fit, which sees features instead of pictures; leave it out, or choose a recipe that trains a network"
        if self.model.fuse:
            yield "distill (--teacher) shows single images, and model.fuse takes listings; leave one of them out"
        if self.train.compile:
            yield "train.compile does not know the teacher of distill (--teacher); leave one of them out"

    def _of_a_refit(self) -> Iterator[str]:
        if self.refit is None:
            return
        if bool(self.refit.epochs) == bool(self.fit):
            yield "refit.epochs are those whose weights are kept, of a network that is trained; with fit there are none, else there must be"
        if self.refit.epochs and max(self.refit.epochs) > self.train.epochs:
            yield f"refit.epochs {max(self.refit.epochs)} is beyond train.epochs {self.train.epochs}; leave both as the run before has them"
        if self.refit.folds and (self.kind != "classifier" or self.model.fuse):
            yield "refit.folds (--folds) are of classifiers of single images; leave them out: temperature and thresholds are then taken over"

    def _freezing(self) -> Iterator[str]:
        if self.model.freeze_backbone and self.model.weights == "none" and not self.fit:
            yield "model.freeze_backbone with model.weights=none would train a head on random features; set one of them otherwise"
        if self.model.freeze_layers and self.model.weights == "none":
            yield "model.freeze_layers with model.weights=none would keep random layers; set model.freeze_layers=0 (--freeze 0) as well"
        if self.model.freeze_layers and self.model.freeze_backbone:
            yield "model.freeze_backbone keeps all layers, model.freeze_layers only the first; set one of them"
        if self.train.freeze_bn and self.model.weights == "none":
            yield "train.freeze_bn with model.weights=none would keep the statistics of no images; set one of them otherwise"
        if self.train.freeze_bn and self.train.sync_batchnorm:
            yield "train.freeze_bn takes no statistics that train.sync_batchnorm could share; set one of them"
        if not (head_epochs := self.train.head_epochs):
            return
        if self.model.weights == "none":
            yield "train.head_epochs with model.weights=none would train a head on random features first; set one of them otherwise"
        if self.model.freeze_backbone:
            yield "train.head_epochs frees the backbone after them, and model.freeze_backbone never does; set one of them only"
        if head_epochs >= self.train.epochs:
            yield f"train.head_epochs {head_epochs} leaves none of {self.train.epochs} epochs to the backbone; lower it, or set model.freeze_backbone"

    def _of_a_tagger(self) -> Iterator[str]:
        if self.kind != "tagger":
            return
        if self.input.resize == "crop":
            yield "input.resize=crop would cut boxes away; use pad or squash"
        if self.augment.policy not in ("none", "light"):
            yield f"augment.policy={self.augment.policy} does not know boxes; use light or none"

    def _of_a_classifier(self) -> Iterator[str]:
        if self.model.head == "arcface" and self.augment.mix:
            yield "augment.mix has no meaning for model.head=arcface: a mixed image has no one class that the margin is of; set it to 0"
        if self.model.fuse and self.augment.mix:
            yield "augment.mix mixes single images, and model.fuse takes listings; leave one of them out"
        if not self.model.fuse and self.model.max_views != ModelConfig.model_fields["max_views"].default:
            yield "model.max_views has no meaning without model.fuse; set model.fuse to lstm, mean or attention, or leave it out"
        if self.balance.logit_adjustment and self.balance.class_weights != "none":
            yield "balance.logit_adjustment and balance.class_weights would correct the same thing twice; set class_weights=none, or leave the other out"
        start = self.augment.start_size
        if start and (start % SIDE_STEP or start >= self.input.size):
            yield f"augment.start_size {start} must be a multiple of {SIDE_STEP} below input.size {self.input.size}; set it so, or leave it out"

    def _foreign(self) -> Iterator[str]:
        for section, names in _FOREIGN[self.kind].items():
            values = getattr(self, section)
            for name in names:
                if getattr(values, name) != type(values).model_fields[name].default:
                    yield f"{section}.{name} has no meaning for a {self.kind}; leave it out"
