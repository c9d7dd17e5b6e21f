"""Generation through real guests: counting, the sweep, the student's own loop, and what hostile code makes of it."""

from dataclasses import replace

import pytest
import torch
from pipelines import PACK, RECIPE, pipeline

from grading import own_loop
from grading.events import Event, GenerationProgress
from grading.exploration import SWEEP
from grading.generation import BATCH, GRID_ROWS, MAX_MISREAD, generate
from grading.grid import draw_grid
from grading.outcomes import Outcome
from grading.own_loop import run_own_loop
from grading.pipeline import Pipeline
from grading.report import GenerationRun
from grading.sampling import alphas_cumprod, ddim, start_noise
from grading.seeds import Seeds
from grading.training import Trained, train
from reference import datasets
from sandbox.limits import Deadline

FORWARD = "    def forward(self, x, t, c, c_mask):\n"
GUIDED = "        e_t = (1 + w) * e_t_keep - w * e_t_drop\n"
ASKED = "model(x_t.repeat(2, 1, 1, 1), t.repeat(2 * n_samples), c, c_mask)"


@pytest.fixture(scope="module")
def trained(guest, equipment) -> Trained:
    seeds = Seeds(b"key", "a")
    digits, classifier = equipment.digits.training, equipment.classifier
    return train(pipeline(), guest, digits, classifier, seeds=seeds, emit=lambda event: None)


@pytest.fixture
def run(guest, equipment, trained):
    def generate_it(
        made: Pipeline, *, explore: bool = False, weights: Trained | None = None, emit=lambda event: None
    ) -> tuple[GenerationRun, dict[str, bytes]]:
        return generate(
            made,
            weights or trained,
            guest,
            equipment,
            PACK.file.accuracy,
            explore=explore,
            seeds=Seeds(b"key", "a"),
            emit=emit,
        )

    return generate_it


def test_digits_are_counted_until_it_is_clear(run):
    events: list[Event] = []
    report, artifacts = run(pipeline(), explore=True, emit=events.append)
    assert (report.status, report.message) == (Outcome.PASSED, "")
    assert report.images == 200  # so short a training is clearly not at 95 %
    assert not report.passed
    assert report.sequential.high < 0.95
    assert report.guidance_weight == 2.0
    assert [entry.label for entry in report.classes] == list(range(10))
    assert {entry.images for entry in report.classes} == {20}
    assert sum(entry.correct for entry in report.classes) == report.correct
    assert [event.images for event in events if isinstance(event, GenerationProgress)] == [BATCH, 2 * BATCH]
    assert [point.guidance_weight for point in report.sweep] == list(SWEEP)
    assert {point.images for point in report.sweep} == {BATCH}
    assert report.own_loop.status is Outcome.PASSED, report.own_loop.message
    assert set(artifacts) == {
        report.artifact,
        report.misread_artifact,
        report.own_loop.artifact,
        report.own_loop.filmstrip,
    }
    assert all(png.startswith(b"\x89PNG") for png in artifacts.values())


def test_what_is_measured_beside_the_accuracy(run):
    report, _ = run(pipeline(), explore=True)
    assert report.guidance.best_weight in SWEEP
    assert report.guidance.saturates_at <= report.guidance.best_weight
    own = next(point for point in report.sweep if point.guidance_weight == report.guidance_weight)
    assert own.diversity > 0
    assert sum(report.conditioning.unconditional) == pytest.approx(1)
    assert report.conditioning.followed < 0.6  # so short a training has hardly met any label
    assert {entry.level for entry in report.classes} <= {"below_floor", "red_flag"}
    assert all(entry.diversity.feature_distance > 0 for entry in report.classes)
    assert not any(entry.collapsed for entry in report.classes)
    assert report.second_opinion.copied == 0
    assert report.second_opinion.agreement_real > 0.9
    assert report.brightness.mean_real == pytest.approx(-0.39, abs=0.05)
    assert [speed.batch for speed in report.production.batches] == [1, 10, 100]
    assert report.production.images_per_second > 0
    assert 50 * 2**20 < report.production.memory_bytes < 4 * 2**30  # torch alone takes 200 MiB
    assert len(report.misread) == MAX_MISREAD
    assert all(entry.asked != entry.read_as for entry in report.misread)
    confidences = [entry.confidence for entry in report.misread]
    assert confidences == sorted(confidences, reverse=True)
    times = report.own_loop.filmstrip_times
    assert times[0] == RECIPE.timesteps - 1
    assert times == sorted(times, reverse=True)


