"""Fuzz target: reading a hand-in and harvesting it.

Real hand-ins, a course notebook among them, are mangled as text, as syntax, as JSON, as bytes and as archives; a share
is made from nothing, to be large, deep or many. Allowed are a `Harvest`, whose texts can be shown and whose chunks are
still Python, and `BadInput` with a message that can be shown.

Python's parser runs in a limited child, as always. Most cases have it forked by `parser_server` rather than started.
"""

import ast
import io
import json
import random
import re
import struct
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from fuzz.runner import Failed

from grading import archive, parser_child, source
from grading.hand_in import HandIn, read_hand_in, read_hand_in_files
from grading.harvest import Harvest, closure, harvest, pipeline_chunks
from grading.outcomes import BadInput
from reference.pack import load_pack

ROOT = Path(__file__).parents[2]
REAL_CHILD_SHARE = 0.05  # of cases in which the parser's child is started as in production: 30 ms each, up to four
LARGE_SHARE = 0.004  # of cases near the limits of size; they take seconds
OWN_CPU_SECONDS = 15.0  # of the judge's own, beside the parser's child; the worst case found within the limits takes 6
GROWTH_BYTES = 768 * 2**20  # uploads of 20 MiB, and syntax trees of 256 KiB of code in 100,000 nodes
STATUSES = frozenset({"found", "not_attempted", "wrong_kind", "broken"})

PACK = load_pack("ddpm")
ALL = [blank.id for blank in PACK.blanks]
NAMES = [name for blank in PACK.blanks for name in blank.names] + [n for g in PACK.file.givens for n in g.names]

Files = list[tuple[str, bytes]]  # as handed in side by side


def _corpus() -> tuple[list[str], list[dict[str, Any]], dict[str, str]]:
    """Modules, notebooks, and a project of several modules."""
    folder = PACK.solution.parent
    hand_ins = ROOT / "tests" / "hand_ins"
    modules = [folder / "starter.py", PACK.solution, hand_ins / "renamed.py"]
    notebooks = [folder / "starter.ipynb", hand_ins / "course_notebook.ipynb"]
    project = {
        path.relative_to(hand_ins / "modules").as_posix(): path.read_text(encoding="utf-8")
        for path in sorted((hand_ins / "modules").rglob("*.py"))
    }
    return (
        [path.read_text(encoding="utf-8") for path in modules],
        [json.loads(path.read_text(encoding="utf-8")) for path in notebooks],
        project,
    )


MODULES, NOTEBOOKS, PROJECT = _corpus()


def _statements() -> list[str]:
    texts = [*MODULES, *PROJECT.values()]
    return [ast.get_source_segment(text, node) or "" for text in texts for node in ast.parse(text).body]


STATEMENTS = _statements()
WORDS = sorted({word for text in STATEMENTS for word in re.findall(r"[A-Za-z_]\w*", text)})

