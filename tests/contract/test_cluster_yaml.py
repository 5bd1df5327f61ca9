"""cluster.yaml against Ray's own schema and checks: what `ray up` does before it asks the cloud for anything."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

CLUSTER = Path(__file__).parents[2] / "cluster.yaml"


@pytest.fixture
def config():
    return yaml.safe_load(CLUSTER.read_text())


def check(config):
    prepared = prepare_config(config)
    validate_config(prepared)
    return prepared


def test_ray_takes_the_file(config):
    prepared = check(config)
    head, gpu = (prepared["available_node_types"][name] for name in (prepared["head_node_type"], "gpu"))
    assert head["max_workers"] == 0
    assert gpu["min_workers"] == 0
    assert gpu["max_workers"] == prepared["max_workers"] > 0


def test_what_the_nodes_are_set_up_from_is_in_the_checkout(config):
    local = {Path(path) for path in config["file_mounts"].values() if not path.startswith("~")}
    assert {Path("Makefile"), Path("pyproject.toml"), Path("requirements.lock"), Path("prodrec")} <= local
    assert all((CLUSTER.parent / path).exists() for path in local)


def test_nothing_but_ssh_is_open_and_no_secret_is_in_the_file(config):
    # Ray's own group has port 22 open to the world; one that is named is taken as it is, and one that is not there is refused by AWS.
    assert all(node["node_config"]["SecurityGroupIds"] == ["sg-REPLACE"] for node in config["available_node_types"].values())
    assert "0.0.0.0" not in CLUSTER.read_text()
    assert not {"aws_access_key_id", "aws_secret_access_key", "ssh_private_key"} & {*config["provider"], *config["auth"]}
    assert any("RAY_AUTH_MODE=token" in command for command in config["setup_commands"])


def test_nodes_have_the_least_rights_and_hear_of_their_end(config):
    types = config["available_node_types"]
    nodes = [types[name]["node_config"] for name in ("head", "gpu")]
    assert [node["IamInstanceProfile"]["Name"] for node in nodes] == ["prodrec-head", "prodrec-worker"]
    assert all(node["MetadataOptions"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1} for node in nodes)
    assert all(disk["Ebs"]["Encrypted"] is True for node in nodes for disk in node["BlockDeviceMappings"])
    assert "spot" in str(types["gpu"])
    assert any("prodrec.cluster.spot_notice" in command for command in config["worker_start_ray_commands"])
    assert find_spec("prodrec.cluster.spot_notice")


def _without_resources(config):
    del config["available_node_types"]["gpu"]["resources"]


def _unknown_node_key(config):
    config["available_node_types"]["gpu"]["max_worker"] = 8


def _more_least_than_most(config):
    config["available_node_types"]["gpu"]["min_workers"] = config["max_workers"] + 1


def _head_of_no_type(config):
    config["head_node_type"] = "no_such_type"


def _unknown_key(config):
    config["setup_command"] = []


def _number_as_text(config):
    config["idle_timeout_minutes"] = "fifteen"


@pytest.mark.parametrize(
    ("breaking", "error", "message"),
    [
        (_without_resources, ValidationError, "'resources' is a required property"),
        (_unknown_node_key, ValidationError, "max_worker"),
        (_unknown_key, ValidationError, "setup_command"),
        (_number_as_text, ValidationError, "fifteen"),
        (_more_least_than_most, ValueError, "smaller than the sum of `min_workers`"),
        (_head_of_no_type, ValueError, "must be one of `available_node_types`"),
    ],
)
def test_a_wrong_file_is_refused(config, breaking, error, message):
    breaking(config)
    with pytest.raises(error, match=message):
        check(config)
