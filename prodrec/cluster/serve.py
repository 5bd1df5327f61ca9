"""The HTTP application on Ray Serve: an ingress that checks and joins, and a deployment for each bundle that scales by itself.

`build` is what serve_config.yaml names. The bundle of a deployment is its `user_config`: changed by `serve deploy`, it is loaded
beside the old one, which answers until then, so no request is lost.
"""

import asyncio
import logging
import os
from typing import Annotated, Any, Literal

from prodrec.cluster.session import ray_session

# isort: split
import ray
from pydantic import Field
from ray import serve
from ray.serve.handle import DeploymentHandle

from prodrec.cluster.serve_backend import KINDS, RayBackend
from prodrec.cluster.serve_metrics import ClusterMeter, process_name
from prodrec.cluster.serve_ports import keep_to_loopback
from prodrec.config import Frozen
from prodrec.errors import ConfigError, Reject
from prodrec.machine import usable_cores
from prodrec.models.bundle import load_bundle
from prodrec.models.bundle_files import bundle_folder
from prodrec.models.bundle_info import BundleInfo
from prodrec.scoring.recognition import Recognition
from prodrec.serving.app import create_app
from prodrec.serving.backend import Ask, Explained
from prodrec.serving.engine import Engine
from prodrec.serving.metrics import LocalMeter
from prodrec.serving.run import check_port, check_settings, page_url, until_interrupted
from prodrec.serving.settings import EngineOptions, ServingSettings
from prodrec.serving.unavailable import Busy, NotReady

_log = logging.getLogger("ray.serve")

keep_to_loopback()

APP = "prodrec"
# Requests that Serve passes on at once to an ingress or a bundle; the ingress' own limit (`ServingSettings.max_in_flight`) is
# lower and answers with a problem. Source: assumed.
_ONGOING = 1024
# For the requests that a process holds when it is to end. Source: `ServingSettings.request_timeout_s` and a moment.
_GRACE_S = 35


class ModelSettings(Frozen):
    """`user_config` of the deployments Classifier and Tagger.

    Attributes:
        bundle: folder or URI.
        device: `cpu` or `cuda`.
        engine: see `EngineOptions`; `threads` are by default the CPUs that the deployment reserves.
    """

    bundle: str
    device: Literal["cpu", "cuda"] = "cpu"
    engine: EngineOptions = EngineOptions()


class Model:
    """One bundle behind a handle."""

    def __init__(self, kind: str) -> None:
        self.kind, self.meter = kind, LocalMeter()
        self.engine: Engine | None = None
        self.place: str | None = None
        self.known: dict[str, BundleInfo] = {}

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Loads another bundle; requests go on with the one before until it is there, and if it cannot be loaded.

        Were that an error, Serve would end the process, and one wrong path all of them.
        """
        try:
            settings = ModelSettings.model_validate(user_config)
            self.engine, self.place = await asyncio.to_thread(self._load, settings), settings.bundle
        except Exception as error:  # memory that is not there for two bundles, too
            if self.engine is None:
                raise
            _log.error("the %s stays as it is: %s: %s", self.kind, type(error).__name__, error)
        info = self._info(self.engine)
        self.known[info.bundle_id] = info

    async def recognize(self, data: bytes) -> tuple[Recognition, str]:
        """The answer and the id of the bundle that gave it."""
        engine = self._engine()
        found = await engine.recognize(data)
        return found.recognition, found.served.bundle_id

    def check_health(self) -> None:
        """Asked by Serve, which starts the process again where this raises."""
        if self.engine:
            self.engine.check()

    async def explain(self, data: bytes, ask: Ask) -> Explained | Exception:
        """An error that is the caller's comes as a value: Ray would log and wrap it."""
        try:
            return await self._engine().explain(data, ask)
        except (Reject, ConfigError, Busy) as error:
            return error

    async def photo(self, photo: str) -> bytes | None:
        """The reference photo of a label by its id, JPEG."""
        return await self._engine().photo(photo)

    async def metrics(self) -> tuple[str, str]:
        """The name of this process, and what it counted."""
        return process_name(), await self.meter.text()

    async def bundle(self) -> str | None:
        """Where the bundle lies that is served now."""
        return self.place

    async def info(self, bundle_id: str | None = None) -> BundleInfo | None:
        """Of the bundle as it is now, or of one that has been served by this process."""
        return self._info(self._engine()) if bundle_id is None else self.known.get(bundle_id)

    def _load(self, settings: ModelSettings) -> Engine:
        threads = settings.engine.threads or max(1, round(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)))
        bundle = load_bundle(settings.bundle, settings.device, self.kind)
        classifier, tagger = (bundle if self.kind == kind else None for kind in KINDS)
        return Engine(classifier, tagger, self.meter, settings.device, settings.engine.model_copy(update={"threads": threads}))

    def _engine(self) -> Engine:
        if self.engine is None:
            raise NotReady(f"the deployment of the {self.kind} has no user_config; give it one with the key bundle")
        return self.engine

    def _info(self, engine: Engine) -> BundleInfo:
        info = engine.served.classifier or engine.served.tagger
        assert info is not None
        return info


