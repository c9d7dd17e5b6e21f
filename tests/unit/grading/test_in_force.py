"""The value in force: what `c_drop_prob` is where the code trains, and `w` where it samples."""

from textwrap import dedent, indent
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from grading.hand_in import read_hand_in_files
from grading.harvest import Answer, Harvest, harvest, pipeline_chunks
from reference.pack import load_pack
from sandbox.program import Chunk

PACK = load_pack("ddpm")

# What the course's notebook does before it samples
SAMPLING = """
w = 2.0
c_drop_prob = 0
c_hot, c_mask = get_context_mask(c, c_drop_prob)
x_0 = sample_w(model, c_hot, w)
"""


def loop(first: str = "pass", share: str = "c_drop_prob", preview: str = "c_drop_prob = 0") -> str:
    """The course's loop: with `first` at its head, `share` handed over, and `preview` in the `if` at its end."""
    return f"""
for epoch in range(3):
    for step, batch in enumerate(dataloader):
{indent(dedent(first), " " * 8)}
        optimizer.zero_grad()
        c_hot, c_mask = get_context_mask(batch[1], {share})
        loss = get_loss(model, batch[0], t, c_hot, c_mask)
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            {preview}
            c_hot, c_mask = get_context_mask(torch.Tensor([3]), {share})
            sample_images(model, c_hot, c_mask)
"""


def inside(head: str, body: str) -> str:
    return f"\n{head}\n{indent(body, '    ')}\n"


def of(*sources: str, **files: str) -> Harvest:
    named = files or {"a": "".join(sources)}
    return harvest(read_hand_in_files([(f"{name}.py", text.encode()) for name, text in named.items()]), PACK)


def value(found: Answer) -> Any:
    assert found.status == "found", found.message
    return run(found.chunks)[found.found_as or ""]


def run(chunks: tuple[Chunk, ...]) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "answer"}
    for chunk in chunks:
        exec(compile("\n" * (chunk.line - 1) + chunk.source, chunk.file, "exec"), namespace)
    return namespace


IN_A_STEP = """
def step(batch):
    c_hot, c_mask = get_context_mask(batch[1], c_drop_prob)
    loss = get_loss(model, batch[0], t, c_hot, c_mask)
    loss.backward()

for batch in dataloader:
    c_drop_prob = 0.1
    step(batch)
    if preview:
        c_drop_prob = 0
        show(get_context_mask(c, c_drop_prob))
"""

TRAINER = """
class Trainer:
    def __init__(self, model, settings):
        self.model, self.count = model, 0
        self.share = settings["share"]

    def fit(self, data):
        for x, y in data:
            c_hot, c_mask = get_context_mask(y, self.share)
            loss = get_loss(self.model, x, t, c_hot, c_mask)
            loss.backward()

Trainer(UNet(), {"share": 0.1}).fit(dataloader)
"""

VALIDATION = """
c_drop_prob = 0.1
for epoch in range(3):
    for x, y in dataloader:
        c_hot, c_mask = get_context_mask(y, c_drop_prob)
        loss = get_loss(model, x, t, c_hot, c_mask)
        loss.backward()
    with torch.no_grad():
        for x, y in others:
            c_drop_prob = 0.0
            c_hot, c_mask = get_context_mask(y, c_drop_prob)
            losses.append(get_loss(model, x, t, c_hot, c_mask))
    c_drop_prob = 0.1
"""

VALIDATION_IN_LOOP = """
for step, (x, y) in enumerate(dataloader):
    c_drop_prob = 0.1
    c_hot, c_mask = get_context_mask(y, c_drop_prob)
    loss = get_loss(model, x, t, c_hot, c_mask)
    loss.backward()
    if step % 10 == 0:
        c_drop_prob = 0
        c_hot, c_mask = get_context_mask(other, c_drop_prob)
        other_loss = get_loss(model, x, t, c_hot, c_mask)
"""

PREVIEW_FIRST = """
c_drop_prob = 0.1
for step, (x, y) in enumerate(dataloader):
    if step % 100 == 0:
        c_drop_prob = 0
        sample_images(model, *get_context_mask(c, c_drop_prob))
        c_drop_prob = 0.1
    c_hot, c_mask = get_context_mask(y, c_drop_prob)
    loss = get_loss(model, x, t, c_hot, c_mask)
    loss.backward()
"""

PREPARED = """
def prepare(batch):
    c_drop_prob = 0.1
    c_hot, c_mask = get_context_mask(batch[1], c_drop_prob)
    return batch[0].to(device), c_hot.to(device), c_mask.to(device)

for batch in dataloader:
    x, c_hot, c_mask = prepare(batch)
    c_hot = c_hot.float()
    accelerator.backward(get_loss(model, x, t, c_hot, c_mask))
"""

