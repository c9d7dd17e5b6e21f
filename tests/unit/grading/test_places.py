"""Which definition counts: placeholders, doubles, helper modules, absent files, exchanged names; and devices."""

import re
from typing import Any

import pytest

from grading.hand_in import read_hand_in_files
from grading.harvest import Answer, Harvest, harvest, pipeline_chunks
from grading.placeholders import unfilled_line
from grading.starter import starter_definitions
from reference.pack import load_pack

PACK = load_pack("ddpm")
SOLUTION = PACK.solution.read_text(encoding="utf-8")
STARTER = PACK.starter(".py").read_text(encoding="utf-8")
ALL = [blank.id for blank in PACK.blanks]


def of(*sources: str, **files: str) -> Harvest:
    named = files or {"a": "".join(sources)}
    return harvest(read_hand_in_files([(f"{name}.py", text.encode()) for name, text in named.items()]), PACK)


def definition(name: str, source: str = SOLUTION) -> str:
    found = re.search(rf"^(class|def) {name}\(.*?(?=^\S)", source, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[0]


def not_found(found: Harvest) -> dict[str, Answer]:
    return {name: answer for name, answer in found.answers.items() if answer.status != "found"}


def text(found: Harvest) -> str:
    return "".join(chunk.source for chunk in pipeline_chunks(found, ALL))


# --- placeholders never beat answers


@pytest.mark.parametrize("order", [("mine", "starter"), ("a_starter", "mine")])
def test_an_untouched_starter_beside_the_answers_is_passed_over(order: tuple[str, str]) -> None:
    sources = {name: STARTER if "starter" in name else SOLUTION for name in order}
    # What it brings besides placeholders must not replace the answers' own
    sources = {name: source + f"\ndef helper():\n    return {name!r}\n" for name, source in sources.items()}
    sources["mine"] = sources["mine"].replace("return x_t.view(x_0.shape), noise", "return helper(), noise")
    found = of(**sources)
    assert not_found(found) == {}
    assert "return 'mine'" in text(found)
    starter = next(name for name in order if "starter" in name)
    (notice,) = found.notices
    assert f"`{starter}.py` was passed over" in notice


def test_a_starter_that_is_used_stays() -> None:
    found = of(
        a_starter=STARTER, mine="from a_starter import BETA_START\n" + SOLUTION.replace("BETA_START = 0.0001\n", "")
    )
    assert not_found(found) == {}
    assert not any("passed over" in notice for notice in found.notices)


def test_of_two_halves_each_gives_what_it_holds() -> None:
    first = SOLUTION.replace(definition("q"), definition("q", STARTER))
    second = STARTER.replace(definition("q", STARTER), definition("q"))
    for found in (of(a=first, b=second), of(a=second, b=first)):
        assert not_found(found) == {}
        assert found.notices == ()


@pytest.mark.parametrize(
    "below",
    [
        STARTER,
        definition("q", STARTER),
        "\ndef q(x_0, t):\n    pass\n",
        "\nclass UNet(nn.Module):\n    pass\n",
        "\nalphas = FIXME\n",
        "\na = FIXME\n",
        "\nalphas_cumprod = None\nw = None\n",
        "\nw = ____\n",
    ],
)
def test_what_is_filled_in_counts_over_what_is_not(below: str) -> None:
    for found in (of(SOLUTION, below), of(below, SOLUTION), of(a=SOLUTION, b=below), of(a=below, b=SOLUTION)):
        assert not_found(found) == {}
        assert not any("more than once" in notice for notice in found.notices)


def test_of_two_answers_the_later_counts_and_both_are_named() -> None:
    other = SOLUTION.replace("1.0 - betas", "1 - betas").replace("torch.randn_like(x_0)", "torch.randn(x_0.shape)")
    found = of(a=SOLUTION, b=other)
    assert not_found(found) == {}
    assert {found.answers[name].file for name in ("q", "alphas")} == {"b.py"}
    (notice,) = found.notices
    for words in ("`alphas` (a.py, line 31; what counts is b.py, line 31)", "`q` (a.py, line 42; what counts is b.py"):
        assert words in notice
    assert "GELUConvBlock" not in notice  # alike in both


@pytest.mark.parametrize(
    "source",
    [
        "alphas = 1 - betas\nalphas = alphas.to(device)\n",
        "alphas = None\nalphas = 1 - betas\n",
        "alphas = 1 - betas\nfor alphas in (1, 2):\n    pass\n",
        "w = 1\nw = 2\n",
        "c_drop_prob = 0.1\nc_drop_prob = 0\n",
        "def q(x_0, t):\n    return x_0\nq = torch.compile(q)\n",
    ],
)
def test_one_answer_in_several_lines_is_no_double(source: str) -> None:
    assert not any("more than once" in notice for notice in of(source).notices)


# --- placeholders of people's own


@pytest.mark.parametrize(
    "word", ["FIXME", "____", "___", "TODO", "YOUR_CODE_HERE", "your_code_here", "...", "None", "TODO()", "f(...)"]
)
def test_whatever_stands_in_the_starters_gaps_is_a_placeholder(word: str) -> None:
    found = of(STARTER.replace("FIXME", word))
    assert {answer.status for answer in found.answers.values()} == {"not_attempted"}
    assert all("placeholder" in answer.message for answer in found.answers.values())


@pytest.mark.parametrize(
    ("blank_id", "filled", "placeholder"),
    [
        ("q", "noise = torch.randn_like(x_0)", "noise = None"),
        ("q", "x_t = mean_coeff * x_0 + std_coeff * noise", "x_t = None"),
        ("q", "x_t = mean_coeff * x_0 + std_coeff * noise", "x_t = mean_coeff * x_0 + ..."),
        ("q", "noise = torch.randn_like(x_0)", "noise = torch.randn_like(...)"),
        ("q", "return x_t.view(x_0.shape), noise", "raise NotImplementedError"),
        ("reverse_q", "if t == 0:", "if t == None:"),
        ("reverse_q", "if t == 0:", "if t == ...:"),
        ("GELUConvBlock", "nn.Conv2d(in_ch, out_ch, 3, 1, 1)", "nn.Conv2d(in_ch, None, 3, 1, 1)"),
        ("GELUConvBlock", "nn.GELU(),\n        )", "None,\n        )"),
        ("RearrangePoolBlock", "self.rearrange = Rearrange(", "self.rearrange = None  # ("),
        ("ResidualConvBlock", "return x1 + self.conv2(x1)", "return ..."),
        ("UNet", "self.down1 = DownBlock(", "self.down1 = None("),
        ("get_loss", "x_t, noise = q(x_0, t)", "x_t, noise = None, None"),
        ("sample_w", "c_mask[n_samples:] = 0.0", "c_mask[n_samples:] = None"),
    ],
)
def test_one_gap_that_is_left_is_a_placeholder(blank_id: str, filled: str, placeholder: str) -> None:
    assert filled in SOLUTION
    found = of(SOLUTION.replace(filled, placeholder))
    answer = not_found(found)[blank_id]
    assert answer.status == "not_attempted"
    assert "placeholder" in answer.message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (".view(-1, 1, 1, 1)", "[..., None, None, None]"),
        ("noise = torch.randn_like(x_0)", "noise = None\n    if noise is None:\n        noise = torch.randn_like(x_0)"),
        ("noise = torch.randn_like(x_0)", "noise = None\n    noise = torch.randn_like(x_0)"),
        ("noise = torch.randn_like(x_0)", "generator = None\n    noise = torch.randn(x_0.shape, generator=generator)"),
        ("def q(x_0, t):", "def q(x_0, t, noise=None, shape=...):"),
        ("def q(x_0, t):", "def q(x_0, t: Callable[..., int]):"),
        ("c_mask[n_samples:] = 0.0", "c_mask[n_samples:, ...] = 0.0"),
        ("def get_loss(", "optimizer = None\nTODO = 'tune w'\n\n\ndef get_loss("),
        ("noise = torch.randn_like(x_0)", "_, TODO = 1, 2\n    noise = torch.randn_like(x_0) * TODO / 2"),
        ("t = t.long()\n", "t = t.long()\n    if t is None:\n        raise NotImplementedError\n"),
        ("    def forward(self, x, skip):", "        self.extra = None\n\n    def forward(self, x, skip):"),
    ],
)  # fmt: skip
def test_an_honest_none_or_ellipsis_is_no_placeholder(old: str, new: str) -> None:
    assert old in SOLUTION
    assert not_found(of(SOLUTION.replace(old, new))) == {}