def test_a_repaired_run_is_not_explored(run):
    report, _ = run(pipeline())
    assert (report.sweep, report.guidance, report.conditioning, report.production) == ([], None, None, None)
    assert report.own_loop is None
    assert report.classes[0].diversity is not None


def test_generation_can_be_repeated(run):
    first, again = run(pipeline())[0], run(pipeline())[0]
    assert first.correct == again.correct


@pytest.mark.threat(14)
def test_the_weights_count_not_what_the_guest_was_born_with(run, trained):
    empty = {
        name: torch.zeros_like(tensor) if tensor.is_floating_point() else tensor
        for name, tensor in trained.weights.items()
    }
    report, artifacts = run(pipeline(), weights=replace(trained, weights=empty))

    def no_noise(x, t, context, mask):
        return torch.zeros_like(x)

    noise = start_noise(
        RECIPE, BATCH, torch.Generator().manual_seed(Seeds(b"key", "a").seed("generate/submitted/noise"))
    )
    digits = torch.arange(BATCH) % 10
    expected = draw_grid(ddim(no_noise, RECIPE, noise, digits, 2.0), digits, GRID_ROWS)
    assert artifacts[report.artifact] == expected


def test_without_a_guidance_weight_the_packs_own_is_used_and_said(run):
    report, _ = run(pipeline(("\nw = 2.0\n", "\n")))
    assert report.guidance_weight == 2.0
    assert "no guidance weight w" in report.message


@pytest.mark.parametrize(
    ("source", "weight", "words"),
    [
        ("w = 0.5", 0.5, ""),
        ("w = torch.tensor([3.0])", 3.0, ""),
        ("w = 1 / 0", 2.0, "ZeroDivisionError"),
        ("w = torch.ones(3)", 2.0, "3 numbers"),
        ("w = float('nan')", 2.0, "w"),
        ("w = 1e30", 1e30, ""),  # as it is: the images are noise, and nothing breaks
    ],
)
def test_the_guidance_weight_is_the_students(run, source, weight, words):
    report, _ = run(pipeline(("\nw = 2.0\n", f"\n{source}\n")))
    assert report.guidance_weight == weight
    assert words in report.message
    assert report.images >= 200


@pytest.mark.parametrize(
    ("forward", "outcome", "words"),
    [
        ("        raise RuntimeError('not today')\n", Outcome.CRASHED, "not today"),
        ("        return x[:, :, :1]\n", Outcome.FAILED, "UNet returns shape"),
        ("        return x * float('nan')\n", Outcome.FAILED, "NaN"),
        ("        return 'digits'\n", Outcome.CRASHED, ""),
        ("        import os; os._exit(0)\n", Outcome.CRASHED, ""),
    ],
)
def test_what_goes_wrong_is_said(run, forward, outcome, words):
    report, _ = run(pipeline((FORWARD, FORWARD + forward)))
    assert (report.status, words in report.message) == (outcome, True), report.message
    assert not report.passed
    assert report.accuracy is None


def test_weights_that_do_not_fit_are_refused(run, trained):
    wrong = {name: torch.zeros(3) for name in trained.weights}
    report, _ = run(pipeline(), weights=replace(trained, weights=wrong))
    assert report.status is Outcome.CRASHED
    assert not report.passed


def test_a_perfect_network_is_read_as_what_it_draws(classifier):
    """The judge's DDIM with a network that knows the image of each class ends at these images."""
    digits = datasets.load("digits", "test", RECIPE.image_size)
    images, labels = digits.all()
    examples = torch.stack([images[labels == digit][0] for digit in range(10)])
    signal = alphas_cumprod(RECIPE)

    def predict(x, t, context, mask):
        x_0 = examples[context.argmax(dim=1)] * mask[:, :1, None, None]
        now = signal[t].view(-1, 1, 1, 1)
        return (x - now.sqrt() * x_0) / (1 - now).sqrt()

    noise = start_noise(RECIPE, 10, torch.Generator().manual_seed(0))
    made = ddim(predict, RECIPE, noise, torch.arange(10), guidance_weight=0)
    assert torch.allclose(made, examples, atol=1e-3)


