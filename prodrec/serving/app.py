"""The HTTP application: docs/api.md, in code. Plain FastAPI: what scores is a `Backend`, what is refused before is in `guard`."""

from importlib.resources import files
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from prodrec.scoring.explain import Method
from prodrec.scoring.occlusion import OccluderConfig
from prodrec.serving.answering import Answering
from prodrec.serving.backend import MOST_CANDIDATES, Ask, Backend
from prodrec.serving.bodies import Bodies
from prodrec.serving.bulk_routes import add_bulk
from prodrec.serving.guard import Guard
from prodrec.serving.metrics import LocalMeter, Meter
from prodrec.serving.openapi import ERRORS, IMAGE_BODY, IMAGES_BODY, describe
from prodrec.serving.problems import Problem
from prodrec.serving.schemas import Answer, BatchAnswer, HeatOut, ServedBundles, heat_of
from prodrec.serving.settings import ServingSettings
from prodrec.version import code_version

_STATIC = files("prodrec.serving") / "static"

TopK = Annotated[int, Query(ge=1, le=MOST_CANDIDATES, description="candidates")]
Tags = Annotated[bool, Query(description="false leaves the tags out of the answer")]
Category = Annotated[str | None, Query(max_length=200, description="that the seller declared")]


def create_app(backend: Backend, settings: ServingSettings = ServingSettings(), meter: Meter | None = None, names_requests: bool = True) -> FastAPI:
    """The application.

    Raises:
        ConfigError: the policy or a certificate of `settings` cannot be read.
    """
    app = FastAPI(title="prodrec", version=code_version().partition("+")[0], docs_url=None, redoc_url=None, redirect_slashes=False)
    kept = meter or LocalMeter()
    bodies, answering = Bodies(settings), Answering(backend, settings, kept)
    largest = {"/v1/recognize/batch": settings.max_batch_bytes}
    app.add_middleware(Guard, settings=settings, meter=kept, largest=largest, names_requests=names_requests)
    if settings.allow_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allow_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type", "x-request-id"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    app.add_exception_handler(HTTPException, _http_problem)
    app.add_exception_handler(RequestValidationError, _invalid_problem)
    _add_recognize(app, bodies, answering)
    _add_explain(app, bodies, answering)
    add_bulk(app, bodies, answering)
    _add_state(app, answering, kept)
    app.mount("/static", StaticFiles(directory=str(_STATIC)))
    app.add_api_route("/", _page, include_in_schema=False)
    describe(app)
    return app


def _add_recognize(app: FastAPI, bodies: Bodies, answering: Answering) -> None:
    @app.post("/v1/recognize", openapi_extra=IMAGE_BODY, responses=ERRORS, response_model=Answer)
    async def recognize(request: Request, top_k: TopK = 5, tags: Tags = True, explain: bool = False, category: Category = None) -> Response:
        """Which product is on the image, what else, and may it be published?"""
        data = await bodies.image(request)
        return _json(await answering.one(data, top_k, tags, explain, category))

    @app.post("/v1/recognize/batch", openapi_extra=IMAGES_BODY, responses=ERRORS, response_model=BatchAnswer)
    async def recognize_batch(request: Request, top_k: TopK = 5, tags: Tags = True, category: Category = None) -> Response:
        """The same for several images; a bad one costs itself only."""
        return _json(await answering.several(await bodies.images(request), top_k, tags, category))


def _add_explain(app: FastAPI, bodies: Bodies, answering: Answering) -> None:
    png: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}, "model": HeatOut}}

    @app.post("/v1/explain", openapi_extra=IMAGE_BODY, responses={**ERRORS, **png}, response_model=None)
    async def explain(
        request: Request,
        label: Annotated[str | None, Query(max_length=500, description="that is explained; the likeliest")] = None,
        method: Method = "gradcam",
        size: Annotated[int | None, Query(ge=1, le=2048, description="side of the occluder, pixels of the model input")] = None,
        stride: Annotated[int | None, Query(ge=1, le=2048, description="pixels between its places")] = None,
        fill: Literal["mean", "grey", "black", "white"] = "mean",
    ) -> Response:
        """On which part of the image the answer rests: a picture, or numbers."""
        ask = Ask(label, method, OccluderConfig(size=size, stride=stride, fill=fill))
        explained = await answering.explain(await bodies.image(request), ask)
        if "application/json" in request.headers.get("accept", ""):
            return _json(heat_of(explained, method))
        return Response(explained.overlay_png, media_type="image/png")


def _add_state(app: FastAPI, answering: Answering, meter: Meter) -> None:
    @app.get("/v1/bundle", responses=ERRORS)
    async def bundle(labels: Annotated[bool, Query(description="names instead of counts")] = False) -> ServedBundles:
        """What is served."""
        return await answering.bundles(labels)

    jpeg: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}}

    @app.get("/v1/photos/{photo}", responses={**ERRORS, **jpeg}, response_class=Response)
    async def photo(photo: Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="as in an answer")]) -> Response:
        """The reference photo of a label. Its id is its content's, so it may be kept for ever."""
        return Response(await answering.photo(photo), media_type="image/jpeg", headers={"Cache-Control": "private, max-age=31536000, immutable"})

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/readyz", responses={503: ERRORS[503]})
    async def readyz() -> dict[str, str]:
        """Bundles are loaded, and a photo can be scored."""
        return {"status": "ready", "bundle_id": await answering.ready()}

    # Some load balancers ask without wanting an answer.
    app.add_api_route("/healthz", healthz, methods=["HEAD"], include_in_schema=False)
    app.add_api_route("/readyz", readyz, methods=["HEAD"], include_in_schema=False)

    @app.get("/metrics", responses={200: {"content": {"text/plain": {}}}, 401: ERRORS[401]}, response_class=Response)
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(await meter.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _page() -> FileResponse:
    return FileResponse(str(_STATIC / "index.html"), headers={"Cache-Control": "no-cache"})


def _json(model: BaseModel) -> Response:
    """Of values that were made right: they are not validated once more."""
    return Response(model.model_dump_json(), media_type="application/json")


async def _http_problem(_request: Request, error: Any) -> Response:
    """What the router refuses."""
    code, detail = {404: ("not_found", "no such path"), 405: ("method_not_allowed", "not by this method")}.get(error.status_code, ("bad_request", "refused"))
    return Problem(error.status_code, code, detail, headers=error.headers).response()


async def _invalid_problem(_request: Request, error: Any) -> Response:
    """A query that does not fit."""
    first = error.errors()[0]
    return Problem(400, "bad_request", f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}").response()