IN_ITS_OWN_LOSS = """
def get_loss(model, x_0, t, labels):
    c_hot, c_mask = get_context_mask(labels, c_drop_prob)
    return (model(x_0, t, c_hot, c_mask) ** 2).mean()

c_drop_prob = 0.1
for x, y in dataloader:
    get_loss(model, x, t, y).backward()
"""

OWN_LOSS_BESIDE_IT = """
for x, y in dataloader:
    c_drop_prob = 0.1
    c_hot, c_mask = get_context_mask(y, c_drop_prob)
    loss = F.mse_loss(model(x, t, c_hot, c_mask), noise)
    loss.backward()
"""

TRAINED_WITH_A_TENTH = {
    "the course's loop": loop("c_drop_prob = 0.1"),
    "before the loop": "c_drop_prob = 0.1\n" + loop(preview="pass"),
    "before the loop, never set back": "c_drop_prob = 0.1\n" + loop(),
    "after a cell for nothing": "c_drop_prob = 0.7\nc_drop_prob = 0.1\n" + loop(),
    "another name in the loop": loop("p = 0.1", "p", "p = 0"),
    "another name before it": "SHARE = 0.1\n" + loop(share="SHARE", preview="pass"),
    "through two names": "SHARE = 0.1\n" + loop("p = SHARE\nc_drop_prob = p"),
    "with an operator": "SHARE = 0.2\n" + loop("c_drop_prob = SHARE / 2"),
    "in place": "c_drop_prob = 0.2\nc_drop_prob /= 2\n" + loop(),
    "a tuple": loop("lr, c_drop_prob = 1e-3, 0.1"),
    "a literal": loop(share="0.1", preview="pass"),
    "a keyword": loop(share="drop_prob=0.1", preview="pass"),
    "a dictionary": "cfg = {'p': 0.1}\n" + loop(share="cfg['p']", preview="pass"),
    "a class of settings": "class CFG:\n    p = 0.1\n" + loop(share="CFG.p", preview="pass"),
    "an object of settings": "from types import SimpleNamespace\ncfg = SimpleNamespace()\ncfg.p = 0.1\n"
    + loop(share="cfg.p", preview="pass"),
    "in a function": inside("def train(model):", "c_drop_prob = 0.1" + loop()) + "train(model)\n",
    "in a function's loop": inside("def train(model):", loop("c_drop_prob = 0.1")) + "train(model)\n",
    "in a function that nobody calls": inside("def train(model):", loop("c_drop_prob = 0.1")),
    "in a function in a function": inside("def main():", inside("def train():", loop("c_drop_prob = 0.1")) + "train()"),
    "read by a function": inside("def train():", loop(preview="pass")) + "c_drop_prob = 0.1\ntrain()\n",
    "an argument": inside("def train(model, c_drop_prob):", loop(preview="pass")) + "train(model, 0.1)\n",
    "an argument by name": inside("def train(model, *, p):", loop(share="p", preview="pass")) + "train(model, p=0.1)\n",
    "an argument over a default": inside("def train(p=0.5):", loop(share="p", preview="pass")) + "train(p=0.1)\n",
    "an argument that is set": "c_drop_prob = 0.1\n"
    + inside("def train(p):", loop(share="p"))
    + "train(c_drop_prob)\n",
    "a default that is set": "c_drop_prob = 0.1\n" + inside("def train(p=c_drop_prob):", loop(share="p")) + "train()\n",
    "from main": inside("def train(p):", loop(share="p", preview="pass"))
    + "def main():\n    c_drop_prob = 0.1\n    train(c_drop_prob)\n\nif __name__ == '__main__':\n    main()\n",
    "a step of its own": IN_A_STEP,
    "a trainer": TRAINER,
    "validation after each epoch": VALIDATION,
    "validation in the loop": VALIDATION_IN_LOOP,
    "the preview first": PREVIEW_FIRST,
    "a function that prepares batches": PREPARED,
    "a loss that masks": IN_ITS_OWN_LOSS,
    "a loss of its own": OWN_LOSS_BESIDE_IT,
    "under a condition": "if TRAIN:" + indent(loop("c_drop_prob = 0.1"), "    "),
    "one for training, one for previews": loop("if training:\n    c_drop_prob = 0.1\nelse:\n    c_drop_prob = 0"),
    "the same the other way round": loop("if preview:\n    c_drop_prob = 0\nelse:\n    c_drop_prob = 0.1"),
    "in an expression": loop("c_drop_prob = 0.1 if training else 0"),
    "trained twice": loop("c_drop_prob = 0.3") + loop("c_drop_prob = 0.1"),
    "a starter's loop below": loop("c_drop_prob = 0.1") + loop("c_drop_prob = FIXME"),
    "a starter's loop above": loop("c_drop_prob = FIXME") + loop("c_drop_prob = 0.1"),
    "a starter's line below": "c_drop_prob = 0.1\nc_drop_prob = FIXME\n" + loop(preview="pass"),
    "a starter's line above": "c_drop_prob = FIXME\nc_drop_prob = 0.1\n" + loop(preview="pass"),
    "a starter's line in the loop": "c_drop_prob = 0.1\n" + loop("c_drop_prob = FIXME"),
    "filled in below": "c_drop_prob = FIXME\n" + loop() + "c_drop_prob = 0.1\n",
    "no training": "c_drop_prob = 0.1\n",
}