class TestOwnLoop:
    """The student's own `sample_w`, with a network of the judge's in place of the trained one."""

    @pytest.fixture
    def loop(self, guest):
        def predict(x, t, context, mask):
            known = (context.float() * mask.float()).sum(dim=1).expand(len(x)).view(-1, 1, 1, 1)
            return 0.9 * x.float() + 0.3 * known * x.float().roll(1, dims=3)

        def run_it(*changes, weight=2.0, append=""):
            made = pipeline(*changes, append=append)
            classes = torch.arange(20) % 10
            return run_own_loop(made.own_loop, guest, RECIPE, predict, classes, weight, seed=3)

        return run_it

    def test_the_solutions_is_right(self, loop):
        found = loop()
        assert (found.status, found.message) == (Outcome.PASSED, "")
        assert found.images.shape == (20, 1, 8, 8)

    @pytest.mark.parametrize(
        "std",
        [
            "torch.sqrt(betas[t - 1])",
            "torch.sqrt(betas[t] * (1 - alphas_cumprod[t - 1]) / (1 - alphas_cumprod[t]))",
        ],
    )
    def test_every_customary_variance_is_right(self, loop, std):
        assert loop(("torch.sqrt(betas[t]) * torch.randn_like", f"{std} * torch.randn_like")).status is Outcome.PASSED

    def test_an_equal_form_of_guidance_is_right(self, loop):
        assert loop((GUIDED, "        e_t = e_t_keep + w * (e_t_keep - e_t_drop)\n")).status is Outcome.PASSED

    def test_asking_twice_for_each_step_is_right(self, loop):
        twice = (
            f"        e_t = {ASKED}\n",
            "        n = n_samples\n"
            "        e_t = torch.cat([model(x_t, t, c[:n], c_mask[:n]), model(x_t, t, c[n:], c_mask[n:, :1])])\n",
        )
        assert loop(twice).status is Outcome.PASSED

    def test_asking_by_keyword_is_right(self, loop):
        by_keyword = "model(c_mask=c_mask, c=c, t=t.repeat(2 * n_samples), x=x_t.repeat(2, 1, 1, 1))"
        assert loop((ASKED, by_keyword)).status is Outcome.PASSED

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            (GUIDED, "        e_t = w * e_t_keep + (1 - w) * e_t_drop\n", "the share of guidance"),
            (GUIDED, "        e_t = e_t_keep\n", "the share of guidance"),
            (
                "    return mean + torch.sqrt(betas[t]) * torch.randn_like(x_t)",
                "    return mean",
                "none of the customary variances",
            ),
            (
                "    return mean + torch.sqrt(betas[t]) * torch.randn_like(x_t)",
                "    return mean + betas[t] * torch.randn_like(x_t)",
                "none of the customary variances",
            ),
            ("    if t == 0:\n        return mean\n", "", "at t = 0 no noise"),
            ("pred_noise_coeff[t] * e_t)", "betas[t] * e_t)", "the share of"),
            ("for i in range(T)[::-1]:", "for i in range(1, T)[::-1]:", "at each time from 19 down to 0"),
            ("for i in range(T)[::-1]:", "for i in range(T):", "at each time from 19 down to 0"),
            ("    c_mask[n_samples:] = 0.0\n", "", "predictions with context"),
            ("    return x_t\n", "    return x_t[:3]\n", "does not return 20 images"),
            (ASKED, ASKED.replace("t.repeat(2 * n_samples)", "t / T"), "whole number as time"),
            (ASKED, ASKED.replace("x_t.repeat(2, 1, 1, 1)", "x_t"), "do not fit"),
            (ASKED, "model(x_t, t)", "four tensors"),
        ],
    )
    def test_what_is_wrong_is_found(self, loop, old, new, words):
        found = loop((old, new))
        assert found.status is not Outcome.PASSED
        assert words in found.message, found.message

    @pytest.mark.threat(28)
    def test_a_network_called_without_end_is_refused(self, loop):
        found = loop(("for i in range(T)[::-1]:", "for i in iter(lambda: 5, None):"))
        assert "was called" in found.message

    def test_an_endless_loop_ends(self, loop, monkeypatch):
        monkeypatch.setattr(own_loop, "DEADLINE", Deadline(cpu_seconds=3, wall_seconds=30))
        found = loop(("for i in range(T)[::-1]:", "while True: pass\n    for i in range(T)[::-1]:"))
        assert found.status is Outcome.TIMED_OUT

    def test_the_right_loop_is_right_every_time(self, guest):
        """At seven standard deviations chance never fails a right loop; at three it would fail some of these."""
        made = pipeline()

        def predict(x, t, context, mask):
            return x.float() * (0.5 + 0.5 * (context.float() * mask.float()).sum(dim=1).view(-1, 1, 1, 1))

        for seed in range(5):
            classes = torch.arange(10)
            assert run_own_loop(made.own_loop, guest, RECIPE, predict, classes, 1.0, seed).status is Outcome.PASSED
