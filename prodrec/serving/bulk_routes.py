"""Runs of the nightly job over HTTP."""

from typing import Annotated

from fastapi import FastAPI, Path, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from prodrec.errors import Reject, UserError, shown_url
from prodrec.serving.answering import Answering
from prodrec.serving.backend import BulkRuns
from prodrec.serving.bodies import Bodies
from prodrec.serving.bulk import BulkState
from prodrec.serving.openapi import ERRORS, MANIFEST_BODY
from prodrec.serving.problems import Problem, reject_problem
from prodrec.serving.schemas import BulkOut

RunId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


def add_bulk(app: FastAPI, bodies: Bodies, answering: Answering) -> None:
    @app.post("/v1/bulk", status_code=202, openapi_extra=MANIFEST_BODY, responses=ERRORS, response_model=BulkOut)
    async def start_bulk(request: Request) -> Response:
        """Tags the listings of a manifest, as the nightly job does."""
        runs = _runs(answering)
        upload, place = await bodies.manifest(request)
        try:
            state = await answering.ask(runs.start(upload and upload.data, upload.name if upload else "", place))
        except Reject as reject:
            raise reject_problem(reject.code.value, reject.detail) from reject
        except UserError as error:
            raise Problem(422, "bad_manifest", shown_url(str(error))) from error
        return JSONResponse(_out(state).model_dump(), 202, {"Location": f"/v1/bulk/{state.id}"})

    @app.get("/v1/bulk/{run_id}", responses=ERRORS)
    async def bulk_state(run_id: RunId) -> BulkOut:
        """How far it is, and what came of it."""
        return _out(_found(await answering.ask(_runs(answering).state(run_id))))

    @app.delete("/v1/bulk/{run_id}", responses=ERRORS)
    async def cancel_bulk(run_id: RunId) -> BulkOut:
        """Ends it; what is written stays."""
        return _out(_found(await answering.ask(_runs(answering).cancel(run_id))))

    @app.get("/v1/bulk/{run_id}/results", responses={**ERRORS, 200: {"content": {"text/csv": {}}}}, response_class=Response)
    async def bulk_results(run_id: RunId) -> Response:
        """Its decisions as CSV."""
        rows = await answering.ask(_runs(answering).results(run_id))
        if rows is None:
            raise _no_run()
        return StreamingResponse(rows, media_type="text/csv", headers={"Content-Disposition": f'attachment; filename="{run_id}.csv"'})


def _runs(answering: Answering) -> BulkRuns:
    if answering.backend.bulk is None:
        raise Problem(403, "not_allowed", "bulk runs are switched off here")
    return answering.backend.bulk


def _found(state: BulkState | None) -> BulkState:
    if state is None:
        raise _no_run()
    return state


def _no_run() -> Problem:
    return Problem(404, "not_found", "no such run")


def _out(state: BulkState) -> BulkOut:
    results = f"/v1/bulk/{state.id}/results" if state.status == "finished" else None
    return BulkOut(**vars(state) | {"results": results})