@pytest.mark.parametrize("source", TRAINED_WITH_A_TENTH.values(), ids=TRAINED_WITH_A_TENTH.keys())
@pytest.mark.parametrize("after", ["", SAMPLING], ids=["alone", "sampled"])
def test_the_share_is_the_one_that_is_trained_with(source: str, after: str) -> None:
    found = of(source, after)
    assert value(found.answers["c_drop_prob"]) == 0.1
    # And that is what the pipeline trains with, whatever else binds the name
    assert run(pipeline_chunks(found, [blank.id for blank in PACK.blanks]))["c_drop_prob"] == 0.1


NOT_ATTEMPTED = {
    "FIXME in the loop": (loop("c_drop_prob = FIXME"), "placeholder (a.py, line 4)"),
    "FIXME before it": ("c_drop_prob = FIXME\n" + loop(), "placeholder (a.py, line 1)"),
    "None": (loop("c_drop_prob = None"), "placeholder (a.py, line 4)"),
    "handed over": (loop(share="FIXME"), "placeholder"),
    "a default": (
        inside("def train(model, c_drop_prob=0.1):", loop(preview="pass")) + "train(model)\n",
        "default of a parameter of `train` (a.py, line 2)",
    ),
    "a default of another name": (
        inside("def train(model, p=0.1):", loop(share="p", preview="pass")) + "train(model)\n",
        "default of a parameter of `train` (a.py, line 2)",
    ),
    "a default of the function": (
        "def get_context_mask(c, drop_prob=0.1):\n    return c, c\n"
        "for x, y in data:\n    loss = get_loss(m, x, t, *get_context_mask(y))\n    loss.backward()\n",
        "default of a parameter of `get_context_mask`",
    ),
    "settings that nobody else can use": (
        "def train():\n    class CFG:\n        p = 0.1\n"
        + indent(loop(share="CFG.p", preview="pass"), "    ")
        + "train()\n",
        "depends on how your code runs",
    ),
    "a schedule": (loop("c_drop_prob = 0.1 * epoch"), "depends on how your code runs"),
}


@pytest.mark.parametrize(("source", "words"), NOT_ATTEMPTED.values(), ids=NOT_ATTEMPTED.keys())
@pytest.mark.parametrize("after", ["", SAMPLING], ids=["alone", "sampled"])
def test_a_zero_for_sampling_is_no_answer(source: str, words: str, after: str) -> None:
    found = of(source, after).answers["c_drop_prob"]
    assert found.status == "not_attempted"
    assert words in found.message


def test_a_zero_that_is_trained_with_is_an_answer() -> None:
    assert value(of("c_drop_prob = 0\n", loop(preview="pass")).answers["c_drop_prob"]) == 0


def test_the_place_is_where_the_value_is_written() -> None:
    found = of(inside("def train(p):", loop(share="p", preview="pass")), "train(\n    0.1)\n", SAMPLING)
    answer = found.answers["c_drop_prob"]
    assert (answer.file, answer.line, answer.chunks[-1].source) == ("a.py", 17, "c_drop_prob = 0.1\n")


@pytest.mark.parametrize(
    "config",
    ["from config import c_drop_prob", "from config import *", "import config\nc_drop_prob = config.c_drop_prob"],
)
def test_the_value_may_stand_in_another_module(config: str) -> None:
    found = of(
        config="c_drop_prob = 0.1\n",
        parts="def get_loss(*x): return x\ndef get_context_mask(c, p): return c, c\n",
        train=f"{config}\nfrom parts import get_loss, get_context_mask\n" + loop(preview="pass"),
        show="from parts import get_context_mask\n" + SAMPLING,
    )
    assert value(found.answers["c_drop_prob"]) == 0.1
    found = of(
        trainer="from parts import *\ndef fit(model, p):" + indent(loop(share="p", preview="pass"), "    "),
        parts="def get_loss(*x): return x\ndef get_context_mask(c, p): return c, c\n",
        run="from trainer import fit as train\ntrain(model, 0.1)\n" + SAMPLING,
    )
    assert value(found.answers["c_drop_prob"]) == 0.1