# What confuses a reader of Python: each is put anywhere in a line
FRAGMENTS = (
    *(
        "\0",
        "\ufeff",
        "\x0c",
        "\u2028",
        "\u202e",
        "\ud800",
        "\x1b[2J",
        "\xa0",
        "\t",
        "\r",
        "\\\n",
        "\\",
        "ª",
        "é𝒳",
        "\u0085",
    ),
    *(
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        '"',
        "'",
        '"""',
        "'''",
        "f'{",
        "f'''{x!r:>{w}}'''",
        "b'\\xff'",
        "#",
        ";",
        ":",
        "=",
        ":=",
    ),
    *(
        " if ",
        " else ",
        " lambda: ",
        " yield ",
        " await ",
        " async ",
        "*",
        "**",
        "->",
        "@",
        "...",
        ",",
        " not ",
        "-",
        "~",
    ),
    *("0x", "1_000", "9" * 5000, "1e999", "0o7", "1j", "None", "FIXME", "__debug__", "print x", "exec 'a'"),
)
# And as lines of their own
LINES = (
    *("%matplotlib inline", "!pip install torch", "%%bash", "%%time", "?q", "q??", "files = !ls", "%time x = 1", "%%"),
    *("%%writefile blocks.py", "%%writefile -a work.py", "%run main.py", "%run work", "pip install torch"),
    *("get_ipython().run_cell_magic('writefile', 'unet.py', 'q = 1\\n\\ud800')", "get_ipython().system('ls \\\\')"),
    *("get_ipython().run_line_magic('time', 'q = f(x)')", "    get_ipython().run_cell_magic('time', '', '(')"),
    *('x = f"{q["a"]!r:>{w["b"]}}"', "type X[T] = q", "def q[T](x: T): pass", "print(f'{'\\n'.join(q)}')"),
    *(
        "from . import *",
        "from .. import blocks",
        "import blocks.q as r",
        "from torch import *",
        "from unet import UNet",
    ),
    *(
        "from __future__ import annotations",
        "import main, unet, config",
        "from schedule import (alphas,\n  a_bar as c)",
    ),
    *("global q", "nonlocal q", "del alphas", "return 1", "yield", "break", "await q()", "x: int", "alphas: 'y' = 1"),
    *("match q:\n    case {'a': alphas, **rest}: pass\n    case [b, *alphas] | C(x=alphas): pass",),
    *("try:\n    alphas = 1\nexcept* ValueError as q:\n    raise\nelse:\n    q = 2\nfinally:\n    del q",),
    *("with q() as (alphas, *rest): pass", "for alphas in range(3):\n    q.step()", "while (w := 3): alphas += w"),
    *("if __name__ == '__main__':\n    alphas = 1\n    import blocks; import unet; x = 'é'; q(x)",),
    *("def f():\n    import blocks; import unet, schedule; from config import (T,\n  B); x = 1",),
    *("class A(B, metaclass=C):\n    global q\n    q = 1\n    def q(self): global w; w = 1",),
    *("async def q(): return [x async for x in y if (z := x)]", "alphas = [alphas for alphas in alphas]", "@q\n@w"),
    *("alphas = f'''{q!r}{'''\\'''\n'''\\''' + f\"{a_bar:{w}}\"}'''", "lambda alphas=alphas, *a, q, **k: (alphas, q)"),
    *(
        "setattr(alphas, 'x', q)",
        "alphas.add_(1); q(alphas)[0].x.append(w)",
        "alphas, (q, *w) = a_bar[0] = B",
        "# coding: hex",
    ),
    *("def h():\n    global alphas, x, T\n    return f'{\"\x07\"}{x}{T}'",),
    *("def alphas(): ...", "class q: pass", "alphas = 'text'", "q = None", "import q", "from x import q as alphas"),
)
NESTS = (
    *(
        ("(", ")"),
        ("[", "]"),
        ("{", "}"),
        ("f(", ")"),
        ("-", ""),
        ("not ", ""),
        ("lambda: ", ""),
        ("a.", "b"),
        ("1+", "1"),
    ),
    *(
        ("x[", "]"),
        ("{0:", "}"),
        ("[x for x in ", "]"),
        ("(yield ", ")"),
        ("a if b else ", ""),
        ("f'{", "}'"),
        ("q(*", ")"),
    ),
    *(("x and ", ""), ("1<", ""), ("~", ""), ("**", ""), ("@", ""), ("a=", ""), ("await ", "")),
)
BLOCKS = (
    "if q:",
    "for alphas in q:",
    "while q:",
    "def q():",
    "class q:",
    "with q:",
    "try:",
    "async def q():",
    "match q:\n case 1:",
)
FILE_NAMES = (
    *(
        "a.py",
        "blocks.py",
        "unet.py",
        "torch.py",
        "os.py",
        "__init__.py",
        "x/__init__.py",
        "main.py",
        "A.PY",
        "n.ipynb",
    ),
    *(
        "../a.py",
        "/a.py",
        "..py",
        ".py",
        " .py",
        "a.py ",
        "a\\b.py",
        "C:a.py",
        "~a.py",
        "a\u202eyp.py",
        "a\n.py",
        "é.py",
    ),
    *(
        "a\0.py",
        "\ud800.py",
        "x" * 300 + ".py",
        "",
        ".",
        "..",
        "a/",
        "a.zip",
        "a.exe",
        "__MACOSX/._a.py",
        "a b.py",
        "x.y.z.py",
    ),
    *("1.py", "class.py", "a-b.py", "a.b/c.py", "./a.py", "a//b.py", "ﬁ.py", "README", "x.md"),
)


