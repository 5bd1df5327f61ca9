"""What a process does not load that has no use for it: each is told apart in a process of its own."""

import subprocess
import sys

import pytest

LOADED = "import sys, {module}; print(*(name for name in {heavy} if name in sys.modules))"


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("prodrec.cluster.bulk_actor", ("torch", "torchvision", "timm", "matplotlib")),  # with it, all that begins, watches and fetches for a bulk run
        ("prodrec.cluster.estimate", ("torch", "torchvision", "timm", "matplotlib")),
        ("prodrec.cluster.serve", ("torch._dynamo", "torchmetrics")),
        ("prodrec.scoring.recognizer", ("torch._dynamo", "torchmetrics", "sqlalchemy", "ray")),
    ],
)
def test_a_process_loads_what_it_needs(module, heavy):
    done = subprocess.run([sys.executable, "-c", LOADED.format(module=module, heavy=heavy)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


COMPILED = """
import sys, warnings
warnings.simplefilter("error")
import prodrec.scoring.recognizer
import timm, torch, torchvision
from torchvision import tv_tensors

def boxes(tensor):
    return tv_tensors.wrap(tensor + 1, like=like)

like = tv_tensors.BoundingBoxes(torch.ones(1, 4), format="XYXY", canvas_size=(8, 8))
model = timm.create_model("naflexvit_base_patch16_gap", depth=1, embed_dim=32, num_heads=2, num_classes=3).eval()
images, areas = torch.rand(2, 3, 64, 64), torch.tensor([[0.0, 1, 1, 5, 5]])
with torch.inference_mode():
    plain = model(images)
    torchvision.ops.nms(areas[:, 1:], torch.ones(1), 0.5)
assert not [name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules]

assert type(boxes(torch.ones(1, 4))) is tv_tensors.BoundingBoxes
torch.use_deterministic_algorithms(True)
torchvision.ops.roi_align(images[:1], areas, 2)  # asks whether it may be compiled
optimizer = torch.optim.AdamW(model.parameters())
model(images).sum().backward()
optimizer.step()
assert sys.modules["torch._dynamo.utils"].is_compile_supported("cpu") is not None and torch._dynamo.utils.counters is not None
model.eval().load_state_dict(model.state_dict())
with torch.no_grad():
    assert torch.allclose(torch.compile(model, backend="eager")(images), model(images), atol=1e-6)
assert type(torch.compile(boxes, backend="eager")(torch.ones(1, 4))) is tv_tensors.BoundingBoxes
"""


def test_the_compiler_is_there_for_who_asks_for_it():
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
