import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records.blobs import BlobError, BlobStore


@given(content=st.binary(max_size=2000))
def test_gives_back_what_was_put(tmp_path_factory, content):
    store = BlobStore(tmp_path_factory.mktemp("blobs"))
    sha256 = store.put(content)
    assert sha256 == hashlib.sha256(content).hexdigest() == store.put(content)
    assert store.get(sha256) == content


def test_leaves_no_draft_behind(tmp_path):
    store = BlobStore(tmp_path / "blobs")
    sha256 = store.put(b"bytes")
    store.put(b"bytes")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [sha256]


def test_tells_damage(tmp_path):
    store = BlobStore(tmp_path)
    sha256 = store.put(b"bytes")
    (tmp_path / sha256[:2] / sha256).write_bytes(b"other")
    with pytest.raises(BlobError, match="damaged"):
        store.get(sha256)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "0" * 63, "0" * 64 + "\n", "A" * 64])
def test_refuses_what_is_no_hash(tmp_path, name):
    with pytest.raises(BlobError, match="no SHA-256"):
        BlobStore(tmp_path).get(name)


def test_says_what_is_missing(tmp_path):
    with pytest.raises(BlobError, match="cannot be read"):
        BlobStore(tmp_path).get("0" * 64)
    (tmp_path / "file").touch()
    with pytest.raises(BlobError, match="cannot be written"):
        BlobStore(tmp_path / "file").check()
