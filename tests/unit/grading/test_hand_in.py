"""Reading what was handed in: every odd or hostile file gets a clear message, everything else its source text."""

import hashlib
import io
import json
import random
import stat
import struct
import time
import zipfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grading import archive, parser_child
from grading.hand_in import HandIn, read_hand_in, read_hand_in_files
from grading.outcomes import BadInput


def notebook(*sources: object, **fields: object) -> bytes:
    cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": source} for source in sources]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells, **fields}).encode()


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression, compresslevel=1) as target:
        for name, content in entries:
            target.writestr(name, content)
    return buffer.getvalue()


def sources(hand_in: HandIn) -> list[str]:
    return [piece.source for file in hand_in.files for piece in file.pieces]


def refusal(filename: str, content: bytes) -> str:
    with pytest.raises(BadInput) as caught:
        read_hand_in(filename, content)
    message = str(caught.value)
    assert message.endswith(".")
    assert message.isprintable()
    assert "Traceback" not in message
    return message


# --- modules


def test_a_module_is_one_piece_and_known_by_its_hash() -> None:
    content = b"import torch\nx = 1\n"
    hand_in = read_hand_in("answers.py", content)
    assert sources(hand_in) == ["import torch\nx = 1\n"]
    assert hand_in.sha256 == hashlib.sha256(content).hexdigest()
    assert hand_in.notices == ()


@pytest.mark.parametrize(
    "content",
    [
        "größe = 'ä'\n".encode(),
        "\ufeffgröße = 'ä'\n".encode(),
        "# -*- coding: latin-1 -*-\ngröße = 'ä'\n".encode("latin-1"),
        "größe = 'ä'\r\n".encode(),
        "größe = 'ä'\r".encode(),
        "\fgröße = 'ä'\n".encode(),
    ],
    ids=["utf-8", "BOM", "coding line", "CRLF", "CR", "form feed"],
)
def test_encodings_and_line_ends(content: bytes) -> None:
    (source,) = sources(read_hand_in("a.py", content))
    assert "größe = 'ä'\n" in source


