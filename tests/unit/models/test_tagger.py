"""Every detector behind one name: learns a step, answers, is frozen, loads weights of another number of classes, comes back from disk."""

import pytest
import torch
from made import few_regions
from safetensors.torch import save_file

from prodrec.config import ModelConfig, PreprocessSpec
from prodrec.errors import BundleError, ConfigError, WeightsError
from prodrec.images.objects import Objects
from prodrec.labels import Label
from prodrec.models.bundle import load_bundle, write_bundle
from prodrec.models.bundle_info import TaggerInfo
from prodrec.models.detectors import DETECTORS
from prodrec.models.tagger import create_tagger
from prodrec.models.tasks import LOSS, WEIGHT, DetectionTask, N

SIZE = 128


def config(arch, **fields):
    return ModelConfig(**{"arch": arch, "weights": "none", "args": few_regions(arch)} | fields)


def batch():
    """Three pictures: two objects, none, one that is degenerate and one of a crowd."""
    torch.manual_seed(1)
    images = torch.randint(0, 256, (3, 3, SIZE, SIZE), dtype=torch.uint8)
    boxes = torch.tensor([[10.0, 10, 60, 60], [50, 40, 110, 120], [5, 5, 5.2, 80], [20, 20, 90, 90]])
    frames, sources = torch.tensor([[0.0, 0, SIZE, SIZE]] * 3), torch.tensor([[2.0 * SIZE, 2.0 * SIZE]] * 3)
    return images, Objects(boxes, torch.tensor([0, 1, 0, 1]), torch.tensor([False, False, False, True]), torch.tensor([2, 0, 2]), frames, sources)


@pytest.mark.parametrize("arch", DETECTORS)
def test_a_step_an_answer_and_a_round_trip(arch, tmp_path):
    torch.manual_seed(0)
    task = DetectionTask(create_tagger(config(arch), 2), PreprocessSpec(size=SIZE, resize="pad"), DETECTORS[arch].losses, channels_last=True)
    images, objects = batch()
    loss, sums = task.train()(images, objects)
    assert sums[WEIGHT] == sums[N] == 3
    assert float(sums[LOSS]) == pytest.approx(float(sums[N + 1 :].sum()), rel=1e-5)
    loss.backward()
    trained = [p for p in task.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained), "data parallelism waits for each gradient"
    groups = [*task.model.backbone_parameters(), *task.model.head_parameters()]
    assert {id(p) for p in groups} == {id(p) for p in trained}
    assert len(groups) == len(trained)
    assert list(task.model.head_parameters())
    model = task.model.eval()
    with torch.inference_mode():
        before = task.tags(images, model)
    for found in before:
        assert found.boxes_N4.shape == (len(found.scores_N), 4)
        assert ((found.labels_N >= 0) & (found.labels_N < 2)).all()
        assert ((found.boxes_N4 >= 0) & (found.boxes_N4 <= SIZE)).all()
    labels = [Label(name="cup"), Label(name="bowl")]
    facts = {"metrics": {}, "recipe": {"name": "test"}, "train_boxes": [1, 2], "data_manifest_sha256": "0"}
    info = TaggerInfo(model=config(arch), input=PreprocessSpec(size=SIZE, resize="pad"), labels=labels, thresholds=[0.5, 0.4], **facts)
    write_bundle(tmp_path / "bundle", model, info)
    again = load_bundle(tmp_path / "bundle", kind="tagger")
    assert again.info.thresholds == [0.5, 0.4]
    with torch.inference_mode():
        after = task.tags(images, again.model)
    assert all(
        torch.allclose(a.boxes_N4, b.boxes_N4, atol=1e-3) and torch.allclose(a.scores_N, b.scores_N, atol=1e-5) for a, b in zip(before, after, strict=True)
    )
    with pytest.raises(BundleError, match="expected classifier"):
        load_bundle(tmp_path / "bundle", kind="classifier")


@pytest.mark.parametrize("arch", DETECTORS)
def test_boxes_are_not_rounded_where_the_network_computes_in_bf16(arch):
    torch.manual_seed(0)
    size = 320  # beyond 256, bfloat16 has even numbers only
    args = {"score_thresh": 1e-3} if arch in ("retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn") else few_regions(arch)
    model = create_tagger(config(arch, args=args), 2)
    boxes = torch.tensor([[10.3, 130.4, 160.6, 281.7]])
    seen = {}

    def note(name, value_of):
        def hook(module, inputs, outputs):
            seen.setdefault(name, value_of(inputs, outputs))

        return hook

    if hasattr(model.detector, "roi_heads"):
        model.detector.rpn.register_forward_hook(note("proposals", lambda inputs, outputs: outputs[0][0]))
        model.detector.roi_heads.box_roi_pool.register_forward_hook(note("regions", lambda inputs, outputs: inputs[1][0]))
    frames = torch.tensor([[0.0, 0, size, size]] * 2)
    objects = Objects(boxes, torch.tensor([0]), torch.tensor([False]), torch.tensor([1, 0]), frames, frames[:, 2:])
    task = DetectionTask(model, PreprocessSpec(size=size, resize="pad"), DETECTORS[arch].losses, channels_last=True).train()
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    with torch.autocast("cpu", torch.bfloat16):
        task(images, objects)
        with torch.inference_mode():
            found = torch.cat([tags.boxes_N4 for tags in task.tags(images, model.eval())])
    if seen:
        assert (seen["regions"] == boxes).all(1).any(), "the true box is among the regions, as it is"
        found = torch.cat([found, seen["proposals"]])
    inside = found[(found > 128) & (found < size)]
    assert len(inside) > 10
    assert (inside == inside.bfloat16().float()).float().mean() < 0.9


