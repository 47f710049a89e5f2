"""Apache Kafka and our broker, one of each for all stories."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import harness  # noqa: E402
from story import Story  # noqa: E402


@pytest.fixture(scope="session")
def pair(request, tmp_path_factory):
    """With `--target kafka` it is Kafka twice: what differs then is no difference."""
    ours = harness.Kafka if request.config.getoption("--target") == "kafka" else harness.Millstream
    brokers = [kind(tmp_path_factory.mktemp("pair") / "data").start() for kind in (harness.Kafka, ours)]
    yield brokers
    for broker in brokers:
        broker.stop()


@pytest.fixture
def story(pair):
    story = Story(pair)
    yield story
    story.close()
    assert not story.differences, f"{len(story.differences)} differences\n" + "\n".join(story.differences)
