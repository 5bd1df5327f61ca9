"""The teacher of a distillation: a bundle that answers to the pictures that its student is shown.

Pictures are made once, at the larger side of the two, and scaled on the device to what each takes: both see the same crop.
A teacher sees the whole of it, as its student does: where its `input.resize` cuts the middle out, the crop was cut already.

Shapes: pictures_BCHW float in 0..255, square; answers_BK and logits_BK [B, K], labels in the student's order.
"""

import torch
from torch.nn import functional as F

from prodrec.config import DistillConfig, PreprocessSpec
from prodrec.errors import ConfigError
from prodrec.images.transforms import resize
from prodrec.labels import Label
from prodrec.models.bundle import load_bundle
from prodrec.models.scorer import Scorer


class Teacher:
    """A bundle that is learned from.

    Args:
        labels: of the student.
        student: its input.

    Raises:
        BundleError: no classifier's bundle there.
        ConfigError: a bundle that fuses views, or that does not know all of the labels.
    """

    def __init__(self, config: DistillConfig, labels: list[Label], student: PreprocessSpec) -> None:
        self.config, self.bundle = config, load_bundle(config.teacher, kind="classifier")
        info = self.bundle.info
        if info.model.fuse:
            raise ConfigError(f"the teacher {config.teacher} fuses the views of a listing, and its student sees single images; give another --teacher")
        number = {label.name: i for i, label in enumerate(info.labels)}
        if strangers := [label.name for label in labels if label.name not in number]:
            raise ConfigError(
                f"the teacher {config.teacher} does not know {len(strangers)} of {len(labels)} labels ({', '.join(strangers[:3])}): "
                "train it on these shards, or go on from it by --from, then give that bundle as --teacher"
            )
        self.columns_K = torch.tensor([number[label.name] for label in labels])
        self._student, self._enlarged = student, max(1.0, info.input.size / student.size)
        self._scorer: Scorer | None = None

    def rendered(self, student: PreprocessSpec) -> PreprocessSpec:
        """How pictures are made for a student's input (of any stage of progressive resizing): large enough for the teacher."""
        return student.model_copy(update={"size": round(student.size * self._enlarged)})

    def for_student(self, pictures_BCHW: torch.Tensor) -> torch.Tensor:
        """Pictures made as `rendered`, at the student's side."""
        return _scaled(pictures_BCHW, self._student.model_copy(update={"size": round(pictures_BCHW.shape[-1] / self._enlarged)}))

    def answers(self, pictures_BCHW: torch.Tensor) -> torch.Tensor:
        """The teacher's logits [B, K], without gradients."""
        if self._scorer is None:
            self._scorer = Scorer(self.bundle, pictures_BCHW.device)
            self.columns_K = self.columns_K.to(pictures_BCHW.device)
        answers_BK: torch.Tensor = self._scorer(_scaled(pictures_BCHW, self.bundle.info.input))
        # A copy: tensors of inference mode cannot be kept for the backward pass.
        return answers_BK[:, self.columns_K].clone()

    def losses(self, logits_BK: torch.Tensor, answers_BK: torch.Tensor) -> torch.Tensor:
        """temperature^2 * KL(teacher || student) of each image [B]: its gradient is of the order of that of a cross-entropy whatever the temperature.

        Source: Hinton et al. 2015 (arXiv 1503.02531), section 2.
        """
        softened_BK, wanted_BK = (F.log_softmax(x.float() / self.config.temperature, 1) for x in (logits_BK, answers_BK))
        return F.kl_div(softened_BK, wanted_BK, reduction="none", log_target=True).sum(1) * self.config.temperature**2


def _scaled(pictures_BCHW: torch.Tensor, spec: PreprocessSpec) -> torch.Tensor:
    """Whole pictures, to the side and in the way of an input."""
    if pictures_BCHW.shape[-1] == spec.size:
        return pictures_BCHW
    return resize(pictures_BCHW, spec.model_copy(update={"resize": "squash"})).clamp(0, 255)  # bicubic weights overshoot
