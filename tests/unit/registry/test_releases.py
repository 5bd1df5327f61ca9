"""The registry of bundles: whole versions, an atomic pointer, whatever is killed and whoever comes at the same time."""

import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prodrec.config import ModelConfig, PreprocessSpec
from prodrec.errors import BundleError, ConfigError
from prodrec.labels import Label
from prodrec.models.bundle import load_bundle, write_bundle
from prodrec.models.bundle_files import load_info
from prodrec.models.bundle_info import ClassifierInfo
from prodrec.models.registry import create_classifier
from prodrec.registry.releases import Overtaken, Registry, Release, standing, withdrawn


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Three bundles that differ in what they say."""
    config, folder = ModelConfig(arch="custom_cnn", weights="none"), tmp_path_factory.mktemp("bundles")
    model = create_classifier(config, 2, 32)
    for number in range(3):
        info = ClassifierInfo(
            model=config,
            input=PreprocessSpec(size=32),
            labels=[Label(name="a", group=None), Label(name="b", group=None)],
            metrics={"split": "test", "top1": 0.5 + number / 10},
            recipe={"name": f"recipe{number}"},
            data_manifest_sha256="0" * 64,
            temperature=1.0,
            train_counts=[1, 1],
        )
        write_bundle(folder / str(number), model, info)
    return [str(folder / str(number)) for number in range(3)]


@pytest.fixture
def registry(tmp_path):
    return Registry(str(tmp_path / "registry"))


def whole(registry):
    """What always holds: every version can be loaded, and the pointer names one of them."""
    pointer, versions = registry.pointer(), registry.versions()
    for version in versions:
        load_bundle(registry.place(version.name))
    if pointer:
        assert [version.info.bundle_id for version in versions if version.is_current] == [pointer.bundle_id]
        assert standing(pointer.history)[-1].version == pointer.version
    return pointer


def test_promotions_are_kept_and_rolled_back_one_by_one(registry, bundles):
    first, second, third = [registry.promote(bundle, f"why {i}") for i, bundle in enumerate(bundles)]
    assert (second.previous, third.previous) == (first.version, second.version)
    assert registry.promote(bundles[2], "again") == third, "what is current stays so"
    back = registry.rollback("it was worse in the shop")
    assert (back.version, back.previous, back.why) == (second.version, first.version, "it was worse in the shop")
    assert registry.promote(bundles[2], "mended the shop").version == third.version, "a version that is there is not copied again"
    assert registry.rollback().version == second.version
    assert registry.rollback().version == first.version
    with pytest.raises(BundleError, match="no version before"):
        registry.rollback()
    assert [release.why for release in registry.pointer().history][:4] == ["why 0", "why 1", "why 2", "it was worse in the shop"]
    assert len(whole(registry).history) == 7


def test_the_folder_of_a_kind_stands_for_its_current_bundle(registry, bundles):
    with pytest.raises(BundleError, match="no complete bundle"):
        load_info(registry.folder.uri)
    for bundle in bundles[:2]:
        registry.promote(bundle, "why")
        assert load_bundle(registry.folder.uri).info.bundle_id == load_info(registry.folder.uri).bundle_id == load_info(bundle).bundle_id
    shutil.rmtree(registry.place(registry.pointer().version))
    with pytest.raises(BundleError, match="no complete bundle"):
        load_info(registry.folder.uri)
    registry.folder.write("current.json", b"{}")
    with pytest.raises(BundleError, match="names no version"):
        load_info(registry.folder.uri)
    with pytest.raises(BundleError, match=r"current\.json"):
        registry.pointer()


def test_who_was_judged_against_another_bundle_is_told(registry, bundles):
    registry.promote(bundles[0], "why", over=None)
    with pytest.raises(Overtaken, match="is current meanwhile, not None"):
        registry.promote(bundles[1], "why", over=None)
    assert registry.promote(bundles[1], "why", over=registry.pointer().version).bundle_id == load_info(bundles[1]).bundle_id


def test_only_whole_bundles_of_the_kind_are_promoted(registry, bundles, tmp_path):
    torn = shutil.copytree(bundles[0], tmp_path / "torn")
    (torn / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(BundleError, match="changed or cut short"):
        registry.promote(str(torn), "why")
    with pytest.raises(BundleError, match="expected tagger"):
        Registry(str(tmp_path / "registry"), "tagger").promote(bundles[0], "why")
    with pytest.raises(ConfigError, match="--kind embedder"):
        Registry(str(tmp_path), "embedder")
    assert whole(registry) is None


# Kills its own process before or after the n-th step that changes a file.
KILLED = """
import os, shutil, signal, sys
from itertools import pairwise
from pathlib import Path
from prodrec.files import Folder
from prodrec.registry.releases import Registry

steps = 0
def killing(change):
    def step(*arguments, **options):
        global steps
        for before in (True, False):
            if steps == int(sys.argv[3]):
                os.kill(os.getpid(), signal.SIGKILL)
            steps += 1
            if before:
                result = change(*arguments, **options)
        return result
    return step

