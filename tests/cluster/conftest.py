"""One cluster of three brokers for most stories, made well again before each; and places for clusters of a story's own."""

import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
for folder in (HERE, HERE.parent / "crashes", HERE.parent / "differential", HERE.parent / "clients"):
    sys.path.append(str(folder))

from brokers import Cluster  # noqa: E402
from steps import heal  # noqa: E402


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """Three brokers that live as long as the tests."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), settings=["min.insync.replicas=2"]).start()
    yield cluster
    cluster.stop()
    cluster.check_logs()


@pytest.fixture
def three(shared):
    """Three brokers that are well."""
    heal(shared)
    yield shared
    shared.check_logs()


@pytest.fixture
def own(tmp_path):
    """Makes clusters that a story may spoil."""
    made = []

    def make(**options):
        made.append(Cluster(tmp_path / f"cluster-{len(made)}", **options))
        return made[-1]

    yield make
    for cluster in made:
        cluster.stop()
    for cluster in made:
        cluster.check_logs()
