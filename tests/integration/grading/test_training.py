"""Training through a real guest: what goes right, and what students' and hostile code makes of it."""

from dataclasses import replace

import pytest
import torch
from pipelines import RECIPE, pipeline

from grading import training
from grading.events import Event, SampleGrid, TrainingProgress
from grading.outcomes import Outcome
from grading.pipeline import Pipeline
from grading.seeds import Seeds
from grading.training import Trained, train
from sandbox.limits import Deadline

FORWARD = "    def forward(self, x, t, c, c_mask):\n"
LOSS = "    return F.mse_loss(noise_pred, noise)\n"


@pytest.fixture
def run(guest, digits, classifier):
    def train_it(made: Pipeline, submission: str = "a", emit=lambda event: None) -> Trained:
        seeds = Seeds(b"key", submission)
        return train(made, guest, digits, classifier, seeds=seeds, emit=emit)

    return train_it


def test_a_right_pipeline_is_trained(run):
    events: list[Event] = []
    trained = run(pipeline(), emit=events.append)
    assert (trained.status, trained.message) == (Outcome.PASSED, "")
    assert {name: tuple(tensor.shape) for name, tensor in trained.weights.items()} == trained.manifest
    report = trained.report
    assert report.images == RECIPE.images
    assert report.parameters == sum(tensor.numel() for tensor in trained.weights.values())
    assert report.loss[-1].images_seen == RECIPE.images
    assert 0 <= report.initial_accuracy < 0.3  # chance is 0.1
    progress = [event for event in events if isinstance(event, TrainingProgress)]
    assert [event.images_seen for event in progress] == [point.images_seen for point in report.loss]
    assert progress[-1].seconds_left == 0
    assert all(event.images_total == RECIPE.images for event in progress)
    grids = [event for event in events if isinstance(event, SampleGrid)]
    assert len(grids) == training.EVALUATIONS
    assert all(grid.png.startswith(b"\x89PNG") for grid in grids)


def test_what_is_measured_in_the_course_of_training(run):
    report = run(pipeline()).report
    assert [look.images_seen for look in report.evaluations] == [16, 32, 48, 64, 80]
    assert {look.images for look in report.evaluations} == {training.EVALUATION_IMAGES}
    assert (report.images_to_90, report.images_to_95) == (None, None)
    assert [moment.images_seen for moment in report.gradients] == [16, 32, 48, 64, 80]
    assert all(moment.norm > 0 and moment.zero == [] for moment in report.gradients)
    assert 0.5 < report.denoising.right_context < 5  # untrained networks are near 1
    assert report.denoising.wrong_context != report.denoising.right_context != report.denoising.no_context
    assert report.solution_parameters == report.parameters
    assert 0.01 < report.weight_rms < 1
    assert report.budget == RECIPE.images


class Reader:
    """A classifier that reads these shares of the digits correctly, look after look."""

    def __init__(self, *shares: float) -> None:
        self.shares = iter((0.1, *shares))  # the untrained network comes first

    def read(self, images: torch.Tensor) -> torch.Tensor:
        asked = torch.arange(len(images)) % 10
        return torch.where(asked < 10 * next(self.shares), asked, (asked + 1) % 10)


def test_the_first_look_that_reads_enough_is_noted(guest, digits):
    reader = Reader(0, 0, 0.9, 0.9, 1)
    trained = train(pipeline(), guest, digits, reader, seeds=Seeds(b"key", "a"), emit=lambda event: None)
    assert [look.accuracy.estimate for look in trained.report.evaluations] == [0, 0, 0.9, 0.9, 1]
    assert (trained.report.images_to_90, trained.report.images_to_95) == (48, 80)


def test_training_ends_when_two_looks_in_a_row_read_enough(guest, digits):
    reader, seeds = Reader(1, 0.9, 1, 1), Seeds(b"key", "a")
    trained = train(pipeline(), guest, digits, reader, seeds=seeds, emit=lambda event: None, enough=0.95)
    assert [look.images_seen for look in trained.report.evaluations] == [16, 32, 48, 64]
    assert (trained.report.images, trained.report.budget) == (64, RECIPE.images)
    assert (trained.status, trained.weights.keys()) == (Outcome.PASSED, trained.manifest.keys())