# --- mangling text ------------------------------------------------------------------------------------------------


def _place(rng: random.Random, text: Sequence[Any]) -> int:
    return rng.randrange(len(text) + 1)


def _swap_words(rng: random.Random, text: str) -> str:
    """Some names in place of others: what comes out is Python still."""
    share = rng.choice([0.003, 0.02, 0.1])

    def other(match: re.Match[str]) -> str:
        if rng.random() >= share:
            return match[0]
        return str(rng.choice(NAMES if rng.random() < 0.5 else WORDS))

    return re.sub(r"\b[A-Za-z_]\w*\b", other, text)


def _mix_statements(rng: random.Random, text: str) -> str:
    """Statements from everywhere, in any order."""
    chosen = [rng.choice(STATEMENTS + list(LINES)) for _ in range(rng.choice([3, 10, 40]))]
    return "\n".join(chosen) if rng.random() < 0.5 else text + "\n" + "\n".join(chosen) + "\n"


def _edit_lines(rng: random.Random, text: str) -> str:
    lines = text.split("\n")
    for _ in range(rng.choice([1, 2, 5, 20])):
        start = rng.randrange(len(lines))
        end = start + rng.choice([1, 1, 2, 10])
        choice = rng.random()
        if choice < 0.25:
            del lines[start:end]
            lines = lines or [""]
        elif choice < 0.45:
            lines[start:start] = lines[start:end]
        elif choice < 0.6:
            lines.insert(start, rng.choice(LINES))
        elif choice < 0.75:
            target = rng.randrange(len(lines))
            lines[start], lines[target] = lines[target], lines[start]
        elif choice < 0.9:
            lines[start] = rng.choice([" ", "  ", "\t", "    "]) + lines[start]
        else:
            lines[start] = lines[start].lstrip()
    return "\n".join(lines)


def _insert_fragments(rng: random.Random, text: str) -> str:
    for _ in range(rng.choice([1, 1, 2, 8])):
        place = _place(rng, text)
        text = text[:place] + rng.choice(FRAGMENTS) + text[place + rng.choice([0, 0, 1, 5]) :]
    return text


def _nest(rng: random.Random, text: str) -> str:
    """Something deep: around where the limits are, and far beyond."""
    depth = rng.choice([20, 48, 70, 73, 74, 75, 98, 99, 140, 146, 148, 149, 150, 151, 200, 1000, 5000])
    if rng.random() < 0.3:
        block = rng.choice(BLOCKS)
        depth = min(depth, 200)
        nested = "".join(" " * level + block.replace("\n", "\n" + " " * level) + "\n" for level in range(depth))
        nested += " " * (depth + 1) + rng.choice(["alphas = 1", "import blocks", "pass", "global q; q = 1"])
    else:
        opening, closing = rng.choice(NESTS)
        inner = rng.choice(["1", "x", "alphas", "q(alphas)", "", "x := 1", "f'{x}'"])
        nested = f"{rng.choice(['alphas', 'a_bar', 'x', 'w'])} = " + opening * depth + inner + closing * depth
    return text + "\n" + nested + "\n" if rng.random() < 0.5 else nested + "\n" + text


def _splice(rng: random.Random, text: str) -> str:
    other = rng.choice(MODULES)
    return text[: _place(rng, text)] + other[_place(rng, other) :]


def _cut(rng: random.Random, text: str) -> str:
    start = _place(rng, text)
    return text[start:] if rng.random() < 0.3 else text[:start]


TEXT_MANGLERS: list[Callable[[random.Random, str], str]] = [
    *[_swap_words] * 4,
    *[_mix_statements] * 3,
    *[_edit_lines] * 4,
    *[_insert_fragments] * 3,
    _nest,
    _splice,
    _cut,
]


def _text(rng: random.Random, text: str) -> str:
    for _ in range(rng.choice([1, 1, 2, 3])):
        text = rng.choice(TEXT_MANGLERS)(rng, text)
    return text