def test_the_solution_holds_no_placeholder_by_any_rule() -> None:
    starter, solution = starter_definitions(PACK), of(SOLUTION)
    assert starter.keys() >= set(ALL)
    for answer in solution.answers.values():
        assert answer.status == "found"
    assert unfilled_line(starter["q"], starter["q"]) is not None


# --- what another module was to bring


def test_givens_of_a_module_that_is_not_there_are_injected() -> None:
    plain = re.sub(r"^(IMG_CH|IMG_SIZE|N_CLASSES|T) = .*\n", "", SOLUTION, flags=re.MULTILINE)
    found = of("from configs import IMG_CH, IMG_SIZE, N_CLASSES, T\n", plain)
    assert not_found(found) == {}
    assert found.answers["get_context_mask"].givens == {"N_CLASSES", "device"}
    assert "configs" not in text(found)
    (notice,) = found.notices
    assert "`IMG_CH`, `IMG_SIZE`, `N_CLASSES` and `T`" in notice
    assert "`configs`" in notice


@pytest.mark.parametrize(
    ("head", "classes"),
    [
        ("import configs\n", "configs.N_CLASSES"),
        ("import my.configs as cfg\n", "cfg.N_CLASSES"),
        ("from configs import N_CLASSES as K\n", "K"),
        ("from .configs import N_CLASSES\n", "N_CLASSES"),
        ("from configs import *\n", "N_CLASSES"),
    ],
)
def test_however_a_given_is_imported(head: str, classes: str) -> None:
    source = head + "def get_context_mask(c, drop_prob):\n    return c[:TOP], c\n".replace("TOP", classes)
    answer = of(source).answers["get_context_mask"]
    assert (answer.givens, answer.message) == ({"N_CLASSES"}, "")
    names: dict[str, Any] = {"N_CLASSES": 2}
    exec("".join(chunk.source for chunk in answer.chunks), names)
    assert names["get_context_mask"]([1, 2, 3], 0)[0] == [1, 2]


