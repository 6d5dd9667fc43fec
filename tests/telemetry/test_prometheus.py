"""The exposition is what Prometheus' own parser reads, and it adds up."""

from prometheus_client.parser import text_string_to_metric_families

from consona.telemetry.observer import Observer
from consona.telemetry.prometheus import metrics_text
from consona.telemetry.trace import Tracer


def samples(part):
    families = text_string_to_metric_families(metrics_text([part]).decode())
    return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}


def test_counts_durations_and_work_under_way_are_exposed():
    now = [0]
    part = Observer('sh"op', "sql", clock=lambda: now[0], tracer=Tracer())
    for _ in range(3):
        with part.operation("query", "users\n"):
            now[0] += 20_000_000
    with part.operation("query", "users\n") as op:
        op.fail("query")
    with part.operation("query", "users\n"):
        found = samples(part)
    labels = [("kind", "sql"), ("operation", "query"), ("part", 'sh"op'), ("target", "users\n")]
    get = lambda name, **more: found[(name, *sorted([*labels, *more.items()]))]
    assert get("consona_operations_total", outcome="succeeded") == 3
    assert get("consona_operations_total", outcome="failed") == 1
    assert get("consona_operations_in_flight") == 1
    assert get("consona_operation_seconds_count") == 4
    assert get("consona_operation_seconds_sum") == 0.06
    assert get("consona_operation_seconds_bucket", le="0.01") == 1
    assert get("consona_operation_seconds_bucket", le="0.025") == 4
    assert get("consona_operation_seconds_bucket", le="+Inf") == 4
