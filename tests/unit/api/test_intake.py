import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.intake import Upload, check_upload, combine
from api.problems import TooLarge
from grading.hand_in import read_hand_in, read_hand_in_files
from grading.outcomes import BadInput


def archive(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as written:
        for name in names:
            written.writestr(name, "x = 1")
    return file.getvalue()


@pytest.mark.threat(42, 43)
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("", b"x", "without a name"),
        ("answers.docx", b"x", "neither .py nor .ipynb nor .zip"),
        ("model.pt", b"x", "neither"),
        ("answers", b"x", "neither"),
        ("answers.py", b"", "is empty"),
        ("answers.py", b" \n\t\n", "is empty"),
        ("answers.zip", b"x = 1", "not a zip archive"),
        ("answers.zip", archive("../evil.py"), "evil.py"),
        ("answers.zip", archive("notes.txt"), "no .py and no .ipynb"),
        ("answers\u202eyp.py", b"x", "invisible characters"),
        ("a" * 300 + ".py", b"x", "longer than"),
    ],
)
def test_refuses_with_a_reason(name, content, message):
    with pytest.raises(BadInput, match=message):
        check_upload(name, content)


@pytest.mark.parametrize("name", ["C:\\Users\\me\\answers.py", "folder/answers.py", "answers.py"])
def test_folders_that_browsers_send_are_dropped(name):
    assert check_upload(name, b"x = 1") == Upload(name="answers.py", content=b"x = 1")


modules = st.dictionaries(
    st.from_regex(r"[a-z]{1,8}\.py", fullmatch=True), st.binary(min_size=1, max_size=50), min_size=2
)


@given(files=modules, order=st.randoms())
def test_several_modules_become_the_same_archive_in_any_order(files, order):
    uploads = [Upload(name=name, content=content) for name, content in files.items()]
    combined = combine(uploads, 10**6)
    order.shuffle(uploads)
    assert combine(uploads, 10**6) == combined
    with zipfile.ZipFile(io.BytesIO(combined.content)) as written:
        assert {name: written.read(name) for name in written.namelist()} == files


def test_of_several_files_each_is_code_with_its_own_name():
    module, notebook = Upload(name="a.py", content=b"x"), Upload(name="b.ipynb", content=b"{}")
    with pytest.raises(BadInput, match=r"c\.zip"):
        combine([module, Upload(name="c.zip", content=archive("d.py"))], 10**6)
    with pytest.raises(BadInput, match="Two files"):
        combine([module, Upload(name="A.py", content=b"y")], 10**6)
    with pytest.raises(TooLarge):
        combine([module, Upload(name="c.py", content=b"y" * 100)], 100)
    assert combine([notebook, module], 10**6) == combine([module, notebook], 10**6)


def test_files_through_the_service_and_the_command_are_one_hand_in():
    files = [
        ("b.ipynb", b'{"cells": [{"cell_type": "code", "source": "y = 1"}]}'),
        ("__init__.py", b""),
        ("a.py", b"x = 1"),
    ]
    stored = combine([check_upload(name, content) for name, content in files], 10**6)
    assert read_hand_in(stored.name, stored.content) == read_hand_in_files(files)
