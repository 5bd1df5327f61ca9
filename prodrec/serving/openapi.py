"""What FastAPI cannot tell by itself of requests and errors, for /openapi.json."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from prodrec.serving.problems import MEDIA_TYPE
from prodrec.serving.schemas import ProblemOut

_WHEN = {
    400: "The request cannot be read",
    401: "A key is needed",
    403: "Switched off, or not on a list",
    404: "No such thing",
    408: "The body did not come in time",
    413: "Too large, or too many files",
    415: "An image of a format that is not read",
    422: "An image that cannot be used: `code` says why",
    503: "Busy or not ready: come again after `Retry-After` seconds",
    504: "The answer took too long",
}


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemOut"}}}}


ERRORS: dict[int | str, dict[str, Any]] = {status: _problem(when) for status, when in _WHEN.items()}
_BYTES = {"type": "string", "format": "binary"}


def _body(**content: Any) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {name.replace("__", "/").replace("_", "-"): {"schema": schema} for name, schema in content.items()}}}


def _form(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: schema}, "required": [name]}


def _json(name: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "string", "format": "uri"}}, "required": [name]}


IMAGE_BODY = _body(
    multipart__form_data=_form("file", _BYTES), image__jpeg=_BYTES, image__png=_BYTES, application__octet_stream=_BYTES, application__json=_json("image_url")
)
IMAGES_BODY = _body(multipart__form_data=_form("files", {"type": "array", "items": _BYTES, "minItems": 1, "maxItems": 64}))
MANIFEST_BODY = _body(multipart__form_data=_form("file", _BYTES), application__json=_json("input"))


def describe(app: FastAPI) -> None:
    """Adds the schema of problems and of keys."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            tree = get_openapi(title=app.title, version=app.version, routes=app.routes, description="Visual product recognition; see docs/api.md.")
            parts = tree.setdefault("components", {})
            parts.setdefault("schemas", {})["ProblemOut"] = ProblemOut.model_json_schema()
            parts["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            tree["security"] = [{}, {"key": []}]
            app.openapi_schema = tree
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