@pytest.mark.parametrize(
    "head", ["from helpers import pick", "from .helpers import pick", "from my.helpers import pick"]
)
def test_a_helper_of_a_file_that_is_not_there_is_named(head: str) -> None:
    found = of(f"{head}\n", SOLUTION.replace("mean_coeff = sqrt_alphas_cumprod[t]", "mean_coeff = pick(t)"))
    answer = found.answers["q"]
    assert answer.status == "found"
    for words in ("`q` uses `pick` from `", "helpers`, which was not handed in", "a.py, line 1", "helpers.py` too"):
        assert words in answer.message
    assert all(other.message == "" for name, other in found.answers.items() if name != "q")


def test_an_answer_of_a_file_that_is_not_there_is_not_attempted() -> None:
    found = of("from model import UNet\n", SOLUTION.replace(definition("UNet"), ""))
    (answer,) = not_found(found).values()
    assert answer.status == "not_attempted"
    assert answer.message == "`UNet` is imported from `model`, which was not handed in. Hand in `model.py` too."


@pytest.mark.parametrize(
    ("blank_id", "source"),
    [
        ("alphas", "from utils import ddpm_utils\nalphas = ddpm_utils.alphas\n"),
        ("alphas", "from utils import ddpm_utils\nddpm = ddpm_utils.DDPM(betas, device)\nalphas = ddpm.a\n"),
        ("sqrt_recip_alphas", "from utils import u\nd = u.D(betas)\nsqrt_recip_alphas = torch.sqrt(1 / d.a)\n"),
        ("q", "from utils import ddpm_utils\nq = ddpm_utils.q\n"),
        ("q", "from utils import d_utils\nddpm = d_utils.DDPM(betas)\ndef q(x_0, t):\n    return ddpm.q(x_0, t)\n"),
        ("q", "from utils import d_utils as d\ndef q(x_0, t):\n    x_t, noise = d.q(x_0, t)\n    return x_t, noise\n"),
        ("UNet", "from utils import UNet_utils\nUNet = UNet_utils.UNet\n"),
        ("UNet", "from utils import UNet_utils\nmodel = UNet_utils.UNet(T, IMG_CH, IMG_SIZE)\n"),
        ("UNet", "from utils import UNet_utils\nclass UNet(UNet_utils.UNet):\n    pass\n"),
        ("UNet", "from utils.UNet_utils import UNet\n"),
    ],
)  # fmt: skip
def test_what_comes_from_a_helper_module_of_the_course_is_not_attempted(blank_id: str, source: str) -> None:
    answer = of("import torch\n", source).answers[blank_id]
    assert answer.status == "not_attempted"
    assert "helper module of the course" in answer.message
    assert "Write it yourself." in answer.message