def test_layers_that_learn_nothing_are_named(run):
    report = run(pipeline(("c = c * c_mask", "c = c * 0.0"))).report
    assert report.gradients[-1].zero == ["c_emb1.model.0.weight", "c_emb2.model.0.weight"]
    assert report.denoising.right_context == report.denoising.wrong_context == report.denoising.no_context


@pytest.mark.parametrize(
    "lie", ["float('nan')", "-1.0", "'much'", "torch.ones(2)"], ids=["NaN", "negative", "text", "tensor"]
)
def test_gradients_that_a_guest_makes_up_are_left_out(run, lie):
    liar = f"    global noisemark_gradients\n    noisemark_gradients = lambda: {{'x': {lie}}}\n" + LOSS
    trained = run(pipeline((LOSS, liar)))
    assert trained.status is Outcome.PASSED
    assert trained.report.gradients == []


def test_training_learns(run):
    longer = RECIPE.model_copy(update={"images": 1600})
    made = pipeline()
    trained = run(replace(made, recipe=longer))
    assert trained.report.loss[-1].loss < 0.6 * trained.report.loss[0].loss


def test_the_same_submission_is_trained_in_the_same_way(run):
    first, again, other = run(pipeline()), run(pipeline()), run(pipeline(), submission="b")
    assert torch.equal(first.classes, again.classes)
    for name, tensor in first.weights.items():
        assert torch.allclose(tensor, again.weights[name], atol=1e-5), name
    assert any(not torch.equal(tensor, other.weights[name]) for name, tensor in first.weights.items())


@pytest.mark.threat(14)
def test_the_guest_sees_permuted_labels(guest, digits, classifier):
    """Trained on threes only, a hand-in that tells what it sees tells another digit from submission to submission."""
    threes = replace(digits, images=digits.images[digits.labels == 3], labels=digits.labels[digits.labels == 3])
    tell = (
        "    c_hot = F.one_hot(",
        "    if len(c.unique()) == 1: raise ValueError(f'labels: {c[0]}')\n    c_hot = F.one_hot(",
    )
    seen = set()
    for submission in "abcd":
        seeds = Seeds(b"key", submission)
        trained = train(pipeline(tell), guest, threes, classifier, seeds=seeds, emit=lambda event: None)
        assert f"labels: {trained.classes[3]}" in trained.message
        assert sorted(trained.classes.tolist()) == list(range(10))
        seen.add(int(trained.classes[3]))
    assert len(seen) > 1


def test_group_sizes_written_into_the_network_fit_narrow_ones(run):
    trained = run(pipeline(("big_group_size=8", "big_group_size=32")))
    assert trained.status is Outcome.PASSED


def test_a_network_that_asks_for_something_unknown_is_told_so(run):
    trained = run(pipeline(("        T,\n        img_ch,\n", "        T,\n        depth,\n        img_ch,\n")))
    assert trained.status is Outcome.FAILED
    assert "'depth'" in trained.message
    assert "needs a default" in trained.message


def test_a_network_that_asks_for_everything_gets_it(run):
    made = pipeline(
        ("down_chs=(64, 64, 128)", "down_chs"),
        ("t_embed_dim=8", "t_embed_dim"),
        ("c_embed_dim=10", "c_embed_dim"),
        ("small_group_size=8", "small_group_size"),
        ("big_group_size=8", "big_group_size"),
    )
    assert run(made).status is Outcome.PASSED


def test_names_that_differ_do_not_matter(run):
    made = pipeline(
        ("def get_loss(model, x_0, t, *context):", "def get_loss(net, images, times, c_hot, c_mask):"),
        ("x_t, noise = q(x_0, t)", "x_t, noise = q(images, times)"),
        ("noise_pred = model(x_t, t, *context)", "noise_pred = net(x_t, times, c_hot, c_mask)"),
    )
    assert run(made).status is Outcome.PASSED


def test_a_blank_that_training_needs_is_named(run):
    trained = run(pipeline(("c_drop_prob = 0.1", "")))
    assert trained.status is Outcome.NOT_ATTEMPTED
    assert "c_drop_prob" in trained.message


