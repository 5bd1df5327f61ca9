"""From a backend's values to answers: decisions, counts, problems."""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from prodrec.errors import ConfigError, Reject, StoreError
from prodrec.scoring.decision import Decider
from prodrec.scoring.policy import load_policy
from prodrec.serving.backend import Ask, Backend, Explained, Scored, Served
from prodrec.serving.bodies import Upload
from prodrec.serving.metrics import DECISIONS, REJECTS, STAGE_SECONDS, Meter
from prodrec.serving.problems import Problem, busy, reject_problem
from prodrec.serving.schemas import Answer, BatchAnswer, BatchResult, ProblemOut, ServedBundles, answer_of, bundle_of, explanation_of
from prodrec.serving.settings import ServingSettings
from prodrec.serving.unavailable import Busy, NotReady

T = TypeVar("T")
# Whoever asks whether it is ready wants to know now. Source: assumed.
_READY_S = 2.0
_log = logging.getLogger("prodrec.serving")


class Answering:
    """Answers the requests of one application.

    Raises:
        ConfigError: the policy cannot be read.
    """

    def __init__(self, backend: Backend, settings: ServingSettings, meter: Meter) -> None:
        self.backend, self._settings, self._meter = backend, settings, meter
        self._policy = load_policy(settings.policy)
        self._policy_id = self._policy.policy_id
        self._deciders: dict[str, Decider] = {}

    async def one(self, data: bytes, top_k: int, with_tags: bool, with_heat: bool, category: str | None) -> Answer:
        """Raises: Problem."""
        start = time.perf_counter()
        [scored] = await self.ask(self.backend.recognize([data]))
        explained = await self.explain(data, Ask()) if with_heat and not scored.recognition.code else None
        answer = self._answer(scored, top_k, with_tags, category)
        answer.explanation = explanation_of(explained, "gradcam") if explained else None
        answer.timings_ms["total"] = round(1e3 * (time.perf_counter() - start), 2)
        return answer

    async def several(self, uploads: Sequence[Upload], top_k: int, with_tags: bool, category: str | None) -> BatchAnswer:
        """Raises: Problem: of all of them; one image's is told beside the others' answers."""
        found = await self.ask(self.backend.recognize([upload.data for upload in uploads]))
        results = []
        for upload, scored in zip(uploads, found, strict=True):
            try:
                results.append(BatchResult(name=upload.name, status=200, answer=self._answer(scored, top_k, with_tags, category), problem=None))
            except Problem as problem:
                results.append(BatchResult(name=upload.name, status=problem.status, answer=None, problem=ProblemOut.model_validate(problem.body())))
        return BatchAnswer(results=results)

    async def explain(self, data: bytes, ask: Ask) -> Explained:
        """Raises: Problem."""
        try:
            return await self.ask(self.backend.explain(data, ask))
        except Reject as reject:
            self._meter.note(REJECTS, code=reject.code.value)
            raise reject_problem(reject.code.value, reject.detail) from reject
        except ConfigError as error:
            if ask.label is not None and "no label" in str(error):
                raise Problem(422, "no_such_label", "the classifier has no such label", "GET /v1/bundle?labels=true names them") from error
            raise Problem(422, "cannot_explain", re.sub(r"--(size|method)\b", r"\1", str(error))) from error

    async def photo(self, photo: str) -> bytes:
        """Raises: Problem."""
        if (jpeg := await self.ask(self.backend.photo(photo))) is None:
            raise Problem(404, "not_found", "no bundle that is served has this photo")
        return jpeg

    async def bundles(self, with_names: bool) -> ServedBundles:
        served = await self.ask(self.backend.served())
        classifier, tagger = (bundle_of(info, with_names) for info in (served.classifier, served.tagger))
        return ServedBundles(bundle_id=served.bundle_id, policy_id=self._policy_id, classifier=classifier, tagger=tagger)

    async def ready(self) -> str:
        """The id of what is served."""
        try:
            async with asyncio.timeout(_READY_S):
                return (await self.ask(self.backend.served())).bundle_id
        except TimeoutError as error:
            raise self._not_ready() from error

    async def ask(self, awaited: Awaitable[T]) -> T:
        """What a backend cannot do now is a 503."""
        try:
            return await awaited
        except Busy as error:
            raise busy(error.retry_after_s or self._settings.retry_after_s, error.detail) from error
        except StoreError as error:
            _log.error("%s", error)
            raise Problem(503, "busy", "the database is away", headers={"Retry-After": str(self._settings.retry_after_s)}) from error
        except NotReady as error:
            raise self._not_ready() from error

    def _not_ready(self) -> Problem:
        return Problem(503, "not_ready", "no bundle can score at the moment", headers={"Retry-After": str(self._settings.retry_after_s)})

    def _answer(self, scored: Scored, top_k: int, with_tags: bool, category: str | None) -> Answer:
        recognition = scored.recognition
        if recognition.code:
            self._meter.note(REJECTS, code=recognition.code)
            raise reject_problem(recognition.code, recognition.detail or "")
        for stage, took_ms in recognition.timings_ms.items():
            self._meter.note(STAGE_SECONDS, took_ms / 1e3, stage=stage)
        decision = self._decider(scored.served).decide([recognition], category, is_whole=False)
        self._meter.note(DECISIONS, decision=decision.decision)
        return answer_of(scored, decision, self._policy_id, top_k, with_tags)

    def _decider(self, served: Served) -> Decider:
        """The latest bundles' is kept, and that of the ones before while they still answer."""
        if served.bundle_id not in self._deciders:
            if len(self._deciders) > 1:
                self._deciders.pop(next(iter(self._deciders)))
            self._deciders[served.bundle_id] = Decider(served.classifier, served.tagger, self._policy)
        return self._deciders[served.bundle_id]