def _bytes(rng: random.Random, content: bytes) -> bytes:
    """Flipped, cut, with other bytes in between."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 4, 30])):
        place = _place(rng, changed)
        choice = rng.random()
        if choice < 0.6 and place < len(changed):
            changed[place] ^= 1 << rng.randrange(8)
        elif choice < 0.8:
            changed[place:place] = rng.randbytes(rng.choice([1, 2, 8]))
        elif choice < 0.9:
            del changed[place : place + rng.choice([1, 10, 1000])]
        else:
            changed[place:place] = rng.choice(
                [b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\xed\xa0\x80", b"PK\x05\x06"]
            )
    return bytes(changed)


def _encoded(rng: random.Random, text: str) -> bytes:
    """Mostly UTF-8; else another encoding, announced or not, rightly or not."""
    if rng.random() < 0.85:
        return text.encode("utf-8", "surrogatepass")
    encoding = rng.choice(
        ["utf-8-sig", "utf-16", "utf-32", "latin-1", "cp1252", "ascii", "utf-7", "hex", "idna", "x-y.z"]
    )
    if rng.random() < 0.7:
        text = f"# -*- coding: {rng.choice([encoding, 'utf8', 'latin1', 'rot13', 'punycode', 'undefined'])} -*-\n{text}"
    try:
        return text.encode(encoding, "replace")
    except (LookupError, UnicodeError):
        return text.encode("utf-8", "replace")


# --- hand-ins -----------------------------------------------------------------------------------------------------


def module(rng: random.Random) -> Files:
    """One mangled module."""
    content = _encoded(rng, _text(rng, rng.choice(MODULES)))
    return [("work.py", _bytes(rng, content) if rng.random() < 0.15 else content)]


def several(rng: random.Random) -> Files:
    """A project of modules, some of them mangled, some under other names."""
    files = []
    for path, text in PROJECT.items():
        name = path.rpartition("/")[2] if rng.random() < 0.95 else rng.choice(FILE_NAMES)
        if path.endswith("__init__.py"):
            name = "__init__.py"
        files.append((name, _encoded(rng, _text(rng, text)) if rng.random() < 0.5 else text.encode()))
    rng.shuffle(files)
    return files[: rng.choice([len(files), len(files), 2, 1])]


def _odd_json(rng: random.Random, depth: int = 3) -> Any:
    choice = rng.random()
    if depth and choice < 0.2:
        return [_odd_json(rng, depth - 1) for _ in range(rng.randrange(4))]
    if depth and choice < 0.4:
        words = ["cell_type", "source", "cells", "", "\ud800", "input"]
        return {rng.choice(words): _odd_json(rng, depth - 1) for _ in range(rng.randrange(4))}
    return rng.choice(
        [
            None,
            True,
            3,
            4,
            -1,
            4.0,
            1e999,
            "",
            "code",
            "\ud800",
            "\0",
            "\x1b[2J",
            "q = 1",
            10**100,
            "markdown",
            "x" * 100,
        ]
    )


def _mangle_cell(rng: random.Random, cell: Any) -> Any:
    if not isinstance(cell, dict) or rng.random() < 0.05:
        return _odd_json(rng)
    choice = rng.random()
    text = "".join(part for part in cell.get("source", "") if isinstance(part, str))
    if choice < 0.55:
        text = _text(rng, text or "x = 1")
        return cell | {"source": text.splitlines(keepends=rng.random() < 0.9) if rng.random() < 0.5 else text}
    if choice < 0.65:
        return cell | {"cell_type": rng.choice(["code", "markdown", "raw", "CODE", None, []])}
    if choice < 0.75:
        return cell | {rng.choice(["metadata", "outputs", "id", "execution_count", "source", "input"]): _odd_json(rng)}
    if choice < 0.85:
        return {"cell_type": "code", "input": text, "language": "python"}
    return {key: value for key, value in cell.items() if rng.random() < 0.8}


def notebook(rng: random.Random) -> Files:
    """One mangled notebook: cells, fields, JSON or bytes."""
    content: dict[str, Any] = dict(rng.choice(NOTEBOOKS))
    cells = list(content["cells"])
    for _ in range(rng.choice([0, 1, 3, 10])):
        place = rng.randrange(len(cells)) if cells else 0
        choice = rng.random()
        if choice < 0.5 and cells:
            cells[place] = _mangle_cell(rng, cells[place])
        elif choice < 0.65:
            del cells[place : place + rng.choice([1, 3])]
        elif choice < 0.8 and cells:
            cells[place:place] = cells[place : place + rng.choice([1, 5])]
        elif choice < 0.9:
            rng.shuffle(cells)
        else:
            cells.insert(place, {"cell_type": "code", "source": rng.choice([*LINES, *STATEMENTS])})
    content["cells"] = cells
    if rng.random() < 0.15:
        content = {"nbformat": rng.choice([3, 3.0, 4]), "worksheets": [{"cells": cells}, _odd_json(rng)]}
    if rng.random() < 0.2:
        content[rng.choice(["metadata", "nbformat", "nbformat_minor", "cells", "worksheets"])] = _odd_json(rng)
    raw = json.dumps(content, ensure_ascii=rng.random() < 0.7)
    if rng.random() < 0.1:
        deep = "[" * rng.choice([100, 900, 990, 1100, 50_000])
        raw = rng.choice([deep, raw[:-1] + ', "metadata": ' + deep + "]" * len(deep) + "}", '{"nbformat": ' + deep])
    encoded = raw.encode(rng.choice(["utf-8"] * 12 + ["utf-16", "utf-8-sig", "latin-1"]), "replace")
    return [("work.ipynb", _bytes(rng, encoded) if rng.random() < 0.2 else encoded)]


def zipped(rng: random.Random) -> Files:
    """An archive: mangled members, hostile members, or itself mangled."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as out:
        for path, text in PROJECT.items():
            if rng.random() < 0.9:
                out.writestr(f"project/{path}", _encoded(rng, _text(rng, text)) if rng.random() < 0.3 else text)
        for _ in range(rng.choice([0, 0, 1, 3])):
            _add_hostile_member(rng, out)
    content = buffer.getvalue()
    choice = rng.random()
    if choice < 0.25:
        content = _bytes(rng, content)
    elif choice < 0.5:
        content = _change_records(rng, content)
    elif choice < 0.6:
        content = content[: _place(rng, content)]
    elif choice < 0.65:
        content = rng.randbytes(50) + content + rng.randbytes(rng.choice([0, 30]))
    return [("work.zip", content)]


