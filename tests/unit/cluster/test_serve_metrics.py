"""Pages of several processes as one, as Prometheus reads it."""

import asyncio

from prometheus_client.parser import text_string_to_metric_families

from prodrec.cluster.serve_metrics import merged
from prodrec.serving.metrics import BATCH_SIZE, METRICS, REQUESTS, LocalMeter


def test_every_line_is_told_once_with_its_process():
    meters = {"Ingress-a": LocalMeter(), "Ingress-b": LocalMeter(), "Classifier-c": LocalMeter()}
    for count, name in enumerate(("Ingress-a", "Ingress-b"), 1):
        for _ in range(count):
            meters[name].note(REQUESTS, route='/v1/"odd"\n', status="200")
    meters["Classifier-c"].note(BATCH_SIZE, 3, kind="classifier")
    text = merged((name, asyncio.run(meter.text())) for name, meter in meters.items())
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families) >= len(METRICS)
    samples = {(sample.name, sample.labels["process"]): sample for family in families for sample in family.samples if "le" not in sample.labels}
    assert samples["prodrec_requests_total", "Ingress-a"].value == 1
    assert samples["prodrec_requests_total", "Ingress-b"].value == 2
    assert samples["prodrec_requests_total", "Ingress-b"].labels["route"] == '/v1/"odd"\n'
    assert samples["prodrec_batch_size_sum", "Classifier-c"].value == 3
    assert ("prodrec_requests_total", "Classifier-c") not in samples
