"""Fixtures of all tests with real clients.

`--target kafka` runs them against Apache Kafka: a test that fails there asks for something that Kafka does not do.
"""

import itertools
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import harness  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--target", choices=list(harness.TARGETS), default="millstream")


@pytest.fixture(scope="session")
def target(request):
    """The kind of broker that is tested."""
    return harness.TARGETS[request.config.getoption("--target")]


@pytest.fixture(scope="session")
def broker(target, tmp_path_factory):
    """One broker for all tests: they use topics and groups of their own."""
    broker = target(tmp_path_factory.mktemp("broker") / "data").start()
    yield broker
    log = broker.log.read_text()
    assert broker.process.poll() is None, f"the broker died: {log[-3000:]}"
    assert "panicked" not in log, log[log.index("panicked") :][:3000]
    broker.stop()


@pytest.fixture
def own_broker(target, tmp_path):
    """A broker that the test may kill."""
    broker = target(tmp_path / "data").start()
    yield broker
    broker.stop()


NUMBERS = itertools.count(1)


@pytest.fixture
def name(request):
    """A name that no other test uses, for a topic or group."""
    return f"{request.node.originalname.removeprefix('test_').replace('_', '-')}-{next(NUMBERS)}"
