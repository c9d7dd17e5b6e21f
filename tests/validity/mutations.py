"""Would the corpus notice if an assertion of a check were gone? `scripts/validity --mutations`.

Each assertion of the pack's checks is taken out once, or weakened where its result is needed, and the wrong answers of
the corpus are checked again. One of them has to fare differently: pass, or go by another name. What no answer notices
is an assertion that nothing holds in place.
"""

import ast
import copy
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import guests
from rich.console import Console
from validity import corpus, programs
from validity.grader import PACK, SOLUTION, Grader

from grading.outcomes import InfrastructureFault
from reference.pack import Pack
from sandbox.guest_client import Guest

# Calls that return what they looked at: without them, it is taken as it is
_LOOKS = ("assert_tensor", "assert_pair", "assert_number")


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A file of checks with one assertion less."""

    file: str
    line: int
    text: str  # the assertion, in one line
    source: str  # of the whole file

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """A hand-in with one wrong blank, and how that fared with every assertion in place."""

    blank: str
    title: str
    source: str
    verdict: tuple[str, str | None]  # status, id of the misconception


def mutants(path: Path) -> Iterator[Mutant]:
    """Every way to take an assertion out of a file of checks."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    places = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    for index, node in enumerate(places):
        for number, replacement in enumerate(_weaker(node)):
            mutated = copy.deepcopy(tree)
            target = [child for child in ast.walk(mutated) if isinstance(child, ast.stmt)][index]
            _put(mutated, target, replacement)
            text = " ".join(ast.unparse(node).split())
            text = f"{text[:100]} (part {number + 1})" if number else text[:100]
            yield Mutant(
                file=path.name, line=node.lineno, text=text, source=ast.unparse(ast.fix_missing_locations(mutated))
            )


def _weaker(node: ast.stmt) -> list[ast.stmt]:
    """A statement without its assertion: whole, and each part of a condition by itself."""
    match node:
        case ast.Expr(value=ast.Call(func=ast.Name(id=name), args=args) as call) if _is_assertion(name):
            found: list[ast.stmt] = [ast.Pass()]
            if name == "require" and isinstance(args[0], ast.BoolOp) and isinstance(args[0].op, ast.And):
                for position in range(len(args[0].values)):
                    weaker = copy.deepcopy(call)
                    condition = weaker.args[0]
                    assert isinstance(condition, ast.BoolOp)
                    condition.values[position] = ast.Constant(True)
                    found.append(ast.Expr(weaker))
            return found
        case ast.Raise(exc=ast.Call(func=ast.Name(id="CheckFailed"))):
            return [ast.Pass()]
        case ast.Assign(targets=targets, value=ast.Call(func=ast.Name(id=name), args=[first, *_])) if name in _LOOKS:
            return [ast.Assign(targets=targets, value=first)]
    return []


def _is_assertion(name: str) -> bool:
    return name == "require" or name.startswith("assert_")


def _put(tree: ast.AST, old: ast.stmt, new: ast.stmt) -> None:
    for parent in ast.walk(tree):
        for _, value in ast.iter_fields(parent):
            if isinstance(value, list) and any(item is old for item in value):
                value[[item is old for item in value].index(True)] = new
                return
    raise AssertionError("the statement is not in the tree")


def wrong_answers(grader: Grader, checks: str) -> list[Wrong]:
    """The wrong answers of the corpora to the blanks that this text of checks names, with their verdicts today."""
    found = []
    for name in ("wrong.md", "wrong-blind.md"):
        for variant in corpus.read(name):
            title = f"{name}: {variant.blank}: {variant.title}"
            found.append((variant.blank, title, variant.apply(SOLUTION, PACK)))
    for program in programs.read():
        found += [(blank, f"programs.md: {program.name}", program.apply(SOLUTION)) for blank in sorted(program.wrong)]
    return [
        Wrong(blank=blank, title=title, source=source, verdict=_verdict(grader, blank, source))
        for blank, title, source in found
        if f'"{blank}"' in checks
    ]


def _verdict(grader: Grader, blank: str, source: str) -> tuple[str, str | None]:
    report = grader.check(source, frozenset({blank}))[blank]
    return report.status.value, report.misconception.id if report.misconception else None


def _notices(guest: Guest, mutant: Mutant, wrong: Sequence[Wrong]) -> str | None:
    """The first answer that fares differently; None where all fare as before."""
    with tempfile.TemporaryDirectory(prefix="noisemark-mutant-") as folder:
        root = Path(folder) / PACK.root.name
        shutil.copytree(PACK.root, root, ignore=shutil.ignore_patterns("__pycache__"))
        (root / "checks" / mutant.file).write_text(mutant.source, encoding="utf-8")
        try:
            grader = Grader(guest, pack=Pack(root))
            for answer in wrong:
                if _verdict(grader, answer.blank, answer.source) != answer.verdict:
                    return answer.title
        except InfrastructureFault as fault:
            return f"the check itself, which cannot run: {fault}"
    return None


def measure(sandbox: str, console: Console, files: Sequence[str] = ()) -> list[Mutant]:
    """The mutants that nothing notices. `files`: names of files of checks; all of them where there are none."""
    with guests.guest(sandbox) as guest:
        grader = Grader(guest)
        unnoticed, count = [], 0
        for path in sorted(PACK.checks.glob("test_*.py")):
            if files and path.name not in files:
                continue
            here = wrong_answers(grader, path.read_text(encoding="utf-8"))
            console.print(f"{path.name}: {len(here)} wrong answers")
            for mutant in mutants(path):
                count += 1
                # Those that go by a name in the assertion first: they are the likeliest to notice
                ordered = sorted(here, key=lambda answer: f"{answer.verdict[1]!r}" not in mutant.text)
                noticed_by = _notices(guest, mutant, ordered)
                if noticed_by is None:
                    unnoticed.append(mutant)
                    console.print(f"not noticed: {mutant}", style="bold red", highlight=False, markup=False)
        console.print(f"{count - len(unnoticed)} of {count} mutations were noticed")
    return unnoticed
