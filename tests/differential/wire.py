"""Requests as frames of our own making, answers as plain dictionaries.

kafka-python's message definitions, which are Kafka's own, do the encoding; no client logic is in between. Those that it does
not have are read from Kafka's client.
"""

import functools
import importlib
import pathlib
import re
import socket
import struct
import unittest.mock
import zipfile

from kafka.protocol.api_message import ApiMessage

from harness import JARS

MODULES = ("admin", "consumer", "producer", "metadata")


@functools.cache
def message(name):
    for module in MODULES:
        found = getattr(importlib.import_module(f"kafka.protocol.{module}"), name, None)
        if found:
            return found
    with zipfile.ZipFile(next(pathlib.Path(JARS).glob("kafka-clients-*.jar"))) as jar:
        definition = jar.read(f"common/message/{name}.json").decode()
    with unittest.mock.patch("importlib.resources.read_text", return_value=definition):
        return type(ApiMessage)(name, (ApiMessage,), {})


def snake(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def build(kind, fields, values, scope):
    """An object of `kind`; dictionaries, and lists of them, become its nested kinds."""
    made, specs = {}, {snake(field["name"]): field for field in fields}
    for name, value in values.items():
        spec = specs[name]
        nested = spec["type"].removeprefix("[]")
        if spec.get("fields") and value is not None:
            inner = getattr(kind, nested, None) or getattr(scope, nested)
            many = spec["type"].startswith("[]")
            value = [build(inner, spec["fields"], item, scope) for item in (value if many else [value])]
            value = value if many else value[0]
        made[name] = value
    return kind(**made)


def request(api, version, **values):
    kind = message(f"{api}Request")
    made = build(kind, kind.json["fields"], values, kind)
    made.API_VERSION = version
    return made


class Connection:
    """One connection, one request at a time."""

    def __init__(self, address):
        self.socket = socket.create_connection(address, timeout=20)
        self.correlation = 0

    def close(self):
        self.socket.close()

    def send(self, api, version, **values):
        self.correlation += 1
        made = request(api, version, **values)
        made.with_header(self.correlation, "differential")
        self.socket.sendall(bytes(made.encode(header=True, framed=True)))

    def call(self, api, version, **values):
        """The answer as a dictionary."""
        self.send(api, version, **values)
        answer = self.frame()
        kind = message(f"{api}Response")
        return kind.decode(answer, version=version, header=True).to_dict(json=False)

    def frame(self):
        (size,) = struct.unpack(">i", self.exactly(4))
        return self.exactly(size)

    def exactly(self, count):
        data = b""
        while len(data) < count:
            chunk = self.socket.recv(count - len(data))
            if not chunk:
                raise ConnectionError("the broker hung up")
            data += chunk
        return data
