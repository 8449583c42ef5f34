import gzip

import numpy as np
import pytest

from picojoule.data.idx import read_idx
from picojoule.errors import BadInput

PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
HEADER = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4])
GOOD = HEADER + PIXELS.tobytes()
ZIPPED = gzip.compress(GOOD, mtime=0)


def read(path):
    return read_idx(path, (2, 3, 4), "download it from https://example.org")


@pytest.mark.parametrize(
    "file_name, content",
    [("a.gz", ZIPPED), ("a", GOOD), ("a.gz", GOOD), ("a", ZIPPED)],
    ids=["gzipped", "plain", "plain named gz", "gzipped named plain"],
)
def test_reads(tmp_path, file_name, content):
    (tmp_path / file_name).write_bytes(content)
    assert np.array_equal(read(tmp_path / "a"), PIXELS)


@pytest.mark.parametrize(
    "content, got",
    [
        (ZIPPED[:-9], r"a truncated gzip file of \d+ bytes"),
        (ZIPPED[:-8] + b"12345678", r"a damaged gzip file of \d+ bytes"),
        (ZIPPED[:10] + b"\xff" * 30, r"a damaged gzip file of \d+ bytes"),
        (GOOD[:-1], "23 bytes instead of 24"),
        (GOOD + b"x", "25 bytes instead of 24"),
        (HEADER[:10], "a file that begins with"),
        (b"<!DOCTYPE html>", "a file that begins with b'<!DO'"),
        (b"\0\0\x0d\x03" + GOOD[4:], "a file that begins with"),
        (b"\0\0\x08", "a file that begins with"),
        (b"", "a file that begins with b''"),
        (bytes([0, 0, 8, 1, 0, 0, 0, 24]) + PIXELS.tobytes(), "got 24;"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refuses_in_one_sentence(tmp_path, content, got):
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(BadInput, match="a.gz: expected idx data of 2 x 3 x 4 bytes, (got )?" + got) as caught:
        read(tmp_path / "a")
    assert str(caught.value).endswith("; download it from https://example.org")
    assert "\n" not in str(caught.value)


def test_names_the_missing_file(tmp_path):
    with pytest.raises(BadInput, match=r"a\.gz is missing .*; download it from https://example.org"):
        read(tmp_path / "a")


def test_unreadable_file(tmp_path):
    (tmp_path / "a.gz").mkdir()
    (tmp_path / "a").mkdir()
    with pytest.raises(BadInput, match="cannot be read"):
        read(tmp_path / "a")
