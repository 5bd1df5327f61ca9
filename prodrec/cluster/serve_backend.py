"""What the ingress asks of the deployments, and how it joins their answers."""

import asyncio
from collections.abc import Sequence
from typing import Any

from prodrec.cluster.bulk_runs import BulkRuns, Bundles  # first: sets what ray reads on import

# isort: split
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from prodrec.errors import ConfigError
from prodrec.models.bundle_info import BundleInfo, ClassifierInfo, TaggerInfo
from prodrec.scoring.recognizer import joined
from prodrec.serving import backend
from prodrec.serving.backend import Ask, Explained, Scored, Served, each, together
from prodrec.serving.settings import ServingSettings
from prodrec.serving.unavailable import Busy, NotReady

KINDS = ("classifier", "tagger")
# Tries to find a replica that knows the bundle of an answer, while a new one is being rolled out. Source: assumed.
_TRIES = 20


class RayBackend:
    """Asks the deployments and joins their answers."""

    def __init__(self, classifier: DeploymentHandle | None, tagger: DeploymentHandle | None, settings: ServingSettings) -> None:
        self._handles = {kind: handle for kind, handle in zip(KINDS, (classifier, tagger), strict=True) if handle}
        self._infos: dict[str, BundleInfo] = {}
        self._pairs: dict[tuple[str | None, str | None], Served] = {}
        self.bulk: backend.BulkRuns | None = BulkRuns(settings.bulk, self.bundles, settings.policy) if settings.bulk else None

    async def recognize(self, images: Sequence[bytes]) -> list[Scored]:
        return await each(self._recognize_one, images)

    async def explain(self, data: bytes, ask: Ask) -> Explained:
        if "classifier" not in self._handles:
            raise ConfigError("no classifier is served: there is no product to explain")
        found = await _asked(self._handles["classifier"].explain.remote(data, ask))
        if isinstance(found, Exception):
            raise found
        return found

    async def photo(self, photo: str) -> bytes | None:
        found: list[bytes | None] = await together(_asked(handle.photo.remote(photo)) for handle in self._handles.values())
        return next(filter(None, found), None)

    async def served(self) -> Served:
        infos = await together(_asked(handle.info.remote()) for handle in self._handles.values())
        self._infos.update({info.bundle_id: info for info in infos})
        return await self._pair(dict(zip(self._handles, (info.bundle_id for info in infos), strict=True)))

    async def bundles(self) -> Bundles:
        """Where the bundles lie that are served now."""
        places = {kind: await _asked(handle.bundle.remote()) for kind, handle in self._handles.items()}
        return Bundles(places.get("classifier"), places.get("tagger"))

    async def _recognize_one(self, data: bytes) -> Scored:
        answers = await together(_asked(handle.recognize.remote(data)) for handle in self._handles.values())
        found = dict(zip(self._handles, answers, strict=True))
        served = await self._pair({kind: bundle_id for kind, (_, bundle_id) in found.items()})
        if served.classifier and served.tagger:
            classified, tagged = found["classifier"][0], found["tagger"][0]
            judged = tagged if served.tagger.short_side > served.classifier.short_side else classified
            return Scored(joined(classified, tagged, judged), served)
        [(recognition, _)] = answers
        return Scored(recognition, served)

    async def _pair(self, ids: dict[str, str]) -> Served:
        key = (ids.get("classifier"), ids.get("tagger"))
        if key not in self._pairs:
            infos = {kind: await self._info(kind, bundle_id) for kind, bundle_id in ids.items()}
            classifier, tagger = infos.get("classifier"), infos.get("tagger")
            assert isinstance(classifier, ClassifierInfo | None) and isinstance(tagger, TaggerInfo | None)
            self._pairs[key] = Served(classifier, tagger)
        return self._pairs[key]

    async def _info(self, kind: str, bundle_id: str) -> BundleInfo:
        """Replicas are asked by chance, and not all have the new bundle while it is rolled out."""
        for _ in range(_TRIES):
            if bundle_id in self._infos:
                break
            if info := await _asked(self._handles[kind].info.remote(bundle_id)):
                self._infos[bundle_id] = info
        else:
            raise Busy
        return self._infos[bundle_id]


async def _asked(response: Any) -> Any:
    """What a deployment answers; what it cannot do now is Busy or NotReady."""
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()  # the caller waits no longer: nor should a process work for it
        raise
    except (BackPressureError, RayActorError) as error:
        raise Busy from error
    except DeploymentUnavailableError as error:
        raise NotReady from error
    except RayServeException as error:
        raise Busy from error
