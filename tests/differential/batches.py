"""Record batches with every field as a story wants it, also as no client would send it."""

import gzip
import struct
import time
import zlib

from kafka.record._crc32c import crc as crc32c

# Some minutes ago: old records would go away while the stories are told, by retention.
TIME = int(time.time()) * 1000 - 600_000


def varint(number):
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number & ~0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number & 0x7F)
    return bytes(out)


def text(value):
    return varint(-1) if value is None else varint(len(value)) + value


def record(delta, key=None, value=b"v", headers=(), time_delta=0, attributes=0):
    pairs = b"".join(text(name) + text(content) for name, content in headers)
    body = bytes([attributes]) + varint(time_delta) + varint(delta) + text(key) + text(value) + varint(len(headers)) + pairs
    return varint(len(body)) + body


def compress(codec, body):
    if codec == 1:
        return gzip.compress(body, mtime=0)
    if codec == 2:
        import cramjam

        block = bytes(cramjam.snappy.compress_raw(body))
        return b"\x82SNAPPY\x00" + struct.pack(">iii", 1, 1, len(block)) + block
    if codec == 3:
        import lz4.frame

        return lz4.frame.compress(body, block_linked=False)
    if codec == 4:
        import zstandard

        return zstandard.compress(body)
    return body


def batch(*records, codec=0, **changed):
    """A batch of `records` (what `record` gives, or values); `changed` sets fields of its header."""
    records = [item if isinstance(item, bytes) and item[:1] != b"v" else record(n, value=item) for n, item in enumerate(records)]
    field = dict(
        base_offset=0, length=None, leader_epoch=-1, magic=2, crc=None, attributes=codec, last_delta=len(records) - 1,
        base_time=TIME, max_time=TIME, producer_id=-1, epoch=-1, sequence=-1, count=len(records), body=None,
    )  # fmt: skip
    assert changed.keys() <= field.keys(), changed
    field |= changed
    body = field["body"] if field["body"] is not None else compress(codec, b"".join(records))
    covered = struct.pack(
        ">hiqqqhii", field["attributes"], field["last_delta"], field["base_time"], field["max_time"],
        field["producer_id"], field["epoch"], field["sequence"], field["count"],
    ) + body  # fmt: skip
    crc = crc32c(covered) if field["crc"] is None else field["crc"]
    rest = struct.pack(">ibI", field["leader_epoch"], field["magic"], crc) + covered
    length = len(rest) if field["length"] is None else field["length"]
    return struct.pack(">qi", field["base_offset"], length) + rest


def old_message(magic, value=b"v"):
    """A message of the formats before batches."""
    stamp = struct.pack(">q", TIME) if magic else b""
    body = bytes([magic, 0]) + stamp + struct.pack(">i", -1) + struct.pack(">i", len(value)) + value
    message = struct.pack(">I", zlib.crc32(body)) + body
    return struct.pack(">qi", 0, len(message)) + message
