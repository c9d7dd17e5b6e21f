"""The limited child that meets a hand-in's bytes first: it reads notebooks and tries Python's parser on sources.

Run as a script (`python -I -S parser_child.py TASK`, payload on standard input, JSON on standard output) by
`grading.source`, so that input made to exhaust a parser costs this process and nothing else. It imports the
standard library only. What it lets through is small and shallow enough for the judge to parse again.
"""

import ast
import contextlib
import json
import sys
import warnings
from collections.abc import Iterator
from typing import Any

MEMORY_BYTES = 2 * 2**30  # a notebook at the upload limit, all of it empty lists, takes 1 GiB as Python objects
CPU_SECONDS = 5  # a real notebook takes 0.05 s; the worst input found within the size limits takes 3 s

MAX_CELLS = 2_000  # the longest course notebooks have 200
# The course's notebook holds 20 KiB of code; a set of training images hidden in a source would need more than this.
MAX_SOURCE_CHARACTERS = 256 * 2**10
MAX_LITERAL_CHARACTERS = 32 * 2**10  # no honest string comes near; a packed set of digits is longer
MAX_DEPTH = 150  # levels of the syntax tree; the solution has 14. Leaves room under Python's recursion limit of 1000
MAX_NODES = 100_000  # of one syntax tree; the solution has 3,000, ordinary code at the size limit 60,000

AWAITS = "`await` outside an `async def` works only in a running notebook"

Verdict = dict[str, Any]


def read_notebook(content: bytes) -> Verdict:
    """`{"cells": [[number, source], ...]}`, the code cells of a notebook, or `{"error": why}`.

    Numbers count all cells, text included, from 1. nbformat 3 keeps cells in worksheets and calls their text
    `input`. Metadata and outputs are not looked at: they say nothing about the answers, and may hold anything.
    """
    try:
        notebook = json.loads(content)
    except UnicodeDecodeError:
        return {"error": "is not UTF-8 text. Save it again in Jupyter."}
    except ValueError as error:
        return {"error": f"is not a notebook: it is not valid JSON ({error}). Save it again in Jupyter."}
    except (RecursionError, MemoryError):
        return {"error": "is not a notebook: it is nested too deeply. Save it again in Jupyter."}
    if not isinstance(notebook, dict):
        return {"error": "is not a notebook: there is no table of cells in it. Save it again in Jupyter."}
    version = notebook.get("nbformat", 4)
    if version not in (3, 4) or isinstance(version, bool):
        return {"error": f"has notebook format {ascii(version)[:20]}; 3 and 4 can be read. Save it again in Jupyter."}
    cells = notebook.get("cells")
    if version == 3:
        tables = [sheet for sheet in _list(notebook.get("worksheets")) if isinstance(sheet, dict)]
        cells = [cell for sheet in tables for cell in _list(sheet.get("cells"))] if tables else None
    if not isinstance(cells, list):
        return {"error": "is not a notebook: it has no list of cells. Save it again in Jupyter."}
    if len(cells) > MAX_CELLS:
        return {"error": f"has {len(cells)} cells; {MAX_CELLS} are allowed. Delete those that belong to no answer."}
    code: list[tuple[int, str]] = []
    for number, cell in enumerate(cells, 1):
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            source = _text(cell.get("source", cell.get("input")))
            if source.strip():
                code.append((number, source))
    size = sum(len(source) for _, source in code)
    if size > MAX_SOURCE_CHARACTERS:
        return {"error": source_too_long(size)}
    return {"cells": code}


def source_too_long(characters: int) -> str:
    return (
        f"holds {characters // 1024} KiB of code; {MAX_SOURCE_CHARACTERS // 1024} KiB are allowed. "
        "Delete what belongs to no answer, such as data written out as text."
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    """A cell's source, which other tools write as one string or as a list of lines."""
    if isinstance(value, str):
        return value
    lines = [line for line in _list(value) if isinstance(line, str)]
    # A list whose lines lack their ends would otherwise become one line
    separator = "" if any("\n" in line for line in lines) else "\n"
    return separator.join(lines)


def try_sources(content: bytes) -> Verdict:
    """`{"verdicts": [...]}`: for each list of candidates, the first that parses, or why the last one does not.

    A verdict is `[index, None]` or `[None, [line, column, message]]`; line and column are 1-based or None.
    """
    return {"verdicts": [_first_that_parses(candidates) for candidates in json.loads(content)]}


def _first_that_parses(candidates: list[str]) -> list[Any]:
    fault: list[Any] = [None, None, "empty"]
    for index, source in enumerate(candidates):
        found = _fault(source)
        if found is None:
            return [index, None]
        fault = found
    return [None, fault]


def _fault(source: str) -> list[Any] | None:
    try:
        tree = ast.parse(source)
        found = _too_much(tree)
        if found is None:
            compile(source, "hand-in", "exec", dont_inherit=True)  # sees more: `return` outside of a function
    except SyntaxError as error:
        if _awaits_at_top_level(source):
            return [error.lineno, None, AWAITS]
        return [error.lineno, error.offset, str(error.msg)[:200]]
    except (RecursionError, MemoryError):
        return [None, None, "nested too deeply to be read"]
    except ValueError as error:
        return [None, None, str(error)[:200]]
    return found


def _awaits_at_top_level(source: str) -> bool:
    """Whether it is Python as notebooks allow it."""
    try:
        compile(source, "hand-in", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _too_much(tree: ast.Module) -> list[Any] | None:
    for count, (node, depth) in enumerate(_nodes(tree), 1):
        if depth > MAX_DEPTH or count > MAX_NODES:
            return [getattr(node, "lineno", None), None, "nested too deeply or too long to be read"]
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str | bytes)
            and len(node.value) > MAX_LITERAL_CHARACTERS
        ):
            return [node.lineno, node.col_offset + 1, f"a literal of {len(node.value) // 1024} KiB is not allowed"]
    return None


def _nodes(tree: ast.AST) -> Iterator[tuple[ast.AST, int]]:
    stack: list[tuple[ast.AST, int]] = [(tree, 0)]
    while stack:
        node, depth = stack.pop()
        yield node, depth
        stack.extend((child, depth + 1) for child in ast.iter_child_nodes(node))


def _limit_this_process() -> None:
    """As far as the operating system can: Windows has no such limits, macOS not all of them."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def main() -> None:
    _limit_this_process()
    warnings.simplefilter("ignore")  # about odd escapes and the like: the student's business
    task = {"notebook": read_notebook, "sources": try_sources}[sys.argv[1]]
    print(json.dumps(task(sys.stdin.buffer.read())))


if __name__ == "__main__":
    main()