def _add_hostile_member(rng: random.Random, out: zipfile.ZipFile) -> None:
    name = rng.choice(FILE_NAMES).encode("utf-8", "replace").decode()
    if not name or (name in out.namelist() and rng.random() < 0.5):
        name = "again.py"
    entry = zipfile.ZipInfo(name)
    entry.compress_type = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    entry.external_attr = rng.choice([0, 0o100644, 0o120777, 0o040755, 0o020666]) << 16
    entry.extra = rng.choice([b"", b"", rng.randbytes(8), struct.pack("<HHQ", 1, 8, 2**64 - 1)])
    content = rng.choice([b"alphas = 1\n", b"", rng.randbytes(100), b" " * 3_000_000, b"{}", b"PK\x03\x04", b"\0" * 50])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a name that is there already is meant
        out.writestr(entry, content)


def _change_records(rng: random.Random, content: bytes) -> bytes:
    """Other numbers in the fields of an entry or of the end record: sizes, offsets, flags, methods, extra fields."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 3])):
        signature = rng.choice([b"PK\x01\x02", b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06"])
        starts = [match.start() for match in re.finditer(re.escape(signature), changed)]
        if not starts:
            break
        field = rng.choice(starts) + rng.randrange(4, 46)
        if field + 4 <= len(changed):
            changed[field : field + 4] = struct.pack(
                "<L", rng.choice([0, 1, 9, 0xFFFF, 2**31, 2**32 - 1, rng.getrandbits(32)])
            )
    start = changed.rfind(b"PK\x01\x02")
    end = changed.rfind(b"PK\x05\x06")
    if rng.random() < 0.2 and 0 <= start < end <= len(changed) - 22:
        # The last entry in the long form, whose sizes and place may be anything up to 2**64
        numbers = [rng.choice([0, 5, 2**31, 2**63 - 1, 2**63, 2**64 - 1]) for _ in range(3)]
        extra = struct.pack("<HHQQQ", 1, 24, *numbers)
        name_length = struct.unpack_from("<H", changed, start + 28)[0]
        entry = changed[start : start + 46 + name_length]
        struct.pack_into("<LL", entry, 20, 2**32 - 1, 2**32 - 1)
        struct.pack_into("<HH", entry, 30, len(extra), 0)
        struct.pack_into("<L", entry, 42, 2**32 - 1)
        before = struct.unpack_from("<L", changed, end + 16)[0]
        struct.pack_into("<L", changed, end + 12, max(0, start - before) + len(entry) + len(extra))
        changed = changed[:start] + entry + extra + changed[end:]
    return bytes(changed)


def named(rng: random.Random) -> Files:
    """Right work under an odd name, or nothing of the kind."""
    content = rng.choice(
        [MODULES[1].encode(), b"", b"\0", rng.randbytes(300), b"\n" * 50, json.dumps(NOTEBOOKS[0]).encode()]
    )
    return [(rng.choice(FILE_NAMES), content)]


def large(rng: random.Random) -> Files:
    """As much as the limits allow: statements, names, cells, broken lines, bytes."""
    limit = parser_child.MAX_SOURCE_CHARACTERS - 1000
    line = rng.choice(
        [
            "x x\n",
            "alphas = alphas + x\n",
            "q(q, q)\n",
            "alphas.append(q)\nx += alphas\n",
            "(\n",
            "a = '''\n",
            "@q\n",
            "%a\n",
        ]
    )
    choice = rng.random()
    if choice < 0.2:
        return [("work.py", (line * (limit // len(line))).encode())]
    if choice < 0.35:
        return [("work.py", ("alphas = 1 - betas\n" + line * 2900).encode())]
    if choice < 0.5:
        count = rng.choice([500, 2900])
        chain = rng.choice(
            ["x{1} = x{0}\n", "def x{1}(): return x{0}()\n", "x{0}.append(x{1})\n", "class x{1}(x{0}): pass\n"]
        )
        text = "".join(chain.format(i, i + 1) for i in range(count))
        return [("work.py", f"alphas = x{count}\ndef q(): return x{count}\n{text}".encode())]
    if choice < 0.7:
        cells: list[Any] = [{"cell_type": "code", "source": line * (limit // len(line) // 1999)} for _ in range(1999)]
        undefined = "def q(x):\n    return [" + ",".join(f"u{i}" for i in range(rng.choice([0, 2000]))) + "]\n"
        cells[0] = {"cell_type": "code", "source": undefined}
        return [("work.ipynb", json.dumps({"nbformat": 4, "cells": cells}).encode())]
    if choice < 0.8:
        return [(f"m{i}.py", f"import m{(i + 1) % 200}\nx = 1\nalphas = m{i - 1}.x\n".encode()) for i in range(200)]
    if choice < 0.9:
        item = rng.choice(["[]", "{}", "1", '""', '{"cell_type":"code"}'])
        raw = '{"cells":[' + ",".join([item] * (archive.MAX_UPLOAD_BYTES // (len(item) + 1) - 10)) + "]}"
        return [("work.ipynb", raw.encode())]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as out:
        for number in range(rng.choice([3, 199, 201])):
            out.writestr(f"f{number}.py", rng.choice([b" " * 2**20, b"x = 1\n" * 200, rng.randbytes(1000)]))
    return [("work.zip", buffer.getvalue())]


MAKERS: list[Callable[[random.Random], Files]] = [*[module] * 8, *[notebook] * 6, *[several] * 3, *[zipped] * 4, named]


# --- the target ---------------------------------------------------------------------------------------------------


class ParserServer:
    """Stands in for `subprocess.run` in `grading.source`."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("parser_server.py")
        command = [sys.executable, "-I", "-S", str(script)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, command: list[str], *, input: bytes, **_: Any) -> subprocess.CompletedProcess[bytes]:  # noqa: A002
        """As `subprocess.run`, for the parser's child."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{command[-1]} {len(input)}\n".encode() + input)
        stdin.flush()
        exit_code, size = map(int, stdout.readline().split())
        return subprocess.CompletedProcess(command, exit_code, stdout.read(size), b"")

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait()


class HandIns:
    """Reads and harvests what nobody should hand in."""

    name = "hand-ins"
    step = 1
    growth_bytes = GROWTH_BYTES

    def __init__(self) -> None:
        self._server = ParserServer()
        self._forking = SimpleNamespace(run=self._server.run, TimeoutExpired=subprocess.TimeoutExpired)
        self._files: Files = []
        _look(harvest(read_hand_in("solution.py", PACK.solution.read_bytes()), PACK))  # fills the caches

    def input(self) -> tuple[str, bytes]:
        """The file, or a zip of the files that were handed in side by side."""
        if len(self._files) == 1:
            return Path(self._files[0][0]).suffix[:8].encode("ascii", "ignore").decode() or ".bin", self._files[0][1]
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as out:
            for number, (name, content) in enumerate(self._files):
                out.writestr(f"{number}/{ascii(name)[1:-1]}", content)
        return ".files.zip", buffer.getvalue()

    def close(self) -> None:
        """End the parser's server."""
        self._server.close()

    def run(self, rng: random.Random, case: int) -> str:
        """One hand-in."""
        maker = large if rng.random() < LARGE_SHARE else rng.choice(MAKERS)
        started = rng.random() < REAL_CHILD_SHARE
        self._files = maker(rng)
        began = time.process_time()
        try:
            with mock.patch.object(source, "subprocess", subprocess if started else self._forking):
                hand_in = _read(self._files)
            found = harvest(hand_in, PACK)
        except BadInput as error:
            if not str(error).endswith(".") or not str(error).isprintable():
                raise Failed(f"refused in words that cannot be shown: {error}") from None
            outcome = "refused"
        else:
            _look(found)
            answers = {answer.status for answer in found.answers.values()}
            outcome = "harvested, some found" if "found" in answers else "harvested, none found"
        seconds = time.process_time() - began
        if seconds > OWN_CPU_SECONDS:
            raise Failed(f"took the judge {seconds:.1f} s of processor time")
        return f"{maker.__name__}: {outcome}"


