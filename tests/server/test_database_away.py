"""Rule: a server that cannot reach its database says so and until when, and goes on by itself when it is back."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from segue.errors import PeerError
from segue.server.sql import SqlStore
from segue.testing.postgresql import Postgresql
from segue.testing.server import SYSTEM, bundle_of, open_bench


@pytest.fixture
def url(postgresql_server: Postgresql) -> Iterator[str]:
    yield postgresql_server.empty_database("segue")
    postgresql_server.start_again()


@pytest.mark.timeout(90)
async def test_503_and_back(url: str, postgresql_server: Postgresql, tmp_path: Path) -> None:
    with closing(SqlStore(url)) as store:
        async with open_bench(store, tmp_path) as bench:
            for version in (1, 2):
                await bench.server.publish(bundle_of(version))
            await bench.beat("n1")
            permit = (await bench.ask("n1")).permit
            postgresql_server.stop()
            for _ in range(2):
                response = await bench.http.get(f"/v1/systems/{SYSTEM}/status")
                assert (response.status_code, response.headers["retry-after"]) == (503, "1")
                assert response.json()["family"] == "peer"
                assert "does not answer" in response.json()["message"]
            with pytest.raises(PeerError) as raised:
                await bench.beat("n1")
            assert raised.value.retry_after_s == 1
            postgresql_server.start_again()
            for attempt in range(20):
                try:
                    await bench.beat("n1")
                    break
                except PeerError:
                    assert attempt < 19, "connections from before are not given up"
            assert (await bench.ask("n1")).permit == permit
            await bench.give_back("n1", permit)
