"""The report's charts, drawn by matplotlib as SVG that goes straight into a page.

Colours are custom properties of the page's style sheet (`var(--chart-...)`), so that one drawing serves the light and
the dark theme. Every chart has a text beside it on the page, so an assistive technology may skip the drawing.
"""

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from grading.report import ClassReport, LossPoint, SweepPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# matplotlib knows no custom properties: it draws with colours that nothing else uses, and these are replaced.
_INK = "#010203"
_GRID = "#020304"
_LINE = "#030405"
_BAND = "#040506"
_MARK = "#050607"
_PROPERTIES = {
    _INK: "var(--muted)",
    _GRID: "var(--line)",
    _LINE: "var(--accent)",
    _BAND: "var(--accent-soft)",
    _MARK: "var(--mark)",
}
# What has no place in an element of a page, and what takes it
_FOR_A_PAGE = (
    (r"<style.*?</style>", ""),  # its rules would hold for the whole page
    (r"<svg [^>]*(viewBox=\"[^\"]*\")[^>]*>", r'<svg class="chart" aria-hidden="true" focusable="false" \1>'),
    (r"font-family: [^;\"]*;? ?", ""),  # the page's font
    (r'(\bid="|url\(#|href="#)', r"\1NAME-"),  # ids are unique in a drawing, and have to be so on the page
)
_SIZE = (4.8, 2.7)  # inches at 72 pixels: shrunk to a phone's 300 pixels its labels can still be read
_MANY_POINTS = 25  # from here on a curve says more without a dot on every point


def loss_curve(points: Sequence[LossPoint], name: str) -> Markup:
    """Loss over images seen. `name` is unique on the page and prefixes the drawing's ids."""
    from matplotlib.ticker import LogLocator

    figure, axes = _axes()
    images = [point.images_seen for point in points]
    losses = [point.loss for point in points]
    axes.plot(images, losses, color=_LINE, linewidth=2, marker="" if len(points) > _MANY_POINTS else "o", markersize=4)
    if min(losses) > 0 and max(losses) > 10 * min(losses):  # more than a decade: a linear axis would hide the end
        axes.set_yscale("log", subs=[])
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlim(left=0)
    axes.set_xlabel("images seen in training")
    axes.set_ylabel("loss")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    return _svg(figure, name)


def class_accuracies(classes: Sequence[ClassReport], pass_mark: float, name: str) -> Markup:
    """Accuracy per digit with its interval, and the pass mark."""
    figure, axes = _axes()
    positions = list(range(len(classes)))
    estimates = [entry.accuracy.estimate for entry in classes]
    axes.bar(positions, estimates, width=0.62, color=_BAND, edgecolor=_LINE, linewidth=1.2)
    # Plain lines, not `errorbar`: the upper end of an interval may lie below its estimate by a rounding error
    axes.vlines(
        positions, [entry.accuracy.low for entry in classes], [entry.accuracy.high for entry in classes], color=_INK
    )
    axes.axhline(pass_mark, color=_MARK, linewidth=1.5, linestyle=(0, (5, 3)))
    axes.set_xticks(positions, [str(entry.label) for entry in classes])
    axes.set_xlabel("digit asked for")
    _percent_axis(axes)
    return _svg(figure, name)


def guidance_sweep(points: Sequence[SweepPoint], own_weight: float, pass_mark: float, name: str) -> Markup:
    """Accuracy over the guidance weight with its interval, and variety where it was measured, on an axis of its own.

    The student's own weight and the pass mark are marked.
    """
    figure, axes = _axes()
    weights = [point.guidance_weight for point in points]
    axes.fill_between(
        weights,
        [point.accuracy.low for point in points],
        [point.accuracy.high for point in points],
        color=_BAND,
        linewidth=0,
    )
    axes.plot(
        weights, [point.accuracy.estimate for point in points], color=_LINE, linewidth=2, marker="o", markersize=5
    )
    axes.axhline(pass_mark, color=_MARK, linewidth=1.5, linestyle=(0, (5, 3)))
    if min(weights) <= own_weight <= max(weights):
        axes.axvline(own_weight, color=_INK, linewidth=1.2, linestyle=":")
        beyond_middle = own_weight > (min(weights) + max(weights)) / 2
        axes.annotate(
            f"your w = {own_weight:g}",
            (own_weight, 0.04),
            xytext=(-5 if beyond_middle else 5, 0),
            textcoords="offset points",
            ha="right" if beyond_middle else "left",
            color=_INK,
            fontsize=10,
        )
    axes.set_xlabel("guidance weight w")
    _percent_axis(axes)
    measured = [(point.guidance_weight, point.diversity) for point in points if point.diversity is not None]
    if measured:
        right = axes.twinx()
        right.spines[:].set_visible(False)
        right.tick_params(color=_GRID, labelcolor=_INK, length=0, labelsize=10)
        right.plot(*zip(*measured, strict=True), color=_INK, linewidth=1.5, linestyle="--", marker="s", markersize=4)
        right.set_ylim(0, max(2.06, 1.05 * max(diversity for _, diversity in measured)))  # 1 lies at 50 %
        right.set_ylabel("variety (dashed)", color=_INK, fontsize=10)
    return _svg(figure, name)


def _axes() -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure  # half a second of import, needed only where a chart is drawn

    figure = Figure(figsize=_SIZE, layout="constrained")  # not pyplot: it keeps state, and looks for a display
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GRID)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", color=_GRID, labelcolor=_INK, length=0, labelsize=10)
    axes.xaxis.label.set(color=_INK, fontsize=10)
    axes.yaxis.label.set(color=_INK, fontsize=10)
    return figure, axes


def _percent_axis(axes: "Axes") -> None:
    axes.set_ylim(0, 1.03)  # a little above 100 %, so that its line is not cut
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_ylabel("read correctly")


def _svg(figure: "Figure", name: str) -> Markup:
    """The drawing as an element for HTML: no prolog, no style rules of its own, no outside names."""
    from matplotlib import rc_context

    file = io.BytesIO()
    # Text stays text, so that it takes the page's font. The salt makes ids the same in every run.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(
            file, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    svg = file.getvalue().decode()
    svg = svg[svg.index("<svg") :]
    for pattern, replacement in _FOR_A_PAGE:
        svg = re.sub(pattern, replacement.replace("NAME", name), svg, flags=re.DOTALL)
    for colour, custom_property in _PROPERTIES.items():
        svg = svg.replace(colour, custom_property)
    return Markup(svg)  # noqa: S704  matplotlib's own, and nothing of a student's is in it
