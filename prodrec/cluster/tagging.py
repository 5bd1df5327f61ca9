"""What the scoring processes of a bulk run do: score, decide and write. They alone load torch: whoever leads the run imports this."""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

import pyarrow as pa
import ray

from prodrec.catalog import rows_table
from prodrec.cluster.fetching import DONE, KEPT, SKIPPED, TO_DO, TagPlan, json_sha256, worker_store
from prodrec.errors import BundleError, ProdrecError, RejectCode
from prodrec.images.formats import ImageLimits
from prodrec.models.bundle_info import joined_id
from prodrec.scoring.decision import Decider, Decision
from prodrec.scoring.policy import Policy
from prodrec.scoring.recognition import Product, Recognition
from prodrec.sources.listings import DECLARED

# Deaths of a process over one image after which the image is given up. Source: assumed: one may be an accident.
MOST_DEATHS = 2
# Of a slice, after which all of its images are given up until another night: nothing may go on for ever. Source: assumed: ten bad images.
MOST_BATCH_DEATHS = 20
COUNTS = ("rows_in", "rows_tagged", "rows_skipped", "rows_rejected", "listings", "accepted", "reviewed", "refused")
# What may have been the machine's fault and not the image's: another night tries again.
_UNSETTLED = {RejectCode.TOO_SLOW.value, RejectCode.CRASHED.value}
_COUNTED_AS = {"accept": "accepted", "review": "reviewed", "reject": "refused"}


class ListingScorer:
    """An actor's state: loaded bundles, the store, and the ledger of deaths."""

    def __init__(self, plan: TagPlan, ledger: Any, cpus: int) -> None:
        self.plan, self.ledger = plan, ledger
        # The same after a restart, and of this actor alone.
        self.me = ray.get_runtime_context().get_actor_id()
        self.wrong: ProdrecError | None = None
        try:
            self._load(cpus)
        except ProdrecError as error:  # raised by the first call: of what a constructor raises Ray Data keeps the text alone
            self.wrong = error

    def _load(self, cpus: int) -> None:
        import torch

        from prodrec.models.bundle import load_bundle
        from prodrec.scoring.recognizer import Recognizer

        torch.set_num_threads(cpus)
        plan, device = self.plan, "cuda" if self.plan.gpu else "cpu"
        classifier = load_bundle(plan.classifier, device, "classifier") if plan.classifier else None
        tagger = load_bundle(plan.tagger, device, "tagger") if plan.tagger else None
        if plan.bundle_id != joined_id(*(bundle.info for bundle in (classifier, tagger) if bundle)):
            raise BundleError(f"{plan.classifier or plan.tagger} was changed while the run was going on; run it again with --resume or without")
        self.store = worker_store(plan.store_url, plan.run_id)
        self.recognizer = Recognizer(classifier, tagger, device=device, threads=cpus, limits=ImageLimits(max_seconds=plan.time_limit_s))
        self.decider = Decider(self.recognizer.classifier_info, self.recognizer.tagger_info, Policy.model_validate_json(plan.policy))

    def __call__(self, listings: pa.Table) -> pa.Table:
        """Scores and writes whole listings; out comes one row: COUNTS, and `busy_s`, the seconds that it took."""
        if self.wrong:
            raise self.wrong
        start, rows = time.perf_counter(), listings.to_pylist()
        to_do = [row for row in rows if row["state"] == TO_DO]
        answers = iter(self._recognize(to_do))
        outcomes = []
        for row in to_do:
            images = [next(answers) if data is not None else Recognition(code=code, detail=detail) for data, code, detail in _images(row)]
            outcomes.append((row, images, self.decider.decide(images, row["category"])))
        if self.store and outcomes:
            self.store.write(self._tables(outcomes))
        counts = {name: [count] for name, count in _counts(rows, outcomes).items()}
        return pa.table(counts | {"busy_s": [time.perf_counter() - start]})

    def _recognize(self, listings: Sequence[dict[str, Any]]) -> list[Recognition]:
        """All images at once; where that has killed a process before, one by one, so that the bad one is found and left out."""
        images = [[data for data in row["image"] if data is not None] for row in listings]
        batch = json_sha256([[row["listing_id"], row["sha256"]] for row in listings])
        if not any(images):
            return []
        deaths = ray.get(self.ledger.begin.remote(self.me, batch))
        if deaths > MOST_BATCH_DEATHS:
            answers = [[_crashed(deaths)] * len(listing) for listing in images]
        elif deaths:
            answers = self._recognize_apart(images)
        else:
            answers = self.recognizer.recognize_listings(images)
        ray.get(self.ledger.end.remote(self.me, batch))
        return list(chain.from_iterable(answers))

    def _recognize_apart(self, listings: Sequence[Sequence[bytes]]) -> list[list[Recognition]]:
        """Those that kill are found one by one. All others are then scored in the batches that they would have been in: what is computed
        for one image depends in its last bits on how many are in its batch, and a run that was disturbed must say what it would have said."""
        alone = [[self._recognize_one(data) for data in listing] for listing in listings]
        pairs = [list(zip(listing, answers, strict=True)) for listing, answers in zip(listings, alone, strict=True)]
        left = [[data for data, answer in listing if answer.code != RejectCode.CRASHED] for listing in pairs]
        together = chain.from_iterable(self.recognizer.recognize_listings(left))
        return [[answer if answer.code == RejectCode.CRASHED else next(together) for answer in answers] for answers in alone]

    def _recognize_one(self, data: bytes) -> Recognition:
        key = hashlib.sha256(data).hexdigest()
        if ray.get(self.ledger.begin.remote(self.me, key)) >= MOST_DEATHS:
            return _crashed(MOST_DEATHS)
        [answer] = self.recognizer.recognize([data])
        ray.get(self.ledger.end.remote(self.me, key))
        return answer

    def _tables(self, outcomes: "Sequence[Outcome]") -> dict[str, pa.Table]:
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in ("listings", "predictions", "tags", "decisions", "rejects")}
        for row, images, decision in outcomes:
            said = {"listing_id": row["listing_id"], "bundle_id": self.plan.bundle_id}
            content = row["content_sha256"]
            if any(image.code in _UNSETTLED for image in images):
                content = f"unsettled {content}"  # no later run finds it unchanged
            state = {"policy_id": self.plan.policy_id, "content_sha256": content, "run_id": self.plan.run_id}
            bad = sum(bool(image.code) for image in images)
            counts = {"images_tagged": len(images) - bad, "images_rejected": bad}
            rows["listings"].append(said | state | counts | {name: row[name] for name in (*DECLARED, "input_sha256")})
            rows["decisions"].append(said | state | _decided(decision, row["uri"]))
            for uri, image in zip(row["uri"], images, strict=True):
                key = said | {"run_id": self.plan.run_id, "uri": uri or ""}
                if image.code:
                    rows["rejects"].append(key | {"code": image.code, "detail": image.detail})
                else:
                    rows["predictions"].append(key | _predicted(image))
                    rows["tags"] += [said | {"image_sha256": image.sha256} | tag for tag in _tag_rows(image)]
        return {name: rows_table(name, values) for name, values in rows.items()}