def test_a_repaired_pipeline_names_what_was_replaced(run):
    trained = run(pipeline(("c_drop_prob = 0.1", ""), replaced=frozenset({"c_drop_prob"})))
    assert trained.status is Outcome.PASSED
    assert trained.report.repaired_blanks == ["c_drop_prob"]


FAULTS = {
    "raises": (LOSS, "    raise ValueError('no loss today')\n", Outcome.CRASHED, "no loss today"),
    "exits": (LOSS, "    import os; os._exit(0)\n", Outcome.CRASHED, ""),
    "NaN": (LOSS, LOSS.replace("\n", " * float('nan')\n"), Outcome.FAILED, "not a finite number"),
    "explodes later": (
        LOSS,
        "    get_loss.calls = getattr(get_loss, 'calls', 0) + 1\n"
        "    return F.mse_loss(noise_pred, noise) * (1 if get_loss.calls < 3 else float('inf'))\n",
        Outcome.FAILED,
        "stopped being a finite number after",
    ),
    "no tensor": (LOSS, "    return 1.0\n", Outcome.FAILED, "get_loss returned float"),
    "not reduced": (
        LOSS,
        "    return F.mse_loss(noise_pred, noise, reduction='none')\n",
        Outcome.FAILED,
        "get_loss returned a tensor of shape",
    ),
    "constant network": (
        FORWARD,
        FORWARD + "        return torch.ones_like(x)\n",
        Outcome.FAILED,
        "does not depend on the network's parameters",
    ),
    "wrong shape": (
        FORWARD,
        FORWARD + "        return self.down0(x)[:, :, :1]\n",
        Outcome.FAILED,
        "UNet returns shape",
    ),
    "predicts NaN": (
        FORWARD,
        FORWARD + "        return self.down1(self.down0(x)) * float('nan')\n",
        Outcome.FAILED,
        "NaN",
    ),
    "too large": (
        "        self.T = T\n",
        "        self.T = T\n        self.table = nn.Parameter(torch.zeros(10_000_001))\n",
        Outcome.FAILED,
        "are allowed",
    ),
    "grows in training": (
        LOSS,
        "    if not hasattr(model, 'seen'): model.register_buffer('seen', x_0.clone())\n" + LOSS,
        Outcome.FAILED,
        "another name, 'seen'",
    ),
    "weights of another shape": (
        LOSS,
        "    model.state_dict = lambda **_: {'stolen': x_0}\n" + LOSS,
        Outcome.FAILED,
        "another name",
    ),
    "weights are NaN": (
        LOSS,
        "    with torch.no_grad(): model.down0.conv1.model[1].running = 0\n"
        "    own = model.__class__.state_dict(model)\n"
        "    model.state_dict = lambda **_: {name: tensor * float('nan') for name, tensor in own.items()}\n" + LOSS,
        Outcome.FAILED,
        "NaN",
    ),
}


@pytest.mark.threat(13, 14)
@pytest.mark.parametrize("fault", FAULTS)
def test_what_goes_wrong_is_said(run, fault):
    old, new, outcome, words = FAULTS[fault]
    trained = run(pipeline((old, new)))
    assert (trained.status, words in trained.message) == (outcome, True), trained.message
    assert trained.weights == {}
    assert trained.report.status is outcome
    assert "noisemark_" not in trained.message
    assert "Traceback" not in trained.message


@pytest.mark.threat(28)
def test_a_loss_that_never_ends_is_found_before_any_data_is_sent(run, monkeypatch):
    monkeypatch.setattr(training, "REHEARSAL", Deadline(cpu_seconds=3, wall_seconds=30))
    trained = run(pipeline((LOSS, "    while True: pass\n")))
    assert trained.status is Outcome.TIMED_OUT
    assert trained.report.images == 0


def test_a_guest_that_died_does_not_harm_the_next_run(run):
    assert run(pipeline((LOSS, "    import os; os._exit(0)\n"))).status is Outcome.CRASHED
    assert run(pipeline()).status is Outcome.PASSED
