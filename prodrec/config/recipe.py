"""One complete training run, and what its sections must agree on."""

from typing import Literal, Self

from pydantic import model_validator

from prodrec.config.base import Frozen
from prodrec.config.sections import (
    AugmentConfig,
    BalanceConfig,
    DataConfig,
    ModelConfig,
    OptimConfig,
    PreprocessSpec,
    TagsConfig,
    TrainConfig,
)

_METRICS = {"classifier": ("val_top1", "val_top5", "val_loss"), "tagger": ("val_ap50", "val_map", "val_loss")}
# Fields by section that the other kind uses.
_FOREIGN: dict[str, dict[str, tuple[str, ...]]] = {
    "classifier": {"model": ("freeze_layers",), "augment": ("zoom_out",)},
    "tagger": {
        "model": ("head", "head_args", "dropout", "freeze_backbone"),
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

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.data.lanes and self.train.batch_size < 2 * self.data.lanes:
            raise ValueError(f"train.batch_size {self.train.batch_size} is under two images a lane; raise it or lower data.lanes {self.data.lanes}")
        if self.model.freeze_backbone and self.model.weights == "none":
            raise ValueError("model.freeze_backbone with model.weights=none would train a head on random features; set one of them otherwise")
        if self.model.freeze_layers and self.model.weights == "none":
            raise ValueError("model.freeze_layers with model.weights=none would keep random layers; set model.freeze_layers=0 (--freeze 0) as well")
        if self.model.head == "arcface" and self.augment.mix:
            raise ValueError("augment.mix has no meaning for model.head=arcface: a mixed image has no one class that the margin is of; set it to 0")
        if self.kind == "tagger" and self.input.resize == "crop":
            raise ValueError("input.resize=crop would cut boxes away; use pad or squash")
        if self.kind == "tagger" and self.augment.policy not in ("none", "light"):
            raise ValueError(f"augment.policy={self.augment.policy} does not know boxes; use light or none")
        if self.train.early_stop.metric not in (metrics := _METRICS[self.kind]):
            raise ValueError(f"train.early_stop.metric {self.train.early_stop.metric} is not known of a {self.kind}; use one of {', '.join(metrics)}")
        self._check_foreign()
        return self

    def _check_foreign(self) -> None:
        for section, names in _FOREIGN[self.kind].items():
            values = getattr(self, section)
            for name in names:
                if getattr(values, name) != type(values).model_fields[name].default:
                    raise ValueError(f"{section}.{name} has no meaning for a {self.kind}; leave it out")
