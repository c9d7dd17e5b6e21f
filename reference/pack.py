"""Packs: everything one assignment consists of, read from a folder and versioned by its content."""

import ast
import hashlib
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

PACKS = Path(__file__).parent / "packs"
Model = TypeVar("Model", bound=BaseModel)


class PackError(Exception):
    """There is no such pack, or it does not hold together. The message names the file and the fault."""


def _parses(code: str) -> str:
    try:
        ast.parse(code)
    except SyntaxError as error:
        raise ValueError(f"{code!r} is not Python: {error.msg}") from None
    return code


def _is_expression(code: str) -> str:
    try:
        ast.parse(code, mode="eval")
    except SyntaxError:
        raise ValueError(f"{code!r} is not an expression") from None
    return code


def _is_import(code: str) -> str:
    match ast.parse(_parses(code)).body:
        case [ast.Import(names=[_]) | ast.ImportFrom(names=[_])]:
            return code
    raise ValueError(f"{code!r} is not one import of one name")


Share = Annotated[float, Field(ge=0, le=1)]
Code = Annotated[str, AfterValidator(_parses)]
Expression = Annotated[str, AfterValidator(_is_expression)]
Import = Annotated[str, AfterValidator(_is_import)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Blank(_Part):
    """One thing that the student fills in."""

    id: str  # also the canonical name
    kind: Literal["tensor", "number", "function", "class"]
    aliases: tuple[str, ...] = ()
    title: str  # in words, as the student reads it
    concept: str  # the topic of the course that it belongs to
    points: float = Field(ge=0)
    in_force_at: str | None = None  # the blank whose calls decide where the number is set several times
    starts_as: tuple[Expression, ...] = ()  # values that notebooks of the course give it, for the student to change

    @property
    def names(self) -> tuple[str, ...]:
        """Every name under which the blank may be handed in, the canonical one first."""
        return (self.id, *self.aliases)


class Given(_Part):
    """A name that the assignment defines and the judge injects."""

    name: str
    aliases: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)


class Stubs(_Part):
    modules: tuple[str, ...] = ()  # modules that a guest replaces by stubs, which swallow every use
    helpers: tuple[str, ...] = ()  # those of them that the course brings: what is taken from there is nobody's own work


class Accuracy(_Part):
    """What the classifier's verdict is worth."""

    pass_mark: float = Field(gt=0, lt=1)
    points: float = Field(ge=0)
    repaired_run: bool
    repaired_points: float = Field(ge=0)
    class_floor: float = Field(default=0, ge=0, lt=1)  # a digit that is read worse is named
    class_red_flag: float = Field(default=0, ge=0, lt=1)  # and so is, more urgently, one below this


class Tier(_Part):
    id: str
    accuracy: float = Field(gt=0, le=1)
    # Share of the recipe's images after which 95 % must have been reached; None: whenever
    images_to_95: float | None = Field(default=None, gt=0, le=1)


class Misconception(_Part):
    """A mistake that students are known to make, and what they would hand in. One table of misconceptions.toml."""

    id: str
    blanks: tuple[str, ...] = ()  # ids; none: it can show in any
    says: str  # what is wrong with the answer, in words for the student
    why: str  # why it matters, without the right formula
    topic: str | None = None  # of the course, that explains it; None: the blank's concept
    # How the solution's definition of the blank would read with it: texts replaced, each of which occurs just once, or
    # another definition. Neither: the checks recognise it by what the answer does
    replace: dict[str, str] = {}
    code: str | None = None


class Sign(_Part):
    """Something by which an edition is recognised. One table of `signs` in editions.toml."""

    why: str  # what it rests on, for whoever maintains the list
    # Any of these: one expression, wherever it stands, or statements that follow one another
    code: tuple[Code, ...] = ()
    lacks: tuple[Import, ...] = ()  # the hand-in uses all of these names, and has none of these imports


class Slip(_Part):
    """A line that an edition gives and that should be another. One table of `slips` in editions.toml."""

    id: str
    blank: str  # id of the function in which it stands
    parameters: tuple[str, ...]  # the first ones of that function, as `given` and `should` call them
    argument_of: str  # the parameter in whose call it is an argument
    given: tuple[Expression, ...]  # spellings of it
    should: Expression
    why: str  # for the student: a sentence or two


class Edition(_Part):
    """One edition of the course's notebook, and what it gives that is wrong. One table of editions.toml."""

    id: str
    title: str  # as students know it
    signs: tuple[Sign, ...]
    imports: tuple[Import, ...] = ()  # that its import cell lacks, although the code that it gives needs them
    slips: tuple[Slip, ...] = ()

    @property
    def imports_correction(self) -> str:
        """What the correction is called that adds `imports`."""
        return f"{self.id}/imports"

    def correction(self, slip: Slip) -> str:
        """What the correction of a slip is called."""
        return f"{self.id}/{slip.id}"

    @property
    def corrections(self) -> frozenset[str]:
        """The names of all corrections, by which an assignment can switch them off."""
        imports = {self.imports_correction} if self.imports else set()
        return frozenset(imports | {self.correction(slip) for slip in self.slips})


class Hints(_Part):
    """Help with one blank, in the order in which it is revealed. One table of hints.toml, under the blank's id."""

    nudge: str  # a question, or a thought
    pointer: str  # where to look, and at what
    formula: str  # what the answer looks like


class HintPolicy(_Part):
    reveal: Literal["on_request", "per_attempt"] = "on_request"  # per_attempt: one step more with each hand-in
    # Of the blank's points, for each step
    cost: tuple[Share, Share, Share] = (0.0, 0.0, 0.0)