@pytest.mark.threat(42, 43, 44, 45)
@pytest.mark.parametrize(
    ("filename", "content", "words"),
    [
        ("a.py", b"", "is empty"),
        ("a.py", b"  \n\n", "no Python code"),
        ("a.ipynb", notebook(), "no Python code"),
        ("a.py", b"x = '\xff\xfe'", "not UTF-8"),
        ("a.py", "x = 1".encode("utf-16"), "UTF-16"),
        ("a.py", b"# coding: utf-7\nx = 1", "encoding is utf-7"),
        ("a.py", b"# coding: no-such-thing\nx = 1", "not UTF-8"),
        ("a.py", b"x = 1\0", "NUL"),
        ("a.pdf", b"x", "no .py, .ipynb or .zip"),
        ("weights.pt", b"PK\x03\x04", "no .py, .ipynb or .zip"),
        ("", b"x = 1", "without a name"),
        ("a\u202eyp.py", b"x = 1", "invisible"),
        ("a\0.py", b"x = 1", "invisible"),
        ("a\udc80.py", b"x = 1", "invisible"),
        ("a" * 300 + ".py", b"x = 1", "longer than"),
        ("a.py", b"x" * (parser_child.MAX_SOURCE_CHARACTERS + 1), "KiB of code"),
        ("a.py", b" " * (archive.MAX_UPLOAD_BYTES + 1), "MiB"),
        ("a.zip", b"this is no archive", "not a zip"),
        ("a.ipynb", b"{", "not valid JSON"),
        ("a.ipynb", b"[1]", "no table of cells"),
        ("a.ipynb", b"\xff", "not UTF-8"),
        ("a.ipynb", b"[" * 100_000, "nested too deeply"),
        ("a.ipynb", notebook("x = 1", nbformat=2), "format 2"),
        ("a.ipynb", notebook("x = 1", nbformat=5), "format 5"),
        ("a.ipynb", notebook("x = 1", nbformat=[4]), "format [4]"),
        ("a.ipynb", b'{"nbformat": 4}', "no list of cells"),
        ("a.ipynb", b'{"nbformat": 3, "worksheets": 1}', "no list of cells"),
        ("a.ipynb", notebook(*["x"] * (parser_child.MAX_CELLS + 1)), "cells"),
        ("a.ipynb", notebook("x" * (parser_child.MAX_SOURCE_CHARACTERS + 1)), "KiB of code"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_reason(filename: str, content: bytes, words: str) -> None:
    assert words in refusal(filename, content)


def test_a_path_is_taken_for_its_last_part() -> None:
    assert read_hand_in("C:\\work\\answers.py", b"x = 1").files[0].name == "answers.py"
    assert read_hand_in("../up/answers.py", b"x = 1").files[0].name == "answers.py"


def test_several_files_are_read_modules_first_and_by_name_in_whatever_order_they_come() -> None:
    files = [("a.ipynb", notebook("z = 3")), ("c.py", b"x = 1\n"), ("b.py", b"y = 2\n")]
    hand_in = read_hand_in_files(files)
    assert [file.name for file in hand_in.files] == ["b.py", "c.py", "a.ipynb"]
    assert hand_in == read_hand_in_files(files[::-1])
    assert read_hand_in_files(files[:1]) == read_hand_in(*files[0])
    assert read_hand_in("my.zip", zipped(*files)).files == hand_in.files
    for bad, words in (
        ([], "Nothing"),
        ([*files, ("B.py", b"z")], "Two files"),
        ([*files, ("c.zip", b"z")], "no .py and no .ipynb"),
        ([*files, ("d.py", b"")], "is empty"),
    ):
        with pytest.raises(BadInput, match=words):
            read_hand_in_files(bad)


# --- notebooks


def test_cells_in_either_form_and_numbered_as_a_person_counts() -> None:
    cells: list[Any] = [
        {"cell_type": "markdown", "source": "# Title"},
        {"cell_type": "code", "source": "a = 1\nb = 2"},
        {"cell_type": "code", "source": ["c = 3\n", "d = 4"]},
        {"cell_type": "code", "source": ["e = 5", "f = 6"], "metadata": "nonsense", "outputs": 7},
        {"cell_type": "raw", "source": "no code"},
        {"cell_type": "code", "source": None},
        "nonsense",
    ]
    hand_in = read_hand_in("n.ipynb", json.dumps({"cells": cells, "metadata": [1, {"x": None}]}).encode())
    assert [(piece.label, piece.source) for piece in hand_in.files[0].pieces] == [
        ("n.ipynb, cell 2", "a = 1\nb = 2"),
        ("n.ipynb, cell 3", "c = 3\nd = 4"),
        ("n.ipynb, cell 4", "e = 5\nf = 6"),
    ]


def test_notebook_format_3() -> None:
    sheet = {"cells": [{"cell_type": "heading", "source": "x"}, {"cell_type": "code", "input": ["a = 1\n", "b = 2"]}]}
    content = json.dumps({"nbformat": 3, "worksheets": [sheet, "nonsense"]}).encode()
    assert sources(read_hand_in("n.ipynb", content)) == ["a = 1\nb = 2"]


@pytest.mark.parametrize(
    ("cell", "python"),
    [
        ("%matplotlib inline\nx = 1", "pass\nx = 1"),
        ("%time x = f()\ny = 2", "x = f()\ny = 2"),
        ("%%time\nx = 1\n!ls", "\nx = 1\npass"),
        ("# a comment\n%%capture out\nx = 1", "# a comment\n\nx = 1"),
        ("%%bash\nls | head\n", "\n\n"),
        ("%%writefile notes.txt\nx = 1", "\n"),
        ("!pip install \\\n  torch\nx = 1", "pass\n\nx = 1"),
        ("files = !ls\nx = 1", "pass\nx = 1"),
        ("?torch\nx = 1", "pass\nx = 1"),
        ("pip install einops\ncd ..\nx = 1", "pass\npass\nx = 1"),
        ("%%capture\n%%time\nx = 1", "\npass\nx = 1"),
        ("torch.nn??\nx = 1", "pass\nx = 1"),
        ("if x:\n    !ls\n    %cd ..", "if x:\n    pass\n    pass"),
        ("  x = 1\n  y = 2", "  x = 1\n  y = 2"),
        ('s = """\n%time\n!ls\n"""\nx = (1\n% 2)\n%cd', 's = """\n%time\n!ls\n"""\nx = (1\n% 2)\npass'),
    ],
)
def test_magics_go_and_lines_stay(cell: str, python: str) -> None:
    hand_in = read_hand_in("n.ipynb", notebook(cell, "keep = 1"))
    found = sources(hand_in)[0]
    assert hand_in.notices == ()
    assert found == python or found == "x = 1\ny = 2"  # IPython takes common indentation away


def test_valid_python_is_never_taken_for_a_magic() -> None:
    cell = "x = (a\n%b\n)"
    assert sources(read_hand_in("n.ipynb", notebook(cell))) == [cell]


# --- what does not parse


def test_a_broken_cell_costs_only_its_broken_statement() -> None:
    hand_in = read_hand_in(
        "n.ipynb", notebook("a = 1", "b = 2\ndef q(x:\n    return x\n\n@deco\nclass C:\n    pass\n", "d = 4")
    )
    pieces = hand_in.files[0].pieces
    assert [piece.source.strip() for piece in pieces if piece.fault is None] == [
        "a = 1",
        "b = 2",
        "@deco\nclass C:\n    pass",
        "d = 4",
    ]
    (broken,) = [piece for piece in pieces if piece.fault]
    assert broken.names == {"q"}
    assert broken.fault is not None
    assert broken.fault.startswith("n.ipynb, cell 2, line 2, column ")
    assert any(broken.fault in notice for notice in hand_in.notices)


@pytest.mark.parametrize(
    ("broken", "names"),
    [
        ("x = foo(", {"x"}),
        ("x: int = ]", {"x"}),
        ("x, y = )", {"x", "y"}),
        ("'''never closed", set()),
        ("async def f(:\n    pass", {"f"}),
        ("class C(:\n    x = 1", {"C"}),
        ("def f():\n\tx = 1\n        y = 2", {"f"}),
        ("print 'python 2'", set()),
        ("x = 0777", {"x"}),
        ("return 3", set()),
        ("x = await y", {"x"}),
        ("for q in z:\n    def f():\n        break", set()),
        ("y = (1\nx = 2)", {"y", "x"}),
    ],
)
def test_statements_around_a_broken_one_survive(broken: str, names: set[str]) -> None:
    hand_in = read_hand_in("a.py", f"before = 1\n{broken}\nafter = 3\n".encode())
    good = "".join(piece.source for piece in hand_in.files[0].pieces if piece.fault is None)
    assert "before = 1" in good
    assert "after = 3" in good
    assert set().union(*(piece.names for piece in hand_in.files[0].pieces if piece.fault)) == names
    assert "line" in hand_in.notices[0]


@pytest.mark.threat(45)
@pytest.mark.parametrize(
    "killer",
    [
        "(" * 100_000,
        "x = " + "(" * 150 + ")" * 150,
        "-" * 200_000 + "1",
        "not " * 60_000 + "1",
        "a" + ".b" * 120_000,
        "1" + "+1" * 120_000,
        "a" + "()" * 100_000,
        "lambda:" * 30_000 + "1",
        "if a:\n pass\n" + "elif a:\n pass\n" * 15_000,
        "x = [" + "[]," * 80_000 + "]",
        "x = " + "9" * 200_000,
        "x = 0x" + "f" * 200_000,
        "x = '" + "y" * 200_000 + "'",
        "a" + ">a" * 100_000,
        "{0:" * 95,
        "f'" + "{" * 10_000,
        "\n".join(" " * depth + "if 1:" for depth in range(99)),
        "@a\n" * 80_000,
        "x = 1\0",
    ],
    ids=lambda text: f"{text[:12]!r}",
)
def test_parser_killers_end_in_a_message(killer: str) -> None:
    try:
        hand_in = read_hand_in("n.ipynb", notebook(killer, "good = 1"))
    except BadInput:
        assert "Delete what belongs to no answer" in refusal("n.ipynb", notebook(killer, "good = 1"))
    else:
        assert "good = 1" in sources(hand_in)


@pytest.mark.threat(45)
def test_what_the_parser_takes_but_is_too_deep_for_the_judge_is_set_apart() -> None:
    hand_in = read_hand_in("a.py", b"x = 1" + b"+1" * 400 + b"\ny = 1\n")
    assert "line 1: nested too deeply" in hand_in.notices[0]
    assert [piece.source for piece in hand_in.files[0].pieces if piece.fault is None] == ["y = 1\n\n"]


@pytest.mark.threat(14)
def test_a_literal_that_could_hold_a_data_set_is_refused() -> None:
    hand_in = read_hand_in("a.py", f"x = b'{'a' * parser_child.MAX_LITERAL_CHARACTERS}b'\ny = 1\n".encode())
    assert "literal of 32 KiB" in hand_in.notices[0]


# --- archives


def test_a_zip_gives_its_code_and_names_what_it_left_out() -> None:
    content = zipped(
        ("work/a.py", b"x = 1\n"),
        ("work/b.ipynb", notebook("y = 2")),
        ("__MACOSX/work/._a.py", b"junk"),
        ("work/.DS_Store", b"junk"),
        ("work/README.md", b"# hello"),
        ("work/plots/loss.png", b"\x89PNG"),
        ("work/empty/", b""),
    )
    hand_in = read_hand_in("work.zip", content)
    assert [file.name for file in hand_in.files] == ["work/a.py", "work/b.ipynb"]
    assert hand_in.sha256 == hashlib.sha256(content).hexdigest()
    assert "README.md" in hand_in.notices[0]


def _link() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("link.py")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def _flagged(content: bytes, offset_in_local: int, offset_in_directory: int, value: int) -> bytes:
    """The archive with one byte of its first entry's two headers changed."""
    changed = bytearray(content)
    changed[offset_in_local] = value
    changed[content.index(b"PK\x01\x02") + offset_in_directory] = value
    return bytes(changed)


def _far_away(content: bytes) -> bytes:
    """The archive with its first and only entry said to lie at the very end of 2**64 bytes."""
    start, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    extra = struct.pack("<HHQ", 1, 8, 2**64 - 1)
    entry, tail = bytearray(content[start:end] + extra), bytearray(content[end:])
    struct.pack_into("<H", entry, 30, len(extra))
    struct.pack_into("<L", entry, 42, 2**32 - 1)
    struct.pack_into("<L", tail, 12, len(entry))
    return content[:start] + bytes(entry) + bytes(tail)


@pytest.mark.threat(41, 42, 43)
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (_far_away(zipped(("a.py", b"x = 1"))), "damaged"),
        (zipped(), "no .py"),
        (zipped(("a.txt", b"x")), "no .py"),
        (zipped(("../a.py", b"x")), "outside"),
        (zipped(("a/../../b.py", b"x")), "outside"),
        (zipped(("/etc/a.py", b"x")), "outside"),
        (zipped(("C:/a.py", b"x")), "outside"),
        (zipped(("a\u202e.py", b"x")), "invisible"),
        (zipped(("a\n.py", b"x")), "invisible"),
        (zipped(("aXb.py", b"x")).replace(b"aXb.py", b"a\0b.py"), "invisible"),
        (zipped(("A.py", b"x"), ("a.py", b"y")), "twice"),
        (zipped(("caf\u00e9.py", b"x"), ("cafe\u0301.py", b"y")), "twice"),
        (zipped((_link(), b"/etc/passwd")), "link"),
        (zipped(("inner.zip", zipped(("a.py", b"x")))), "another archive"),
        (zipped(("a.py", b"x" * 100), compression=zipfile.ZIP_LZMA), "rare way"),
        (zipped(*((f"{i}.py", b"x") for i in range(archive.MAX_ENTRIES + 1))), "files"),
        (zipped(*((f"{i}.txt", b"") for i in range(archive.MAX_LISTED + 1))), "lists more than"),
        (zipped(("..\\a.py", b"x")), "outside"),
        (zipped(("\\\\server\\a.py", b"x")), "outside"),
        (zipped(("a.py", b"x"), ("data\\..\\..\\b.png", b"x")), "outside"),
        (zipped(("hw\\a.py", b"x"), ("hw/a.py", b"y")), "twice"),
        (zipped(("backup.tar.gz", b"x"), ("README.md", b"x")), "backup.tar.gz"),
        (zipped((".venv/lib/site.py", b"x"), ("hw/data/1.png", b"x"), ("hw/data/2.png", b"x")), "`hw/` (2 files)"),
        (zipped(("a.ipynb", b" " * (2 * 2**20))), "times its size"),
        (_flagged(zipped(("a.py", b"x = 1")), 6, 8, 1), "encrypted"),
        (zipped(("a.py", b"x = 1"))[:-30], "zip"),
        (zipped(("a.py", b"x = 1" * 50)).replace(b"PK\x03\x04", b"PK\x03\x05"), "damaged"),
        (_flagged(zipped(("a.py", b"x = 1"), compression=zipfile.ZIP_STORED), 34, 24, 7), "damaged"),
    ],
    ids=lambda value: value if isinstance(value, str) else "archive",  # its bytes hold the time
)
def test_archives_that_are_refused(content: bytes, words: str) -> None:
    assert words in refusal("work.zip", content)


@pytest.mark.threat(41)
def test_an_archive_of_large_files_is_stopped_while_it_unpacks() -> None:
    # Shrinks to an eighth: too little for the ratio to stop it
    noise = f"{random.Random(1).getrandbits(8 * 2**20):b}".encode()
    content = zipped(*((f"{i}.ipynb", noise) for i in range(archive.MAX_UNPACKED_BYTES // len(noise) + 1)))
    assert len(content) < archive.MAX_UPLOAD_BYTES
    assert "unpacks to more than" in refusal("work.zip", content)


def test_hundreds_of_broken_cells_take_no_longer_than_one_that_is_as_long() -> None:
    broken = "x x\n" * 100
    began = time.process_time()
    read_hand_in("a.py", (broken * 400).encode())
    one = time.process_time() - began
    began = time.process_time()
    read_hand_in("n.ipynb", notebook(*[broken] * 400))
    assert time.process_time() - began < 5 * one  # the number of cells must not multiply that of lines


@pytest.mark.parametrize("version", ["\ud800", "\x1b[2J", "\u202e", 5])
def test_a_notebook_of_an_odd_format_is_refused_in_words_that_can_be_shown(version: object) -> None:
    assert "has notebook format" in refusal("n.ipynb", json.dumps({"nbformat": version, "cells": []}).encode())


# --- anything at all


def _read_anything(filename: str, content: bytes) -> None:
    try:
        hand_in = read_hand_in(filename, content)
    except BadInput:
        return
    assert hand_in.files


@pytest.mark.threat(44, 45)
@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(["a.py", "a.ipynb", "a.zip"]),
    st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))),
)
def test_arbitrary_bytes_are_read_or_refused(filename: str, content: bytes) -> None:
    _read_anything(filename, content)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.threat(44)
@settings(max_examples=30, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "nbformat": st.sampled_from([3, 4]) | json_values,
            "metadata": json_values,
            "worksheets": json_values | st.lists(st.fixed_dictionaries({"cells": json_values}), max_size=2),
            "cells": json_values
            | st.lists(
                st.fixed_dictionaries(
                    {"cell_type": st.just("code") | json_values}, optional={"source": json_values, "input": json_values}
                )
                | json_values,
                max_size=4,
            ),
        },
    )
)
def test_arbitrary_notebooks_are_read_or_refused(content: dict[str, Any]) -> None:
    _read_anything("a.ipynb", json.dumps(content).encode())


@pytest.mark.threat(42)
@settings(max_examples=30, deadline=None)
@given(st.text(max_size=30), st.text(max_size=30))
def test_arbitrary_names_are_read_or_refused(name: str, entry: str) -> None:
    _read_anything(name, b"x = 1\n")
    _read_anything(f"{name}.py", b"x = 1\n")
    try:
        content = zipped((entry, b"x = 1\n"), ("a.py", b"x = 1\n"))
    except (UnicodeEncodeError, ValueError, IndexError):  # not a name that `zipfile` can write
        return
    _read_anything("a.zip", content)
