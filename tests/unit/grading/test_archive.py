"""Zip archives as people really make them: what is code is read, the rest is left out with one notice."""

import io
import json
import shutil
import stat
import struct
import subprocess
import tarfile
import unicodedata
import zipfile
import zlib
from pathlib import Path

import pytest

from grading import archive
from grading.hand_in import HandIn, read_hand_in
from grading.outcomes import BadInput

CODE = b"x = 1\n"


def notebook(*sources: str) -> bytes:
    cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": source} for source in sources]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}).encode()


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as target:
        for name, content in files.items():
            target.writestr(name, content)
    return buffer.getvalue()


def handmade(files: dict[bytes, bytes], flags: int = 0, made_by: int = 20) -> bytes:
    """A zip whose names are these bytes: no writer in between that would know better."""
    body, directory = b"", b""
    for name, content in files.items():
        fixed = struct.pack(
            "<HHHHHLLLHH", 20, flags, 0, 0, 33, zlib.crc32(content), len(content), len(content), len(name), 0
        )
        directory += (
            b"PK\x01\x02" + struct.pack("<H", made_by) + fixed + struct.pack("<HHHLL", 0, 0, 0, 0, len(body)) + name
        )
        body += b"PK\x03\x04" + fixed + name + content
    end = struct.pack("<HHHHLLH", 0, 0, len(files), len(files), len(directory), len(body), 0)
    return body + directory + b"PK\x05\x06" + end


def names(hand_in: HandIn) -> list[str]:
    return [file.name for file in hand_in.files]


def notice(hand_in: HandIn) -> str:
    (only,) = hand_in.notices
    return only


# --- systems and tools


def test_powershell_writes_backslashes() -> None:
    hand_in = read_hand_in(
        "hw.zip", handmade({b"hw\\diffusion.py": CODE, b"hw\\plots\\": b"", b"hw\\plots\\a.png": b"x"})
    )
    assert names(hand_in) == ["hw/diffusion.py"]
    assert notice(hand_in) == "Left out of `hw.zip`, where only .py and .ipynb files are read: `hw/plots/a.png`."


def test_macs_put_a_shadow_beside_each_file_and_take_letters_apart() -> None:
    name = unicodedata.normalize("NFD", "Übung/größe.py")
    shadows = {f"__MACOSX/{name.replace('/', '/._')}": b"x", "__MACOSX/._Übung": b"x", "Übung/.DS_Store": b"x"}
    assert "\u0308" in name
    hand_in = read_hand_in("hw.zip", zipped({name: CODE, **shadows, "Übung/Icon\r": b""}))
    assert names(hand_in) == ["Übung/größe.py"]
    assert hand_in.notices == ()  # nobody handed these in


def test_macs_do_not_say_that_names_are_utf_8() -> None:
    assert names(read_hand_in("hw.zip", handmade({"Lösung/größe.py".encode(): CODE}))) == ["Lösung/größe.py"]


def test_windows_writes_names_in_the_code_page_of_dos() -> None:
    hand_in = read_hand_in("hw.zip", handmade({"Lösung/größe.py".encode("cp437"): CODE, b"L\x94sung/Thumbs.db": b"x"}))
    assert names(hand_in) == ["Lösung/größe.py"]
    assert hand_in.notices == ()


@pytest.mark.skipif(shutil.which("zip") is None, reason="there is no zip here")
@pytest.mark.parametrize("options", [["-r"], ["-r", "-fz"], ["-r", "-fd"], ["-r0"], ["-ry"]], ids="".join)
def test_a_folder_zipped_by_info_zip(tmp_path: Path, options: list[str]) -> None:
    folder = tmp_path / "Übung 6 (von mir)"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "data").mkdir()
    for name in ("größe.py", "__pycache__/x.cpython-312.pyc", "data/train.csv", "data/test.csv", "Makefile", "notes"):
        (folder / name).write_bytes(CODE)
    subprocess.run(["zip", "-q", *options, "hw.zip", folder.name], cwd=tmp_path, check=True)
    hand_in = read_hand_in("hw.zip", (tmp_path / "hw.zip").read_bytes())
    assert names(hand_in) == ["Übung 6 (von mir)/größe.py"]
    for part in ("__pycache__/x.cpython-312.pyc", "data/` (2 files)", "Makefile", "notes"):
        assert part in notice(hand_in)