class Recipe(_Part):
    """How a pipeline is trained and judged. Budgets are in images, never in seconds."""

    name: str
    title: str
    dataset: Literal["digits", "mnist"]
    image_size: int  # height and width in pixels
    channels: tuple[int, int, int]  # of the U-Net, from the first level to the last
    timesteps: int  # T
    beta_start: float
    beta_end: float
    batch_size: int
    images: int  # training budget
    learning_rate: float
    warmup_images: int
    ema_half_life_images: int
    gpu: bool = False  # takes hours without one


class PackFile(_Part):
    """pack.toml"""

    id: str
    title: str
    default_recipe: str
    accuracy: Accuracy
    tiers: tuple[Tier, ...]
    givens: tuple[Given, ...]
    stubs: Stubs
    hints: HintPolicy = HintPolicy()
    blanks: tuple[Blank, ...]


class Pack:
    """A pack on disk. Raises `PackError` where its files do not hold together."""

    def __init__(self, root: Path) -> None:
        self.root = root
        path = root / "pack.toml"
        self.file = _validated(PackFile, _read_toml(path), path)
        self.recipes = _tables(Recipe, root / "recipes.toml", key="name")
        self.misconceptions = _tables(Misconception, root / "misconceptions.toml", key="id", optional=True)
        self.hints = _tables(Hints, root / "hints.toml", optional=True)
        self.editions = _tables(Edition, root / "editions.toml", key="id", optional=True)
        known = {blank.id for blank in self.blanks}
        named = {
            "hints.toml": set(self.hints),
            "misconceptions.toml": {blank for one in self.misconceptions.values() for blank in one.blanks},
            "editions.toml": {slip.blank for edition in self.editions.values() for slip in edition.slips},
        }
        for file, blanks in named.items():
            if unknown := blanks - known:
                raise PackError(f"{root / file}: pack.toml has no blank {', '.join(sorted(unknown))}")
        if self.file.default_recipe not in self.recipes:
            raise PackError(f"{path}: default_recipe names {self.file.default_recipe!r}, which recipes.toml lacks")

    @property
    def id(self) -> str:
        return self.file.id

    @property
    def blanks(self) -> tuple[Blank, ...]:
        return self.file.blanks

    @property
    def max_score(self) -> float:
        return sum(blank.points for blank in self.blanks) + self.file.accuracy.points

    @property
    def solution(self) -> Path:
        return self.root / "solution.py"

    @property
    def harness(self) -> Path:
        """Our code that a guest loads beside the student's to train and to predict."""
        return self.root / "harness.py"

    @property
    def checks(self) -> Path:
        return self.root / "checks"

    def starter(self, suffix: Literal[".py", ".ipynb"]) -> Path:
        return self.root / f"starter{suffix}"

    def blank(self, blank_id: str) -> Blank:
        return next(blank for blank in self.blanks if blank.id == blank_id)

    @property
    def corrections(self) -> frozenset[str]:
        """The names of the corrections that its editions need."""
        return frozenset(name for edition in self.editions.values() for name in edition.corrections)

    @cached_property
    def check_names(self) -> frozenset[str]:
        """What reports call the checks, without the `[...]` of those with several values. Raises `PackError`."""
        names: set[str] = set()
        for path in sorted(self.checks.glob("test_*.py")):
            try:
                tree = ast.parse(path.read_bytes())
            except (SyntaxError, ValueError) as error:
                raise PackError(f"{path}: {error}") from error
            names |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        return frozenset(name.removeprefix("test_") for name in names if name.startswith("test_"))

    def recipe(self, name: str | None) -> Recipe:
        """The recipe of that name, or the default one. Raises `PackError` naming those there are."""
        try:
            return self.recipes[name or self.file.default_recipe]
        except KeyError:
            raise PackError(f"There is no recipe {name!r}. There are: {', '.join(self.recipes)}.") from None

    @cached_property
    def version(self) -> str:
        """SHA-256 over the names and contents of the pack's files."""
        digest = hashlib.sha256()
        for path in self.files():
            content = path.read_bytes()
            digest.update(f"{path.relative_to(self.root).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
        return digest.hexdigest()

    def files(self) -> list[Path]:
        """Everything that it consists of."""
        found = (path for path in self.root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return sorted(found)


def load_pack(name: str, packs: Path = PACKS) -> Pack:
    """The pack of that name. Raises `PackError` naming those there are."""
    available = list_packs(packs)
    if name not in available:
        raise PackError(f"There is no assignment {name!r}. There are: {', '.join(available)}.")
    return Pack(packs / name)


def list_packs(packs: Path = PACKS) -> list[str]:
    return sorted(path.parent.name for path in packs.glob("*/pack.toml"))


def _tables(model: type[Model], path: Path, *, key: str | None = None, optional: bool = False) -> dict[str, Model]:
    """A file of tables, by their names; `key`: the field of `model` that holds the name. Raises `PackError`."""
    if optional and not path.exists():
        return {}
    found = {}
    for name, table in _read_toml(path).items():
        if not isinstance(table, dict):
            raise PackError(f"{path}: {name!r} is no table: it stands above the first [name]")
        found[name] = _validated(model, table | {key: name} if key else table, path, name)
    return found


def _validated(model: type[Model], values: dict[str, Any], path: Path, *place: str) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, (*place, *fault['loc'])))}: {fault['msg']}" for fault in error.errors())
        raise PackError(f"{path}: {'; '.join(faults)}") from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PackError(f"{path}: {error}") from error
