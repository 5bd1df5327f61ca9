import pytest
import torch
from torch import nn
from torchvision.transforms.v2 import functional as pictures

from prodrec.config import DistillConfig, ModelConfig, PreprocessSpec
from prodrec.errors import ConfigError
from prodrec.labels import Label
from prodrec.models.bundle import load_bundle, write_bundle
from prodrec.models.bundle_info import ClassifierInfo
from prodrec.models.registry import create_classifier
from prodrec.models.scorer import Scorer
from prodrec.models.tasks import ClassificationTask
from prodrec.models.teacher import Teacher

LABELS = [Label(name=name) for name in ("a", "b", "c")]
STUDENT = PreprocessSpec(size=16, normalize="imagenet")


def bundle(folder, size=32):
    torch.manual_seed(3)
    config = ModelConfig(arch="custom_cnn", weights="none")
    model = create_classifier(config, 3, size)
    info = ClassifierInfo(
        model=config,
        input=PreprocessSpec(size=size, normalize="zero_one"),
        labels=LABELS,
        temperature=1.0,
        metrics={},
        recipe={},
        train_counts=[1, 1, 1],
        data_manifest_sha256="f" * 64,
    )
    write_bundle(folder, model, info)
    return str(folder)


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    return bundle(tmp_path_factory.mktemp("bundles") / "teacher")


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 3)

    def forward(self, images_BCHW):
        self.side = images_BCHW.shape[-1]
        return self.head(images_BCHW.mean((2, 3)))


def task(teacher, mix=0.0, weights=(1.0, 1.0, 1.0)):
    torch.manual_seed(0)
    return ClassificationTask(Pooled(), STUDENT, torch.tensor(weights), 0.1, channels_last=True, mix=mix, teacher=teacher)


def batch(side, rows=12):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (rows, 3, side, side), generator=generator, dtype=torch.uint8), torch.arange(rows) % 3


def test_a_teacher_answers_as_its_bundle_does_whatever_the_students_input_and_order_of_labels(taught):
    teacher = Teacher(DistillConfig(teacher=taught), [LABELS[2], LABELS[0]], STUDENT)
    assert teacher.rendered(STUDENT).size == 32
    images, _ = batch(32)
    said = Scorer(load_bundle(taught), torch.device("cpu"))(images)
    assert torch.allclose(teacher.answers(images.float()), said[:, [2, 0]], atol=1e-5)
    assert not teacher.answers(images.float()).requires_grad


@pytest.mark.parametrize(("student_px", "teacher_px"), [(16, 32), (64, 32), (48, 32), (112, 224)])
def test_both_see_pictures_at_their_own_sides_at_every_stage_of_growing_sides(tmp_path, student_px, teacher_px):
    teacher = Teacher(DistillConfig(teacher=bundle(tmp_path / "t", teacher_px)), LABELS, PreprocessSpec(size=student_px))
    for side in range(16, student_px + 1, 16):
        rendered = teacher.rendered(PreprocessSpec(size=side)).size
        assert rendered >= side
        assert teacher.for_student(torch.zeros(1, 3, rendered, rendered)).shape[-1] == side
    assert teacher.answers(torch.zeros(2, 3, rendered, rendered)).shape == (2, 3)
    assert rendered == max(student_px, teacher_px)


def test_the_loss_is_the_softened_divergence_beside_that_of_the_labels(taught):
    config = DistillConfig(teacher=taught, temperature=3.0, weight=0.7)
    images, labels = batch(32)
    weights = torch.tensor([1.0, 2.0, 0.5])
    student = task(Teacher(config, LABELS, STUDENT), weights=weights.tolist()).train()
    logits, losses, weights_B, shown = student.losses(images, labels)
    assert student.model.side == 16
    assert torch.allclose(logits, student.logits(pictures.resize(images.float(), [16, 16], antialias=True)), atol=1e-5)
    wanted = (Scorer(load_bundle(taught), torch.device("cpu"))(images) / 3).softmax(1)
    divergence = (wanted * (wanted.log() - (logits / 3).log_softmax(1))).sum(1) * 9
    of_labels = nn.functional.cross_entropy(logits, labels, label_smoothing=0.1, reduction="none")
    assert torch.allclose(losses, weights[labels] * (0.3 * of_labels + 0.7 * divergence), atol=1e-5)
    assert torch.equal(weights_B, weights[labels]) and torch.equal(shown, labels)
    plain = student.eval().losses(batch(16)[0], labels)
    assert torch.allclose(plain[1], weights[labels] * nn.functional.cross_entropy(plain[0], labels, label_smoothing=0.1, reduction="none"))


def test_teacher_and_student_see_the_same_mixed_picture(taught):
    """A student that gives the teacher's answers has no loss, mixed or not."""
    teacher = Teacher(DistillConfig(teacher=taught, weight=1.0), LABELS, PreprocessSpec(size=32, normalize="zero_one"))
    own = load_bundle(taught).model
    for mix in (0.0, 1.0):
        student = ClassificationTask(own, PreprocessSpec(size=32, normalize="zero_one"), torch.ones(3), 0.1, channels_last=True, mix=mix, teacher=teacher)
        student.train()
        own.eval()
        for seed in range(4):
            torch.manual_seed(seed)
            _, losses, _, _ = student.losses(*batch(32))
            assert losses.abs().max() < 1e-5
    with torch.no_grad():
        list(own.head_parameters())[-1].add_(torch.tensor([0.0, 1.0, 0.0]))
    _, losses, _, _ = student.losses(*batch(32))
    assert losses.min() > 1e-4


def test_only_the_student_learns_and_the_teacher_is_no_part_of_it(taught):
    student = task(Teacher(DistillConfig(teacher=taught), LABELS, STUDENT)).train()
    student.losses(*batch(32))[1].sum().backward()
    assert {name for name, _ in student.named_parameters()} == {"model.head.weight", "model.head.bias"}
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert not student.teacher.bundle.model.training


def test_labels_that_the_teacher_does_not_know_are_refused(taught):
    with pytest.raises(ConfigError, match=r"does not know 1 of 2 labels \(z\)"):
        Teacher(DistillConfig(teacher=taught), [LABELS[0], Label(name="z")], STUDENT)
