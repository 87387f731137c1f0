"""Metrics for Prometheus."""

from urllib.parse import quote

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api.clients import native, settled
from tests.api.conftest import Api
from tests.api.site import Site, running, settings_of


def scrape(site: Site) -> httpx.Response:
    return httpx.get(f"http://{site.internal}/metrics", trust_env=False)


def test_a_scrape_is_prometheus_text(site: Site) -> None:
    """Version 0.0.4; every family has a type, a description, a prefix that we know, and no sample twice."""
    with native(site, "ada"):
        response = scrape(site)
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = list(text_string_to_metric_families(response.text))
    assert len(families) > 20
    assert len({family.name for family in families}) == len(families)
    for family in families:
        assert family.name.startswith(("gateway_", "process_"))
        assert family.documentation.endswith(".")
        assert family.type in ("counter", "gauge", "histogram")
        samples = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples]
        assert len(set(samples)) == len(samples)


def test_metrics_are_internal(site: Site) -> None:
    """They tell what a node is used for; the public listener does not serve them."""
    assert httpx.get(f"http://{site.public}/metrics", trust_env=False).status_code == 404
    assert httpx.post(f"http://{site.internal}/metrics", trust_env=False).status_code == 405


def test_it_counts_what_happens() -> None:
    """From the socket to the socket, over every way in."""
    with (
        running(settings_of()) as site,
        Api(site, internal=True) as api,
        native(site, "ada") as ada,
        settled(site, "news") as other,
    ):
        ada.subscribe("news")
        api.call("publish", channel="news", data="from a backend")
        assert "publish" in ada.command(publish={"channel": "news", "data": "from a client"})
        assert [ada.publication()["data"] for _ in range(2)] == ["from a backend", "from a client"]
        assert [other.recv(10) for _ in range(2)] == ['"from a backend"', '"from a client"']
        api.error("publish", channel="nowhere:room", data=1)
        ada.command(publish={"channel": "closed:room", "data": 1})
        expected = {
            "gateway_connections": 2,
            "gateway_connections_unauthenticated": 0,
            "gateway_connections_accepted_total": 2,
            "gateway_subscriptions": 2,
            "gateway_channels": 1,
            "gateway_published_total": 3,
            # the first one reached its sender only
            "gateway_deliveries_total": 5,
            "gateway_broker_messages_total": 3,
            "gateway_broker_up": 1,
        }
        assert {name: site.metric(name) for name in expected} == expected
        assert site.metric("gateway_api_requests_total", method="publish") == 2
        assert site.errors("102") == 1
        assert site.metric("gateway_command_errors_total", code="103") == 1
        assert site.metric("gateway_received_bytes_total") > len("hello")
        assert site.metric("gateway_delivered_bytes_total") > 0


@pytest.mark.parametrize("method", ["nothing", "publish\n", "a" * 200, 'x{y="z"}'])
def test_labels_never_come_from_a_caller(site: Site, api: Api, method: str) -> None:
    """Names of unknown methods are not counted by name: memory of a node is bounded."""
    before = scrape(site).text
    api.http.post(f"/api/{quote(method)}", json={})
    assert set(_series(scrape(site).text)) - set(_series(before)) <= {'gateway_api_errors_total{code="104"}'}


def _series(text: str) -> list[str]:
    return [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
