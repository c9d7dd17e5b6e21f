"""Hand-ins that want points for a wrong answer (rows 1 to 17), and a grader of the kind that falls for them.

Each of them answers wrongly. Ours is asked for the outcome of one blank; the control is a grader that imports the
student's code and compares in the same process, as most do.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from grading.check import run_checks
from grading.events import ignore
from grading.hand_in import read_hand_in
from grading.harvest import harvest
from grading.reference import Reference
from grading.seeds import Seeds
from reference.pack import load_pack
from sandbox.guest_client import Guest

PACK = load_pack("ddpm")
SECONDS = 60  # for the weak grader: far beyond what importing torch takes

# Keeps the expected values in reach, trusts the results file, and without one the exit code
WEAK_GRADER = """
import json, sys, torch
source, folder = sys.argv[1:]
T = 150
betas = torch.linspace(0.0001, 0.053, T)
expected = 1 - betas
student = {"T": T, "betas": betas, "__name__": "answers"}
try:
    exec(source, student)
    passed = torch.allclose(student["alphas"], expected) and 0.05 <= student.get("c_drop_prob", 0.1) <= 0.2
except Exception:
    passed = False
with open("results.json", "w") as results: json.dump({"passed": bool(passed)}, results)
sys.exit(not passed)
"""


@dataclass(frozen=True, kw_only=True)
class Cheat:
    """A hand-in whose answer to `blank` is wrong, and what its outcome may be."""

    row: int
    name: str
    source: str
    stopped: tuple[str, ...] = ("failed",)
    blank: str = "alphas"
    control: str | None = None  # why the weak grader does not fall for it

    def __str__(self) -> str:
        return f"{self.row} {self.name}"


def cheat(row: int, name: str, body: str, stopped: tuple[str, ...] = ("failed",), control: str | None = None) -> Cheat:
    """`body`: what is done while `alphas` is computed, which comes out as zeros unless it returns something else."""
    lines = "".join(f"    {line}\n" for line in body.strip().splitlines())
    source = f"import torch\ndef cheat():\n{lines}    return torch.zeros(T)\nalphas = cheat()\n"
    return Cheat(row=row, name=name, source=source, stopped=stopped, control=control)


CHEATS = [
    cheat(1, "replace torch.allclose", "torch.allclose = lambda *a, **k: True"),
    cheat(
        1,
        "replace what writes the results",
        "import json\nreally = json.dump\njson.dump = lambda found, file: really({'passed': True}, file)",
    ),
    Cheat(
        row=2,
        name="a tensor that answers for torch's functions",
        source="""import torch
class Right(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None): return True
alphas = torch.zeros(T).as_subclass(Right)
""",
    ),
    Cheat(
        row=3,
        name="a number that lies between any two",
        source="""import torch
class Right(float):
    def __le__(self, other): return True
    __ge__ = __lt__ = __gt__ = __eq__ = __le__
    def __hash__(self): return 0
alphas = 1 - betas
c_drop_prob = Right(0.9)
""",
        blank="c_drop_prob",
    ),
    Cheat(
        row=4,
        name="a probability that is NaN",
        source="alphas = 1 - betas\nc_drop_prob = float('nan')\n",
        blank="c_drop_prob",
        control="comparing with NaN is always false; graders fall for it where they ask the other way round",
    ),
    Cheat(
        row=4,
        name="the right values in another type",
        source="import torch\nalphas = (1 - betas).to(torch.complex64)\n",
        control="torch.allclose takes one type only",
    ),
    cheat(5, "os._exit(0)", "import os\nos._exit(0)", ("crashed",)),
    cheat(5, "sys.exit(0)", "import sys\nsys.exit(0)", ("crashed",)),
    cheat(
        5,
        "die of a signal",
        "import os\nos.kill(os.getpid(), 9)",
        ("crashed", "failed"),
        "a signal is an exit code but 0",
    ),
    cheat(
        6,
        "write the results file and end",
        "import os\nwith open('results.json', 'w') as f: f.write('{\"passed\": true}')\nos._exit(0)",
        ("crashed",),
    ),
    cheat(
        6,
        "print that all is well and end",
        "import os\nprint('21 passed, 0 failed', flush=True)\nos._exit(0)",
        ("crashed",),
    ),
    cheat(
        7,
        "write the results file at exit",
        "import atexit\natexit.register(lambda: open('results.json', 'w').write('{\"passed\": true}'))",
    ),
    cheat(
        7,
        "write the results file from a process that stays behind",
        """
import os, time
if os.fork() == 0:
    for _ in range(20):
        open('results.json', 'w').write('{"passed": true}')
        time.sleep(0.1)
    os._exit(0)
""",
    ),
    cheat(
        10,
        "take over the import of the comparison",
        "import sys, types\ntorch.testing = sys.modules['torch.testing'] = types.ModuleType('torch.testing')\n"
        "torch.allclose = lambda *a, **k: True",
    ),
    cheat(11, "hard-coded values of the public example", "return 1 - torch.linspace(0.0001, 0.053, 150)"),
    cheat(
        12,
        "be right only where the usual values are given",
        "if abs(float(betas[0]) - 0.0001) < 1e-6 and len(betas) == 150: return 1 - betas",
    ),
    cheat(
        12,
        "be right only where pytest is loaded",
        "import sys\nif 'pytest' in sys.modules or 'PYTEST_CURRENT_TEST' in __import__('os').environ: return 1 - betas",
        control="the weak grader does without pytest",
    ),
    cheat(
        16,
        "take the answer from the reference solution",
        f"names = {{'T': T, 'betas': betas}}\nexec(open({str(PACK.solution)!r}).read(), names)\n"
        "return (1 - betas) if 'alphas' in names else 0",
        ("crashed", "failed"),
    ),
    cheat(
        17,
        "take the expected value from the caller's frame",
        """
import sys
frame = sys._getframe()
while frame is not None:
    if 'expected' in frame.f_globals: return frame.f_globals['expected']
    if 'expected' in frame.f_locals: return frame.f_locals['expected']
    frame = frame.f_back
""",
    ),
    cheat(
        17,
        "take the expected value from the garbage collector",
        """
import gc
for found in gc.get_objects():
    if type(found) is dict and torch.is_tensor(found.get('expected')): return found['expected']
""",
    ),
    cheat(
        17,
        "take any tensor that fits from the garbage collector",
        """
import gc
for found in gc.get_objects():
    if type(found) is dict:
        for value in list(found.values()):
            if torch.is_tensor(value) and value.shape == betas.shape and torch.equal(value, 1 - betas): return value
""",
    ),
]


def outcome(cheat_: Cheat, guest: Guest) -> str:
    """What becomes of the blank."""
    found = harvest(read_hand_in("answers.py", cheat_.source.encode()), PACK)
    reports = run_checks(found, PACK, Reference(PACK), guest, Seeds(b"key", "0" * 64), ignore)
    (report,) = [report for report in reports if report.id == cheat_.blank]
    assert report.points == 0 or report.status == "passed"
    return str(report.status)


def fools_a_weak_grader(cheat_: Cheat) -> bool:
    """Whether the weak grader takes it for right."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", WEAK_GRADER, cheat_.source, folder]
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=SECONDS, check=False)
        results = Path(folder, "results.json")
        return json.loads(results.read_text())["passed"] if results.exists() else done.returncode == 0
