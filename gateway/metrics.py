"""Metrics: plain attributes without locks or label look-ups; a scrape turns them into Prometheus text.

A node runs on one thread, so an increment needs no lock; each counter of prometheus_client would take one.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

# Seconds. Deliveries inside a node take tens of microseconds, a congested Redis takes seconds.
LATENCY_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

# Event-loop lag is judged in slices of about 3 ms.
LAG_BOUNDS = (0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.012, 0.016, 0.024, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class Counter:
    """A number that only grows."""

    __slots__ = ("description", "name", "value")

    def __init__(self, name: str, description: str) -> None:
        self.name = name
        self.description = description
        self.value = 0

    def add(self, amount: int = 1) -> None:
        self.value += amount

    def collect(self) -> Metric:
        return CounterMetricFamily(self.name, self.description, self.value)


class LabelledCounter:
    """Counters with one label, whose values are few and never come from a client."""

    __slots__ = ("description", "label", "name", "values")

    def __init__(self, name: str, label: str, description: str) -> None:
        self.name = name
        self.label = label
        self.description = description
        self.values: dict[str, int] = {}

    def add(self, label: str, amount: int = 1) -> None:
        self.values[label] = self.values.get(label, 0) + amount

    def collect(self) -> Metric:
        family = CounterMetricFamily(self.name, self.description, labels=[self.label])
        for label, value in self.values.items():
            family.add_metric([label], value)
        return family


class Gauge:
    """A number read at the scrape."""

    __slots__ = ("description", "name", "read")

    def __init__(self, name: str, description: str) -> None:
        self.name = name
        self.description = description
        self.read: Callable[[], float] = lambda: 0.0

    def collect(self) -> Metric:
        return GaugeMetricFamily(self.name, self.description, self.read())


class LabelledGauge:
    """Numbers read at the scrape, with one label."""

    __slots__ = ("description", "label", "name", "read")

    def __init__(self, name: str, label: str, description: str) -> None:
        self.name = name
        self.label = label
        self.description = description
        self.read: Callable[[], dict[str, float]] = dict

    def collect(self) -> Metric:
        family = GaugeMetricFamily(self.name, self.description, labels=[self.label])
        for label, value in self.read().items():
            family.add_metric([label], value)
        return family


class Maximum:
    """The largest value since the previous scrape."""

    __slots__ = ("description", "name", "value")

    def __init__(self, name: str, description: str) -> None:
        self.name = name
        self.description = description
        self.value = 0.0

    def observe(self, value: float) -> None:
        self.value = max(self.value, value)

    def collect(self) -> Metric:
        value, self.value = self.value, 0.0
        return GaugeMetricFamily(self.name, self.description, value)


class Histogram:
    """Observations in seconds."""

    __slots__ = ("bounds", "counts", "description", "name", "sum")

    def __init__(self, name: str, description: str, bounds: tuple[float, ...] = LATENCY_BOUNDS) -> None:
        self.name = name
        self.description = description
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def collect(self) -> Metric:
        family = HistogramMetricFamily(self.name, self.description)
        buckets: list[tuple[str, float]] = []
        running = 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            running += count
            buckets.append((bound, running))
        family.add_metric([], buckets, self.sum)
        return family


class Metrics:
    """All metrics of a node. Parts get it by constructor and touch only their own."""

    def __init__(self) -> None:
        # transports
        self.connections = Gauge("gateway_connections", "Open client connections.")
        self.unauthenticated = Gauge("gateway_connections_unauthenticated", "Connections not authenticated yet.")
        self.accepted = Counter("gateway_connections_accepted", "Client connections accepted.")
        self.refused = LabelledCounter(
            "gateway_connections_refused", "reason", "Connections refused before the upgrade."
        )
        self.closed = LabelledCounter("gateway_connections_closed", "code", "Connections closed, by close code.")
        self.bytes_in = Counter("gateway_received_bytes", "Bytes received in messages of clients.")
        self.messages_in = Counter("gateway_received_messages", "Messages received from clients.")
        self.protocol_errors = LabelledCounter(
            "gateway_protocol_errors", "reason", "Input that broke HTTP or WebSocket rules."
        )
        # sessions
        self.commands = LabelledCounter("gateway_commands", "command", "Commands of clients.")
        self.unknown_fields = Counter(
            "gateway_commands_with_unknown_fields", "Commands with fields that the protocol does not define."
        )
        self.errors = LabelledCounter("gateway_command_errors", "code", "Commands answered with an error.")
        self.connect_errors = LabelledCounter("gateway_connect_errors", "reason", "Connects that failed.")
        self.outbox_bytes = Gauge("gateway_outbox_bytes", "Bytes that slow clients have yet to read.")
        self.congested = Gauge(
            "gateway_connections_congested", "Clients that read more slowly than is written to them."
        )
        self.waiting_bytes = Gauge(
            "gateway_waiting_bytes", "All bytes that wait on the node: for clients, for reads, as parts of messages."
        )
        self.waiting_limit = Gauge("gateway_waiting_limit_bytes", "The limit of these (limits.waiting).")
        self.shed = LabelledCounter(
            "gateway_shed", "kind", "Holders of waiting bytes that were dropped to stay below limits.waiting."
        )
        # hub
        self.subscriptions = Gauge("gateway_subscriptions", "Subscriptions of local clients.")
        self.channels = Gauge("gateway_channels", "Channels with local subscribers.")
        self.deliveries = Counter("gateway_deliveries", "Publications written to clients.")
        self.delivered_bytes = Counter("gateway_delivered_bytes", "Bytes of publications written to clients.")
        self.fanout_waiting = Gauge("gateway_fanout_waiting_bytes", "Bytes of publications waiting for fan-out.")
        self.fanout_dropped = Counter(
            "gateway_fanout_dropped", "Publications dropped because a channel's fan-out fell too far behind."
        )
        self.delivery_latency = Histogram(
            "gateway_delivery_latency_seconds", "From the publish on any node to the write on this one."
        )
        # broker
        self.published = Counter("gateway_published", "Publishes the broker accepted.")
        self.publish_errors = LabelledCounter("gateway_publish_errors", "reason", "Publishes that failed.")
        self.publish_latency = Histogram(
            "gateway_publish_latency_seconds", "From a publish on this node to the broker's acceptance."
        )
        self.broker_up = Gauge("gateway_broker_up", "1 when this node hears itself through the broker.")
        self.broker_messages = Counter("gateway_broker_messages", "Messages received from the broker.")
        self.broker_reconnects = LabelledCounter("gateway_broker_reconnects", "link", "Links to the broker that broke.")
        self.broker_invalid = Counter("gateway_broker_invalid", "Messages of the broker that could not be read.")
        self.broker_pending = Gauge("gateway_broker_pending_bytes", "Bytes of publishes in flight to the broker.")
        self.relayed = LabelledCounter(
            "gateway_relayed_requests",
            "outcome",
            "Requests of clients over HTTP for sessions on other nodes: answered, no such node, no answer (too late or "
            "a link broke), refused (not passed on: Redis is away or refuses, or too much waits).",
        )
        self.relayed_waiting = Gauge("gateway_relayed_requests_waiting", "Such requests that wait for their answers.")
        # services that emit
        self.emitters_heard = Gauge("gateway_emitters_heard", "1 while this node listens to services that emit.")
        self.emitters_unheard = Counter(
            "gateway_emitters_unheard_seconds",
            "Seconds, at most, for which no node listened to services that emit; counted by the node that begins.",
        )
        self.emitted = Counter("gateway_emitted", "Publications of what services have emitted.")
        self.emitted_dropped = LabelledCounter(
            "gateway_emitted_dropped", "reason", "What services have emitted and nobody gets; the log has the reasons."
        )
        # streams
        self.recoveries_asked = Counter("gateway_recoveries_asked", "Subscribes that asked for recovery.")
        self.recoveries = Counter("gateway_recoveries_done", "Subscriptions that got everything they had missed.")
        self.recovery_failures = LabelledCounter(
            "gateway_recoveries_failed",
            "reason",
            "Subscriptions that were told that something they missed is gone: another epoch, beyond the range of the "
            "stream, or a position in the future.",
        )
        self.recovered_publications = Counter("gateway_recovered_publications", "Publications delivered by recovery.")
        self.refills = Counter("gateway_refills", "Gaps that this node closed from a stream.")
        self.refilled_publications = Counter("gateway_refilled_publications", "Publications that closed such gaps.")
        self.latest_skipped = Counter(
            "gateway_latest_skipped", "Latest values that a newer one of the same key replaced before delivery."
        )
        self.gaps = Counter("gateway_gaps_announced", "Subscriptions told that publications may be missing.")
        self.memberships_untold = Counter(
            "gateway_memberships_untold",
            "Joins and leaves that were not sent because the channel has too many members.",
        )
        # hooks
        self.hook_calls = LabelledCounter("gateway_hook_calls", "hook", "Calls of hooks.")
        self.hook_errors = LabelledCounter(
            "gateway_hook_errors",
            "hook",
            "Calls of hooks that raised an exception, returned a wrong type, or (over HTTP) got no usable answer.",
        )
        self.hook_timeouts = LabelledCounter("gateway_hook_timeouts", "hook", "Calls of hooks that took too long.")
        self.hook_events_waiting = Gauge(
            "gateway_hook_events_waiting", "Events for hooks that are read and not handled; on one node at a time."
        )
        self.hook_events_lag = Gauge("gateway_hook_events_lag_seconds", "Age of the oldest of these.")
        self.hook_events_dropped = LabelledCounter(
            "gateway_hook_events_dropped",
            "reason",
            "Events for hooks that were dropped: too many waited (full), or the hook failed for a day (expired).",
        )
        self.hooks_running = Gauge("gateway_hooks_running", "Calls of hooks that run now.")
        self.hook_circuits = LabelledGauge(
            "gateway_hook_circuit_open", "hook", "1 while a hook over HTTP is not asked, since its backend fails."
        )
        # node
        self.faults = LabelledCounter(
            "gateway_faults", "part", "Internal errors, caught where they happened; the log has them with a traceback."
        )
        self.loop_lag = Histogram(
            "gateway_event_loop_lag_seconds", "How late the event loop ran a timer, measured every 100 ms.", LAG_BOUNDS
        )
        self.loop_lag_max = Maximum(
            "gateway_event_loop_lag_max_seconds", "The largest event-loop lag since the previous scrape."
        )
        self.api_requests = LabelledCounter("gateway_api_requests", "method", "Requests of the HTTP API.")
        self.api_errors = LabelledCounter("gateway_api_errors", "code", "Requests of the HTTP API that failed.")

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client at a scrape."""
        for metric in vars(self).values():
            yield metric.collect()

    def render(self) -> bytes:
        """The Prometheus text format 0.0.4."""
        registry = CollectorRegistry()
        registry.register(self)
        # CPU time, memory and files of the process, by the names that all exporters use; on Linux only.
        ProcessCollector(registry=registry)
        return generate_latest(registry)