@pytest.mark.parametrize(
    "source",
    [
        "from utils import other_utils\ndef q(x_0, t):\n    other_utils.show(x_0)\n    return x_0, t\n",
        "from tqdm import tqdm\ndef q(x_0, t):\n    steps = tqdm(t)\n    return steps\n",
        "from utils import d_utils\nalphas = 1 - betas\ndef q(x_0, t):\n    return x_0 * alphas, t\nd_utils.check(q)\n",
    ],
)
def test_helper_modules_may_be_used_beside_an_answer(source: str) -> None:
    assert of(source).answers["q"].status == "found"


# --- exchanged names


def exchanged(*names: str) -> str:
    source = SOLUTION
    for number, name in enumerate(names):
        source = source.replace(f"class {name}(", f"class {number}(")
    for number in range(len(names)):
        source = source.replace(f"class {number}(", f"class {names[(number + 1) % len(names)]}(")
    return source


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("DownBlock", "ResidualConvBlock"), "looks like a `ResidualConvBlock`, and the other way round"),
        (("DownBlock", "SinusoidalPositionEmbedBlock"), "looks like a `SinusoidalPositionEmbedBlock`, and the other"),
        (("DownBlock", "UpBlock"), "looks like an `UpBlock`, and the other way round"),
        (("DownBlock", "EmbedBlock", "UpBlock"), "looks like an `UpBlock`, and others have each other's names too"),
    ],
)  # fmt: skip
def test_exchanged_names_are_told_and_stay(names: tuple[str, ...], words: str) -> None:
    found = of(exchanged(*names))
    assert not_found(found) == {}
    assert f"The class called `DownBlock` {words}" in found.answers["DownBlock"].message
    assert {name for name, answer in found.answers.items() if answer.message} == set(names)
    for name in names:  # each is taken by its name, so that the checks fail it
        assert found.answers[name].found_as == name
        assert f"class {name}(" in found.answers[name].chunks[-1].source


# --- devices


@pytest.mark.parametrize(
    "written",
    [
        "torch.randn_like(x_0).cuda()",
        "torch.randn_like(x_0).to('cuda')",
        "torch.randn_like(x_0, device='cuda:0')",
        "torch.randn_like(x_0).to(torch.device('cuda'))",
    ],
)
def test_a_gpu_that_is_written_out_is_told_once(written: str) -> None:
    found = of(
        SOLUTION.replace("torch.randn_like(x_0)", written).replace("torch.randn_like(x_t)", "torch.ones(1).cuda()")
    )
    (notice,) = found.notices
    assert "a.py, lines 49 and 76." in notice
    assert "`.to(device)`" in notice


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("torch.randn_like(x_0)", "torch.randn_like(x_0).to('cuda' if torch.cuda.is_available() else 'cpu')"),
        ('torch.device("cuda" if torch.cuda.is_available() else "cpu")', "'cuda'"),
    ],
)
def test_a_device_that_is_not_written_out_is_not_told(old: str, new: str) -> None:
    assert of(SOLUTION.replace(old, new)).notices == ()
