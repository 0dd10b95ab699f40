"""What ten thousand runs cost a reader."""

import time
from pathlib import Path

import pytest

from paibench.benchmark.store.checksummed_json import encode
from paibench.benchmark.store.store import Store


@pytest.mark.slow
def test_ten_thousand_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which runs are done costs 256 listings: far less than reading the records."""
    store = Store.open(tmp_path)
    for number in range(10_000):
        key = f"{number * 16**36 + number:040x}"[-40:]
        text = "x" * 3000
        path = store.record_path(key)
        path.write_bytes(encode({"schema": 1, "key": key, "accuracy": 0.5, "text": text}))
    start = time.perf_counter()
    done = store.listing().done
    listed = time.perf_counter() - start
    read = sum(1 for _ in store.records())
    took = time.perf_counter() - start - listed
    with capsys.disabled():
        print(f"\n10,000 records of 3 KB: listed in {listed:.3f} s, read in {took:.3f} s")
    assert len(done) == read == 10_000
    assert listed < took / 5
    assert took < 20