def _read(files: Files) -> HandIn:
    return read_hand_in(*files[0]) if len(files) == 1 else read_hand_in_files(files)


def _look(found: Harvest) -> None:
    """Everything that is made of a harvest later on, and whether it is fit for that."""
    if list(found.answers) != ALL:
        raise Failed("not every blank has an answer")
    for notice in found.notices:
        _check_text(notice, "a notice")
    for blank_id, answer in found.answers.items():
        if answer.status not in STATUSES:
            raise Failed(f"{blank_id}: unknown status {answer.status}")
        for part in fields(answer):
            value = getattr(answer, part.name)
            if isinstance(value, str):
                _check_text(value, f"{blank_id}.{part.name}")
        if answer.status == "found" and not answer.chunks:
            raise Failed(f"{blank_id} is found in no code")
        _check_chunks(answer.chunks, blank_id)
        closure(found, [blank_id])
    _check_chunks(pipeline_chunks(found, ALL), "the pipeline")


def _check_chunks(chunks: Sequence[Any], whose: str) -> None:
    for chunk in chunks:
        _check_text(chunk.source, f"a chunk of {whose}")
        _check_text(chunk.file, f"a chunk of {whose}")
        if chunk.line < 0:
            raise Failed(f"a chunk of {whose} is on line {chunk.line}")
        if chunk.source not in _PARSED:
            try:
                source.parse(chunk.source)
            except SyntaxError as error:
                raise Failed(f"a chunk of {whose} is no Python any more: {error}") from None
            if len(_PARSED) > _MAX_PARSED:
                _PARSED.clear()
            _PARSED.add(chunk.source)


_PARSED: set[str] = set()  # chunks that are known to be Python: each stands in many slices
_MAX_PARSED = 5_000  # a hand-in has some hundreds


def _check_text(text: str, whose: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Failed(f"{whose} cannot be written as UTF-8") from None