Folder.write, Path.rename, shutil.rmtree = killing(Folder.write), killing(Path.rename), killing(shutil.rmtree)
Registry(sys.argv[1]).promote(sys.argv[2], "killed")
"""


def test_a_process_killed_between_any_two_steps_leaves_a_whole_registry(registry, bundles, tmp_path):
    """Forks instead of new interpreters: each would import torch for seconds."""
    first = registry.promote(bundles[0], "why")
    script = KILLED.replace("Registry(sys.argv[1])", "if True:\n    Registry(sys.argv[1])")
    driver = f"""
import os, sys
code = {script!r}
from prodrec.registry.releases import Registry  # heavy imports once
codes = []
for number in range(30):
    folder = sys.argv[1] + str(number)
    import shutil
    shutil.copytree(sys.argv[1], folder)
    child = os.fork()
    if child == 0:
        sys.argv = ["", folder, sys.argv[2], str(number)]
        exec(code, {{}})
        os._exit(0)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    if codes[-1] == 0:
        break
print(codes)
"""
    root = Path(registry.folder.uri).parent
    done = subprocess.run([sys.executable, "-c", driver, str(root), bundles[1]], capture_output=True, text=True, check=True)
    codes = json.loads(done.stdout)
    assert codes[-1] == 0
    assert set(codes[:-1]) == {-9}
    assert len(codes) > 8, "as many steps as a copy and a pointer take"
    for number in range(len(codes)):
        after = Registry(f"{root}{number}")
        pointer = whole(after)
        assert pointer.bundle_id in (first.bundle_id, load_info(bundles[1]).bundle_id)
        assert after.promote(bundles[1], "again").bundle_id == load_info(bundles[1]).bundle_id, "the next one finds nothing in its way"
        assert len(after.versions()) == 2
        assert not list(Path(after.folder.uri).glob(".*.part")), "and clears away what was left"
        whole(after)


def test_promotions_at_the_same_time_lose_none_and_leave_nothing_half(registry, bundles):
    """Every process promotes and rolls back; each change of the pointer is one of theirs, in turn."""
    script = """
import os, sys
from prodrec.errors import BundleError
from prodrec.registry.releases import Registry
children = []
for number in range(3):
    child = os.fork()
    if child == 0:
        for turn in range(6):
            Registry(sys.argv[1]).promote(sys.argv[2 + (number + turn) % 3], f"{number} {turn}")
        os._exit(0)
    children.append(child)
assert not any(os.waitpid(child, 0)[1] for child in children)
"""
    root = str(Path(registry.folder.uri).parent)
    subprocess.run([sys.executable, "-c", script, root, *bundles], check=True)
    pointer = whole(registry)
    assert len(registry.versions()) == 3
    history = pointer.history
    assert all(one.version != other.version for one, other in pairwise(history)), "each one saw the one before"
    made = [release.why.split() for release in history]
    for number in "012":
        turns = [int(turn) for who, turn in made if who == number]
        assert turns == sorted(set(turns))


@given(st.lists(st.sampled_from(["promote", "rollback"]), max_size=12))
def test_the_line_of_versions_is_a_stack(actions):
    history, line = [], []
    for number, action in enumerate(actions):
        if action == "rollback" and len(line) < 2:
            continue
        line = line[:-1] if action == "rollback" else [*line, f"{number:04d}-aaaaaaaa"]
        history.append(Release(action=action, version=line[-1], bundle_id="a", when="", why=""))
        assert [release.version for release in standing(history)] == line


def changes(*told):
    """Of `+A1:W` (promoted: bundle, weights) and `-A1:W` (rolled back to it)."""
    names = [(one[0], *one[1:].split(":")) for one in told]
    action = {"+": "promote", "-": "rollback"}
    return [Release(action=action[sign], version=name, bundle_id=name, weights_sha256=weights, when="", why=name) for sign, name, weights in names]


@pytest.mark.parametrize(
    ("told", "gone"),
    [
        (["+B:V", "+A:W", "-B:V"], {"A": "W"}),
        (["+B:V", "+A:W", "-B:V", "+A3:W"], {}),
        (["+A1:W", "+A2:W", "-A1:W"], {"A2": ""}),
        (["+A1:W", "+A2:W", "-A1:W", "+A3:W"], {"A2": ""}),
        (["+A1:W", "+A2:W", "-A1:W", "+B:V"], {"A2": ""}),
        (["+A1:W", "+A2:W", "-A1:W", "+B:V", "+A2:W"], {}),
        (["+A1:", "+A2:", "-A1:", "+B:V"], {"A2": ""}),
    ],
)
def test_a_rollback_takes_weights_away_unless_it_goes_back_to_them(told, gone):
    assert {one.bundle_id: one.weights_sha256 for one in withdrawn(changes(*told))} == gone


def test_a_registry_needs_no_torch():
    command = "import sys, prodrec.registry.releases; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0, "it would take seconds to list or to roll back"