Outcome = tuple[dict[str, Any], list[Recognition], Decision]


def _crashed(deaths: int) -> Recognition:
    return Recognition(code=RejectCode.CRASHED.value, detail=f"{deaths} processes died over it")


def _images(row: dict[str, Any]) -> Iterator[tuple[bytes | None, str | None, str | None]]:
    return zip(row["image"], row["code"], row["detail"], strict=True)


def _counts(rows: Sequence[dict[str, Any]], outcomes: Sequence[Outcome]) -> dict[str, int]:
    counts = dict.fromkeys(COUNTS, 0)
    counts["rows_in"], counts["listings"] = sum(len(row["uri"]) for row in rows), len(rows)
    for row in rows:
        if row["state"] in (SKIPPED, KEPT):
            rejected = row["known"][1] if row["state"] == KEPT else 0
            counts["rows_rejected"] += rejected
            counts["rows_skipped"] += len(row["uri"]) - rejected
        elif row["state"] == DONE:
            counts["rows_tagged"] += row["known"][0]
            counts["rows_rejected"] += row["known"][1]
            counts[_COUNTED_AS[row["decision"]]] += 1
    for _, images, decision in outcomes:
        bad = sum(bool(image.code) for image in images)
        counts["rows_tagged"] += len(images) - bad
        counts["rows_rejected"] += bad
        counts[_COUNTED_AS[decision.decision]] += 1
    return counts


def _predicted(image: Recognition) -> dict[str, Any]:
    best = image.products[0] if image.products else None
    return {
        "image_sha256": image.sha256,
        "width": image.width,
        "height": image.height,
        "product": best and best.label,
        "product_title": best and best.title,
        "product_group": best and best.group,
        "probability": best and best.probability,
        "candidates": json.dumps([_candidate(product) for product in image.products]),
        "energy": image.energy,
        "quality": json.dumps(image.quality and image.quality._asdict()),
        "phash": image.phash,
    }


def _candidate(product: Product) -> dict[str, Any]:
    """Links and photos are the bundle's: they would make up most of a row."""
    title = {"title": product.title} if product.title else {}
    return {"label": product.label} | title | {"group": product.group, "probability": product.probability}


def _tag_rows(image: Recognition) -> Iterator[dict[str, Any]]:
    for number, tag in enumerate(image.tags):
        yield {"tag_no": number, "label": tag.label, "title": tag.title, "score": tag.score} | dict(zip(("x1", "y1", "x2", "y2"), tag.box, strict=True))


def _decided(decision: Decision, uris: Sequence[str]) -> dict[str, Any]:
    """Each reason names its image by the URI: the store keeps no order of images."""
    product = decision.product
    reasons = [asdict(reason) | {"uri": None if reason.image is None else uris[reason.image]} for reason in decision.reasons]
    return {
        "decision": decision.decision,
        "reasons": json.dumps(reasons),
        "product": product and product.label,
        "product_title": product and product.title,
        "product_group": product and product.group,
        "probability": product and product.probability,
    }
