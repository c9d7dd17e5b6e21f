"""Which tests show which rows of the threat list."""

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROWS = range(1, 53)

# Rows without a test, and why
NOT_YET = {
    32: "no machine of ours has a GPU; leases are tested by themselves, in tests/unit/sandbox/test_gpus.py",
}


def _is_marker(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.threat"


def rows_by_file() -> dict[Path, set[int]]:
    """The rows that are written into `pytest.mark.threat(...)`, by the file that they stand in."""
    found: dict[Path, set[int]] = {}
    for file in sorted(TESTS.rglob("test_*.py")):
        text = file.read_text(encoding="utf-8")
        if "mark.threat" not in text:
            continue
        calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call) and _is_marker(node)]
        found[file] = {
            arg.value for call in calls for arg in call.args if isinstance(arg, ast.Constant) and type(arg.value) is int
        }
    return found