def test_what_another_answer_needs_does_not_undo_the_value() -> None:
    found = of(
        loop("c_drop_prob = 0.1"), "rows, c_drop_prob = 10, 0\ndef q(x_0, t):\n    return x_0 * rows\n", SAMPLING
    )
    names = run(pipeline_chunks(found, ["c_drop_prob", "q"]))
    assert names["c_drop_prob"] == 0.1
    assert names["q"](2, 0) == 20


SAMPLED_WITH = {
    "the course's cell": (SAMPLING, 2.0),
    "a later cell": ("w = 0.5\nsample_w(m, c, w)\nw = 3\nsample_w(m, c, w)", 3),
    "what comes after": ("w = 3\nsample_w(m, c, w)\nw = torch.zeros(3)", 3),
    "tries in a loop": ("w = 3\nfor w in (0, 1):\n    sample_w(m, c, w)", 3),
    "tries in a loop, before": ("for w in (0, 1):\n    sample_w(m, c, w)\nw = 3\nsample_w(m, c, w)", 3),
    "tries under another name": ("w = 3\nfor g in (0, 1):\n    sample_w(m, c, g)\nsample_w(m, c, 0.5)", 3),
    "tries in a function": ("w = 3\ndef show(g):\n    sample_w(m, c, g)\nshow(1)\nshow(9)", 3),
    "handed to the assessment": ("w = 1\nsample_w(m, c, w)\nw = 3\nrun_assessment(m, sample_w, w)\nw = 0", 3),
    "a literal where there is nothing else": ("sample_w(m, c, 3)", 3),
    "another name where there is nothing else": ("guide = 3\nsample_w(m, c, w=guide)", 3),
    "in main": ("def main():\n    w = 3\n    sample_w(m, c, w)\nmain()", 3),
    "a placeholder below": ("w = 3\nsample_w(m, c, w)\nw = FIXME\nsample_w(m, c, w)", 3),
    "a default of the function": ("def sample_w(m, c, w=None):\n    return c\nw = 3\nsample_w(m, c, w)", 3),
    "no sampling": ("w = 3", 3),
}


@pytest.mark.parametrize(("source", "expected"), SAMPLED_WITH.values(), ids=SAMPLED_WITH.keys())
def test_the_weight_is_the_one_that_is_sampled_with(source: str, expected: float) -> None:
    assert value(of(source).answers["w"]) == expected


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("w = FIXME\nsample_w(m, c, w)\nfor g in (1, 2):\n    sample_w(m, c, g)", "placeholder"),
        (
            "def show(c, w=2.0):\n    return sample_w(m, c, w)\nshow(c)",
            "default of a parameter of `show` (a.py, line 1)",
        ),
        ("for w in (1, 2):\n    sample_w(m, c, w)", "depends on how your code runs"),
    ],
)
def test_a_weight_that_nobody_chose_is_not_attempted(source: str, words: str) -> None:
    found = of(source).answers["w"]
    assert found.status == "not_attempted"
    assert words in found.message


NOISE = (
    "x = 1",
    "print(c_drop_prob)",
    "def helper(c_drop_prob=0.9):\n    return c_drop_prob",
    "import math",
    "y: int = 3",
)
WRAPPERS = ("if TRAIN:", "with context():", "for again in range(1):", "try:", "def train():")


@settings(max_examples=150, deadline=None, phases=[Phase.generate])
@given(st.data())
def test_moving_and_wrapping_changes_nothing(data: st.DataObject) -> None:
    """The loop and what sets the share, in any wrapping, with anything harmless around: always the same value."""
    # Functions and classes stay at the left margin: inside of a function nobody else can use them
    outside = ("def ", "class ", "import ")
    kinds = [
        name
        for name, source in TRAINED_WITH_A_TENTH.items()
        if "get_loss" in source and not any(word in source for word in outside)
    ]
    body = TRAINED_WITH_A_TENTH[data.draw(st.sampled_from(kinds))]
    for wrapper in data.draw(st.lists(st.sampled_from(WRAPPERS), max_size=3)):
        body = inside(wrapper, body)
        if wrapper == "try:":
            body += "except ValueError:\n    pass\n"
        elif wrapper == "def train():" and data.draw(st.booleans()):
            body += "train()\n"
    noise = st.lists(st.sampled_from(NOISE), max_size=3).map("\n".join)
    source = "\n".join([data.draw(noise), body, data.draw(noise), SAMPLING, data.draw(noise)]) + "\n"
    assert value(of(source).answers["c_drop_prob"]) == 0.1, source