@pytest.mark.parametrize("arch", DETECTORS)
def test_weights_of_another_number_of_classes_keep_all_but_the_head(arch, tmp_path):
    torch.manual_seed(3)
    coco = create_tagger(config(arch), 90)
    save_file({key: value.contiguous() for key, value in coco.detector.state_dict().items()}, tmp_path / "coco.safetensors")
    torch.manual_seed(4)
    made = create_tagger(ModelConfig(arch=arch, weights=str(tmp_path / "coco.safetensors")), 3)
    theirs, ours = coco.detector.state_dict(), made.detector.state_dict()
    head = [key for key in ours if key.startswith(DETECTORS[arch].head)]
    assert head
    assert all(torch.equal(ours[key], theirs[key]) for key in ours if key not in head)
    same = create_tagger(ModelConfig(arch=arch, weights=str(tmp_path / "coco.safetensors")), 90)
    assert all(torch.equal(value, theirs[key]) for key, value in same.detector.state_dict().items())


def test_weights_of_another_architecture_are_refused(tmp_path):
    other = create_tagger(config("ssdlite320_mobilenet_v3_large"), 2)
    save_file({key: value.contiguous() for key, value in other.detector.state_dict().items()}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="does not fit"):
        create_tagger(ModelConfig(arch="fasterrcnn_tiny", weights=str(tmp_path / "w.safetensors")), 2)
    with pytest.raises(WeightsError, match="no pretrained weights of fasterrcnn_tiny"):
        create_tagger(ModelConfig(arch="fasterrcnn_tiny", weights="hub"), 2)


@pytest.mark.parametrize(("arch", "layers"), [("fasterrcnn_tiny", 2), ("fasterrcnn_resnet50_fpn_v2", 3), ("ssdlite320_mobilenet_v3_large", 1)])
def test_frozen_layers_do_not_change_and_later_ones_do(arch, layers):
    task = DetectionTask(create_tagger(config(arch, freeze_layers=layers), 2), PreprocessSpec(size=SIZE), DETECTORS[arch].losses, channels_last=False).train()
    frozen = {name for name, p in task.named_parameters() if not p.requires_grad}
    assert frozen
    before = {name: value.clone() for name, value in task.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in task.parameters() if p.requires_grad], lr=0.01)
    loss, _ = task(*batch())
    loss.backward()
    optimizer.step()
    changed = {name for name, value in task.state_dict().items() if not torch.equal(before[name], value)}
    assert changed
    assert not changed & frozen
    owners = tuple(f"{name.rpartition('.')[0]}." for name in frozen)
    assert not any(name.startswith(owners) for name in changed), "the statistics of frozen norms stay too"


@pytest.mark.parametrize(
    ("arch", "fields", "size", "words"),
    [
        ("fasterrcnn_huge", {}, 64, "there are fasterrcnn_resnet50_fpn_v2"),
        ("fasterrcnn_tiny", {"args": {"min_ancor": 3}}, 64, "min_ancor"),
        ("fasterrcnn_tiny", {"freeze_layers": 50}, 64, "the backbone has 6 layers"),
        ("fasterrcnn_tiny", {}, 250, "multiples of 8; set 256"),
        ("retinanet_resnet50_fpn_v2", {}, 200, "multiples of 32; set 224"),
    ],
)
def test_what_cannot_be_built_is_one_clear_line(arch, fields, size, words):
    with pytest.raises(ConfigError, match=words):
        create_tagger(config(arch, **fields), 2, PreprocessSpec(size=size))


@pytest.mark.parametrize("arch", ["fcos_resnet50_fpn", "fasterrcnn_mobilenet_v3_large_320_fpn"])
def test_norms_that_were_published_fixed_stay_so(arch, tmp_path):
    other = create_tagger(config(arch), 90)
    save_file({key: value.contiguous() for key, value in other.detector.state_dict().items()}, tmp_path / "w.safetensors")
    for weights, fixed in ((str(tmp_path / "w.safetensors"), True), ("none", False)):
        model = create_tagger(ModelConfig(arch=arch, weights=weights), 2).train()
        norms = [module for module in model.detector.backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        assert norms
        assert {norm.training for norm in norms} == {not fixed}
        assert {p.requires_grad for norm in norms for p in norm.parameters()} == {not fixed}
