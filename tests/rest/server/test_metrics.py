"""Prometheus finds the figures of a process where the settings say, and nowhere else."""

from prometheus_client.parser import text_string_to_metric_families

from consona.rest.server.api_server import APIServer
from consona.rest.server.settings import ServerSettings


async def test_the_figures_of_the_requests_are_at_the_stated_path():
    api = APIServer("shop", settings=ServerSettings(metrics_path="/metrics"))

    @api.get("/posts/{id}")
    async def read(id: int) -> int:
        return id

    async with api.test_client() as client:
        for number in range(3):
            await client.get(f"/posts/{number}")
        answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]
    [total] = [
        sample.value
        for sample in samples
        if sample.name == "consona_operations_total"
        and sample.labels["part"] == "shop"
        and sample.labels["target"] == "/posts/{id}"
        and sample.labels["outcome"] == "succeeded"
    ]
    assert total == 3


async def test_they_are_closed_until_they_are_opened():
    async with APIServer("shop").test_client() as client:
        assert (await client.get("/metrics", raise_for_status=False)).status == 404
