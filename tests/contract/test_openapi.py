"""/openapi.json tells the truth: generated requests are answered as it says."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema import Draft202012Validator
from made import photo
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_headers_conformance, response_schema_conformance, status_code_conformance

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance, response_schema_conformance]

ROUTES = [
    ("post", "/v1/recognize"),
    ("post", "/v1/recognize/batch"),
    ("post", "/v1/explain"),
    ("post", "/v1/bulk"),
    ("get", "/v1/bulk/{run_id}"),
    ("delete", "/v1/bulk/{run_id}"),
    ("get", "/v1/bulk/{run_id}/results"),
    ("get", "/v1/photos/{photo}"),
    ("get", "/v1/bundle"),
    ("get", "/healthz"),
    ("get", "/readyz"),
    ("get", "/metrics"),
]
# The last three take nothing that could be wrong.
ASKED = [(GenerationMode.POSITIVE, *route) for route in ROUTES] + [(GenerationMode.NEGATIVE, *route) for route in ROUTES[:-3]]


@pytest.fixture(scope="module")
def described(server):
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL.*")
@pytest.mark.parametrize(("mode", "method", "path"), ASKED, ids=[f"{mode.name} {method} {path}" for mode, method, path in ASKED])
def test_generated_requests(described, mode, method, path):
    @settings(max_examples=40, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=described[path][method].as_strategy(generation_mode=mode))
    def answered_as_described(case) -> None:
        case.call_and_validate(checks=CHECKS, timeout=30)

    answered_as_described()


def test_it_is_valid_and_complete(client):
    tree = client.get("/openapi.json").json()
    assert tree["openapi"].startswith("3.1")
    assert {(method, path) for path, methods in tree["paths"].items() for method in methods} == set(ROUTES)
    for path, methods in tree["paths"].items():
        for method in methods.values():
            assert method.get("description") or method.get("summary"), path
            is_guarded = path.startswith("/v1/")
            assert ({"401", "503", "504"} <= set(method["responses"])) == is_guarded, path
    for name, schema_tree in tree["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema_tree)
        assert "HTTPValidationError" not in name


@pytest.mark.parametrize("query", ["", "?explain=true&top_k=1", "?tags=false&category=shoes"])
def test_a_good_answer_is_as_described(client, query):
    tree = client.get("/openapi.json").json()
    answer = client.post(f"/v1/recognize{query}", content=photo(2, 900)).json()
    Draft202012Validator({"$ref": "#/components/schemas/Answer", "components": tree["components"]}).validate(answer)
    heat = client.post("/v1/explain", content=photo(2, 900), headers={"accept": "application/json"}).json()
    Draft202012Validator({"$ref": "#/components/schemas/HeatOut", "components": tree["components"]}).validate(heat)
    results = client.post("/v1/recognize/batch", files=[("files", ("a", photo(2, 900))), ("files", ("b", b"x"))]).json()
    Draft202012Validator({"$ref": "#/components/schemas/BatchAnswer", "components": tree["components"]}).validate(results)
