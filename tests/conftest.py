"""Fixtures that every test may use: the real data beside the project, one S3 server and one Ray a session."""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # processes share the cores: threads of each would wait for one another
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test waits for a hub, or has weights from one

# Helpers beside the tests are imported by name, here and in Ray's workers.
sys.path.insert(0, str(Path(__file__).resolve().parent))

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_configure(config: pytest.Config) -> None:
    """No deadlines for examples; and the mark of pytest-xdist, known where the package is not there."""
    from hypothesis import settings

    # A busy machine is no failure; pytest-timeout ends what hangs. Before a release: CURATE_EXAMPLES=500.
    examples = int(os.environ.get("CURATE_EXAMPLES", "40"))
    settings.register_profile("here", deadline=None, max_examples=examples)
    settings.load_profile("here")
    config.addinivalue_line("markers", "xdist_group(name): tests of one group run in one process")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under several processes a file stays together, for its fixtures, and all that need Ray do: there is one Ray."""
    for item in items:
        needs_ray = "ray_session" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("ray" if needs_ray else str(item.path)))


def pytest_collection_finish() -> None:
    """What thousands of tests are made of stays for the session: a collection of garbage need not walk it each time.

    It took a second, and so much did whatever a test timed meanwhile.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real photos and captions; tests that need it say so when it is not there."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data at {SHARED}: tests on real photos are skipped")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Downloads and digests of the tests stay out of the home directory."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("CURATE_CACHE")
    os.environ["CURATE_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["CURATE_CACHE"]
    else:
        os.environ["CURATE_CACHE"] = before


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A real S3 protocol server on loopback, reached through AWS_ENDPOINT_URL; gives its URL."""
    server = pytest.importorskip("moto.server", reason="no moto: the S3 tests are skipped").ThreadedMotoServer(
        ip_address="127.0.0.1", port=free_port(), verbose=False
    )
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    yield settings["AWS_ENDPOINT_URL"]
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    server.stop()


@pytest.fixture
def s3_root(s3_server: str, request: pytest.FixtureRequest) -> str:
    """An empty prefix in a bucket of the S3 server."""
    import fsspec

    fs = fsspec.filesystem("s3", use_listings_cache=False)
    if not fs.exists("pools"):
        fs.mkdir("pools")
    return f"s3://pools/{abs(hash(request.node.nodeid)):x}"


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One Ray for the whole session, as `--executor ray` starts it: its start is slow."""
    from curate.run.executors import _start_ray

    ray = _start_ray(2)
    yield
    ray.shutdown()
