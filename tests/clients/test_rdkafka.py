"""The crate rdkafka, which builds librdkafka itself, with default settings: the checks are in `xtask/librdkafka-load`."""

import os
import subprocess

from harness import TARGET

CLIENT = os.environ.get("RDKAFKA_CLIENT", str(TARGET / "debug" / "librdkafka-load"))


def test_records_go_there_and_back(broker, name):
    done = subprocess.run([CLIENT, "round-trip", broker.bootstrap, name, "5000"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
