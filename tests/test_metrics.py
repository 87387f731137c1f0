"""What is counted becomes Prometheus text."""

from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import Histogram, LabelledCounter, LabelledGauge, Metrics


def samples(metrics: Metrics) -> dict[tuple[str, str], float]:
    """Sample by (name, value of its label)."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in families
        for sample in family.samples
    }


def test_every_metric_is_exported_from_the_start() -> None:
    """A dashboard finds a zero, not a hole; labelled ones appear with their first value."""
    metrics = Metrics()
    exported = samples(metrics)
    for metric in vars(metrics).values():
        assert metric.name.startswith("gateway_")
        if not isinstance(metric, LabelledCounter | LabelledGauge):
            suffixes = ("", "_total", "_count")
            assert any((metric.name + suffix, "") in exported for suffix in suffixes), metric.name
    names = [metric.name for metric in vars(metrics).values()]
    assert len(names) == len(set(names))


def test_the_process_is_told_of_by_the_usual_names() -> None:
    """As dashboards and the load-test tool look for it."""
    exported = samples(Metrics())
    assert exported["process_cpu_seconds_total", ""] > 0
    assert exported["process_resident_memory_bytes", ""] > 2**20


def test_counters_count_and_gauges_are_read_at_the_scrape() -> None:
    """Each scrape shows the value of that moment."""
    metrics = Metrics()
    metrics.deliveries.add()
    metrics.deliveries.add(41)
    metrics.closed.add("3008")
    metrics.closed.add("3008", 2)
    metrics.closed.add('a"\n')
    connections = [7.0]
    metrics.connections.read = lambda: connections[0]
    first = samples(metrics)
    connections[0] = 8.0
    assert first["gateway_deliveries_total", ""] == 42
    assert first["gateway_connections_closed_total", "3008"] == 3
    assert first["gateway_connections_closed_total", 'a"\n'] == 1
    assert first["gateway_connections", ""] == 7
    assert samples(metrics)["gateway_connections", ""] == 8


def test_a_histogram_counts_up_to_and_including_its_bounds() -> None:
    """Prometheus buckets are cumulative and include their upper bound."""
    histogram = Histogram("x", "", bounds=(0.1, 1.0))
    histogram.observe(0.1)
    histogram.observe(0.5, times=3)
    histogram.observe(9.0)
    (family,) = [histogram.collect()]
    values = {(sample.name, sample.labels.get("le")): sample.value for sample in family.samples}
    assert values == {
        ("x_bucket", "0.1"): 1,
        ("x_bucket", "1.0"): 4,
        ("x_bucket", "+Inf"): 5,
        ("x_count", None): 5,
        ("x_sum", None): 0.1 + 1.5 + 9.0,
    }


def test_a_maximum_starts_again_at_each_scrape() -> None:
    """A peak shows once, in the interval it belongs to."""
    metrics = Metrics()
    for lag in (0.1, 0.7, 0.3):
        metrics.loop_lag_max.observe(lag)
    assert samples(metrics)["gateway_event_loop_lag_max_seconds", ""] == 0.7
    assert samples(metrics)["gateway_event_loop_lag_max_seconds", ""] == 0.0


def test_metrics_of_two_nodes_in_one_process_do_not_mix() -> None:
    """There is no global registry."""
    one, other = Metrics(), Metrics()
    one.loop_lag.observe(0.2)
    assert samples(one)["gateway_event_loop_lag_seconds_count", ""] == 1
    assert samples(other)["gateway_event_loop_lag_seconds_count", ""] == 0
