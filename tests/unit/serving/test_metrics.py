import asyncio

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from prodrec.serving.metrics import BATCH_SIZE, DECISIONS, METRICS, REQUEST_SECONDS, REQUESTS, LocalMeter


def samples(meter: LocalMeter) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """As Prometheus reads them."""
    families = text_string_to_metric_families(asyncio.run(meter.text()))
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for family in families for sample in family.samples}


@given(st.lists(st.tuples(st.sampled_from(["/v1/recognize", "other"]), st.sampled_from(["200", "422"])), max_size=30))
def test_counters_count(noted):
    meter = LocalMeter()
    for route, status in noted:
        meter.note(REQUESTS, route=route, status=status)
    found = {labels: value for (name, labels), value in samples(meter).items() if name == "prodrec_requests_total"}
    assert found == {(("route", route), ("status", status)): noted.count((route, status)) for route, status in set(noted)}


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30))
def test_histograms_add_up(seconds):
    meter = LocalMeter()
    for took in seconds:
        meter.note(REQUEST_SECONDS, took, route="/v1/recognize")
    found = samples(meter)
    route = ("route", "/v1/recognize")
    assert found["prodrec_request_seconds_count", (route,)] == len(seconds)
    assert abs(found["prodrec_request_seconds_sum", (route,)] - sum(seconds)) < 1e-6
    for edge in REQUEST_SECONDS.buckets:
        assert found["prodrec_request_seconds_bucket", tuple(sorted((("le", str(float(edge))), route)))] == sum(took <= edge for took in seconds)


def test_meters_share_nothing():
    first, second = LocalMeter(), LocalMeter()
    first.note(DECISIONS, decision="accept")
    first.note(BATCH_SIZE, 3, kind="both")
    assert samples(second) == {}


def test_every_metric_is_told_with_its_help():
    text = asyncio.run(LocalMeter().text())
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert f"# HELP {metric.name}" in text