@pytest.mark.skipif(shutil.which("zip") is None, reason="there is no zip here")
def test_a_zip_made_as_a_stream_has_its_sizes_behind_the_data(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(CODE)
    made = subprocess.run(["zip", "-q", "-", "a.py"], cwd=tmp_path, check=True, stdout=subprocess.PIPE)
    assert made.stdout[6] & 8
    assert names(read_hand_in("hw.zip", made.stdout)) == ["a.py"]


def test_a_small_zip64() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target, target.open("a.py", "w", force_zip64=True) as entry:
        entry.write(CODE)
    assert names(read_hand_in("hw.zip", buffer.getvalue())) == ["a.py"]


def test_github_puts_a_folder_and_a_comment_around_everything() -> None:
    buffer = io.BytesIO(zipped({"hw-main/src/a.py": CODE, "hw-main/.gitignore": b"x", "hw-main/.github/ci.py": b"x"}))
    with zipfile.ZipFile(buffer, "a") as target:
        target.comment = b"d1554a3f" * 5
    hand_in = read_hand_in("hw-main.zip", buffer.getvalue())
    assert names(hand_in) == ["hw-main/src/a.py"]
    assert "`hw-main/.gitignore`, `hw-main/.github/ci.py`" in notice(hand_in)


# --- what lies beside the code


BESIDE = {
    "model.pth": b"x", "model.pt": b"x", "last.ckpt": b"x", "w.safetensors": b"x", "mnist.npz": b"x", "d.pkl": b"x",
    "a.pyc": b"x", "lib.so": b"x", "run.sh": b"x", "report.docx": b"x", "plot.png": b"x", "clip.mp4": b"x",
    "data.zip": b"PK\x03\x04", "data.tar.gz": b"x", "config.yaml": b"x", "requirements.txt": b"x", "LICENSE": b"x",
    ".env": b"x", "a.py~": b"x", "a.py.bak": b"x", "~$report.docx": b"x", "Family \U0001f468\u200d\U0001f469.jpg": b"x",
    "cell\n.csv": b"x",
}  # fmt: skip


@pytest.mark.parametrize("name", BESIDE)
def test_what_is_no_code_is_left_out_and_named(name: str) -> None:
    hand_in = read_hand_in("hw.zip", zipped({"hw/a.py": CODE, f"hw/{name}": BESIDE[name]}))
    assert names(hand_in) == ["hw/a.py"]
    assert notice(hand_in).isprintable()
    assert name.split("\n")[0].split(" ")[0] in notice(hand_in)


def test_one_notice_lists_all_of_it_within_bounds() -> None:
    hand_in = read_hand_in("hw.zip", zipped({"hw/a.py": CODE} | {f"hw/{name}": data for name, data in BESIDE.items()}))
    assert len(notice(hand_in)) < 1000
    assert f"and {len(BESIDE) - 5} more" in notice(hand_in)


@pytest.mark.parametrize("folder", ["hw/.venv", "hw/my env", "hw"])
def test_a_virtual_environment_is_known_whatever_it_is_called(folder: str) -> None:
    environment = {f"{folder}/pyvenv.cfg": b"home = /usr/bin"}
    environment |= {f"{folder}/lib/python3.12/site-packages/pip/{number}.py": CODE for number in range(300)}
    environment |= {f"{folder}/Scripts/activate_this.py": CODE, f"{folder}/bin/thing.py": CODE}
    hand_in = read_hand_in("hw.zip", zipped({"hw/a.py": CODE, "hw/library.py": CODE, **environment}))
    assert names(hand_in) == ["hw/a.py", "hw/library.py"]


def test_links_in_what_is_left_out_lead_nowhere() -> None:
    link = zipfile.ZipInfo("hw/.venv/bin/python")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO(zipped({"hw/a.py": CODE}))
    with zipfile.ZipFile(buffer, "a") as target:
        target.writestr(link, "/usr/bin/python3")
    assert names(read_hand_in("hw.zip", buffer.getvalue())) == ["hw/a.py"]


def test_thousands_of_pictures_do_not_count() -> None:
    pictures = {f"hw/data/mnist/{number}.png": b"x" for number in range(3 * archive.MAX_ENTRIES)}
    hand_in = read_hand_in("hw.zip", zipped({"hw/a.py": CODE, **pictures}, zipfile.ZIP_STORED))
    assert "`hw/data/` (600 files)" in notice(hand_in)


@pytest.mark.threat(41)
def test_what_is_left_out_is_not_unpacked() -> None:
    zeros = b"\0" * (archive.MAX_UNPACKED_BYTES + 1)
    content = bytearray(zipped({"hw/a.py": CODE, "hw/model.pth": zeros}))
    start = content.index(b"model.pth") + len(b"model.pth")
    content[start : start + 100] = b"\xff" * 100  # neither would it unpack
    assert names(read_hand_in("hw.zip", bytes(content))) == ["hw/a.py"]


@pytest.mark.threat(41)
def test_the_list_of_files_is_bounded_wherever_it_is_said_to_lie() -> None:
    content = bytearray(zipped({f"{number}": b"" for number in range(archive.MAX_LISTED + 1)}, zipfile.ZIP_STORED))
    content += b"PK\x05\x06" + bytes(18)  # a second end, which says that there is nothing
    with pytest.raises(BadInput, match="lists more than"):
        read_hand_in("hw.zip", bytes(content))


@pytest.mark.threat(41)
@pytest.mark.timeout(60)
def test_endless_paths_take_no_time() -> None:
    deep = {"lib/" * 250 + f"{number}.py": b"" for number in range(archive.MAX_ENTRIES)}
    deeper = {"lib/" * 10_000 + f"{number}.png": b"" for number in range(200)}
    content = zipped({"pyvenv.cfg": b"", "a.py": CODE, **deep, **deeper}, zipfile.ZIP_STORED)
    assert names(read_hand_in("hw.zip", content)) == ["a.py"]


def test_an_encrypted_picture_is_nobodys_business_but_encrypted_code_is() -> None:
    for name, is_code in (("b.png", False), ("b.py", True)):
        content = bytearray(zipped({"a.py": CODE, name: b"x"}))
        content[content.rindex(b"PK\x01\x02") + 8] |= 1
        if is_code:
            with pytest.raises(BadInput, match=r"`b\.py` in `hw\.zip` is encrypted"):
                read_hand_in("hw.zip", bytes(content))
        else:
            assert names(read_hand_in("hw.zip", bytes(content))) == ["a.py"]


def test_an_archive_in_an_archive_may_hold_the_code() -> None:
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w:gz") as target:
        target.addfile(tarfile.TarInfo("a.py"))
    for name, inner in (("hw.zip", zipped({"a.py": CODE})), ("hw.tar.gz", tar.getvalue())):
        with pytest.raises(BadInput, match="only another archive") as caught:
            read_hand_in("outer.zip", zipped({name: inner, "README.md": b"x"}))
        assert f"`{name}`" in str(caught.value)
        assert "Unpack" in str(caught.value)


# --- files that are not what their names say


def test_a_notebook_called_a_module() -> None:
    hand_in = read_hand_in("a.py", notebook("x = 1", "%time y = 2"))
    assert [piece.label for piece in hand_in.files[0].pieces] == ["a.py, cell 1", "a.py, cell 2"]
    assert notice(hand_in) == "`a.py` is really a notebook, and was read as one."


def test_a_dictionary_with_cells_is_a_module() -> None:
    hand_in = read_hand_in("a.py", b'{"cells": [1]}["cells"]\nx = 1\n')
    assert (hand_in.files[0].pieces[0].source, hand_in.notices) == ('{"cells": [1]}["cells"]\nx = 1\n', ())


def test_a_zip_called_a_notebook() -> None:
    hand_in = read_hand_in("a.ipynb", zipped({"b.py": CODE}))
    assert names(hand_in) == ["b.py"]
    assert notice(hand_in) == "`a.ipynb` is really a zip archive, and was read as one."


@pytest.mark.parametrize("text", ["x = 1\n", "# %%\nx = 1\n", "import torch\nx = 1\n", '"""Homework."""\nx = 1\n'])
def test_a_module_called_a_notebook(text: str) -> None:
    hand_in = read_hand_in("a.ipynb", text.encode())
    assert hand_in.files[0].pieces[0].source == text
    assert "not a notebook but a Python module" in notice(hand_in)


def test_a_page_that_shows_a_notebook_is_none() -> None:
    with pytest.raises(BadInput, match="is a web page"):
        read_hand_in("a.ipynb", b"\n<!DOCTYPE html><html>")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("Untitled.ipynb", b"", "not valid JSON"),
        ("old.ipynb", b"<<<<<<< HEAD\n{}", "not valid JSON"),
        ("old.py", "x = 1".encode("utf-16"), "UTF-16"),
        ("page.ipynb", b"<html>", "web page"),
        ("packed.ipynb", zipped({"b.py": CODE}), "zip archive"),
        ("digits.py", b"x = 1\n" * 100_000, "KiB of code"),
    ],
)
def test_one_file_that_cannot_be_read_does_not_cost_the_others(name: str, content: bytes, words: str) -> None:
    hand_in = read_hand_in("hw.zip", zipped({"a.py": CODE, name: content}))
    assert names(hand_in) == ["a.py"]
    assert notice(hand_in).startswith(f"Left out: `{name}` ")
    assert words in notice(hand_in)
    with pytest.raises(BadInput, match=words):
        read_hand_in("hw.zip", zipped({name: content}))


def test_what_windows_called_text_is_asked_for_by_its_name() -> None:
    with pytest.raises(BadInput, match=r"If it is the file `answers\.py`, rename it to that\."):
        read_hand_in("answers.py.txt", CODE)
