"""A FastAPI application that dispatches from an endpoint, and whose jobs share a pool."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest


class Prices(BaseHTTPRequestHandler):
    """Answers with the item, and with the port that the request came from."""

    protocol_version = "HTTP/1.1"  # keeps connections open

    def do_GET(self):
        body = json.dumps({"path": self.path, "from": self.client_address[1]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


@pytest.fixture
def prices_url():
    """Where a server with prices answers."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Prices) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def quotes(make_site, prices_url):
    """The application of the page, served, with a worker."""
    site = make_site("FastAPI", PRICES_URL=prices_url)
    site.serve("-k", "asgi", "quotes.main:app")
    site.work()
    return site


def test_an_endpoint_dispatches_jobs_that_share_a_pool(quotes):
    """Coroutine jobs that an endpoint has dispatched over HTTP use one pool of connections."""
    pear, plum = (quotes.run_by_post(f"/quotes/{item}") for item in ("pear", "plum"))
    assert (pear.state, plum.state) == ("succeeded", "succeeded")
    assert (pear.result["path"], plum.result["path"]) == ("/prices/pear", "/prices/plum")
    assert pear.result["from"] == plum.result["from"]


def test_an_endpoint_tells_that_the_receiver_refused(make_site, prices_url):
    """What the receiver refuses is a failed result of ``adispatch``: the endpoint answers 503."""
    site = make_site("FastAPI", PRICES_URL=prices_url, DISPATCHER_MODULES="quotes.resources")
    site.serve("-k", "asgi", "quotes.main:app")
    assert site.post("/quotes/pear")[0] == 503