@serve.ingress()
class Ingress:
    """Checks, routes, joins and decides; holds no bundle."""

    def __init__(self, settings: dict[str, Any], classifier: DeploymentHandle | None, tagger: DeploymentHandle | None) -> None:
        self.settings = ServingSettings.model_validate(settings)
        self.backend = RayBackend(classifier, tagger, self.settings)
        self.meter = ClusterMeter([handle for handle in (classifier, tagger) if handle])

    def __serve_build_asgi_app__(self) -> Any:
        return create_app(self.backend, self.settings, self.meter, names_requests=False)

    async def metrics(self) -> tuple[str, str]:
        """The name of this process, and what it counted."""
        return await self.meter.own()


_ingress = serve.deployment(Ingress, name="Ingress", max_ongoing_requests=_ONGOING, graceful_shutdown_timeout_s=_GRACE_S, ray_actor_options={"num_cpus": 0})


class ServeArgs(Frozen):
    """`args` of the application in serve_config.yaml.

    Attributes:
        models: `classifier`, `tagger` or both; each needs a deployment `Classifier` or `Tagger` with a `user_config`.
        settings: limits, keys and switches of the ingress.
    """

    models: Annotated[tuple[Literal["classifier", "tagger"], ...], Field(min_length=1)] = ("classifier", "tagger")
    settings: ServingSettings = ServingSettings()


def build(args: dict[str, Any]) -> serve.Application:
    """The application; `args` as `ServeArgs`."""
    told = ServeArgs.model_validate(args)
    models = {kind: _deployment(kind).bind(kind) for kind in told.models}
    return _ingress.bind(told.settings.model_dump(mode="json"), models.get("classifier"), models.get("tagger"))


def _deployment(kind: str, **options: Any) -> Any:
    """New processes stand beside the old ones before those are ended: with the default of Serve a single one would leave a gap."""
    kept = {"max_ongoing_requests": _ONGOING, "health_check_period_s": 5, "max_surge_percent": 100, "graceful_shutdown_timeout_s": _GRACE_S}
    return serve.deployment(Model, name=kind.capitalize(), **kept, **options)


def serve_on_ray(classifier: str | None, tagger: str | None, settings: ServingSettings, host: str, port: int, gpu: bool) -> None:
    """Serves on this machine's own Ray until it is interrupted.

    Raises: BundleError, ConfigError: what is wrong with bundles, settings or the port.
    """
    check_port(host, port)
    check_settings(settings)
    # A registry's current bundle of now: processes that start later must not answer by another one.
    uris = {kind: bundle_folder(uri).uri for kind, uri in zip(KINDS, (classifier, tagger), strict=True) if uri}
    for kind, uri in uris.items():  # whole, weights too: what is wrong is said here in one line
        load_bundle(uri, "cpu", kind)
    os.environ.setdefault("RAY_worker_niceness", "0")  # somebody waits for these processes, as nobody does for a nightly job's
    with ray_session():
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        serve.start(proxy_location="HeadOnly", http_options={"host": host, "port": port}, logging_config={"enable_access_log": False})
        try:
            serve.run(application(uris, settings, gpu), name=APP)
            print(f"listening on {page_url(host, port)} (Ctrl-C ends it)", flush=True)
            until_interrupted()
        finally:
            serve.delete(APP)  # which waits for the requests under way


def application(uris: dict[str, str], settings: ServingSettings, gpu: bool = False, replicas: int = 1) -> serve.Application:
    """The application on one machine: its bundles share the cores, and leave some for a bulk run."""
    shares = {"num_gpus": 1 / len(uris), "num_cpus": 0.4} if gpu else {"num_cpus": 0.4}
    device = "cuda" if gpu else "cpu"
    engine = settings.engine.model_copy(update={"threads": settings.engine.threads or usable_cores()}).model_dump()
    models = {
        kind: _deployment(kind, num_replicas=replicas, ray_actor_options=shares, user_config={"bundle": uri, "device": device, "engine": engine}).bind(kind)
        for kind, uri in uris.items()
    }
    return _ingress.bind(settings.model_dump(mode="json"), models.get("classifier"), models.get("tagger"))
