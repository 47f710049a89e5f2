"""Everything in this folder runs in a network and mounts of its own, where that is allowed."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import brokers  # noqa: E402

OWN_NETWORK = brokers.own_network()
