"""What Prometheus makes of cAdvisor's figures: Docker's containers get the names that a cluster gives them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.prometheus import running, wait_for

# As cAdvisor 0.55 writes them for Docker: no label `container`, and the machine itself without a name.
CADVISOR = b"""# TYPE container_memory_working_set_bytes gauge
container_memory_working_set_bytes{id="/",image="",name=""} 9e9
container_memory_working_set_bytes{id="/docker/1",image="x/rest:0.1.0",name="embedding-service-rest-1"} 1
container_memory_working_set_bytes{id="/docker/2",image="embedding-service/triton:0.1.0",name="x-triton-gpu-2"} 2
container_memory_working_set_bytes{id="/docker/3",image="grafana/grafana:13",name="embedding-service-grafana-1"} 3
"""


@pytest.fixture
def cadvisor() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(CADVISOR)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_dockers_containers_are_named_as_in_a_cluster(cadvisor: str, tmp_path: Path) -> None:
    with running(tmp_path, {"cadvisor": [cadvisor]}) as prometheus:
        wait_for(lambda: prometheus.query("container_memory_working_set_bytes"), 30)
        found = prometheus.query("container_memory_working_set_bytes")
    assert {(each["metric"]["container"], each["value"][1]) for each in found} == {("rest", "1"), ("triton", "2")}
