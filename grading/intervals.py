"""Shares of correct images: Wilson intervals for reports, and the sequential interval that ends generation early."""

from scipy.special import betaincinv
from scipy.stats import binomtest

from grading.report import Interval

REPORTED_CONFIDENCE = 0.95  # of the intervals that people read
SEQUENTIAL_CONFIDENCE = 0.999  # of the decision: one grading in a thousand may be decided early and wrongly

# Images after which the sequential interval may decide. Few looks cost little correction; the first comes when a
# faultless pipeline can be told from one at the pass mark of 95 %, the last one is the end.
LOOKS = (200, 300, 400, 500, 600, 800, 1000)
MAX_IMAGES = LOOKS[-1]


def wilson(correct: int, images: int, confidence: float = REPORTED_CONFIDENCE) -> Interval:
    """Wilson's score interval for a share (Wilson 1927). Of no images at all it is 0 to 1."""
    if images == 0:
        return Interval(estimate=0.0, low=0.0, high=1.0, confidence=confidence)
    found = binomtest(correct, images).proportion_ci(confidence, method="wilson")
    return Interval(estimate=correct / images, low=float(found.low), high=float(found.high), confidence=confidence)


def sequential(correct: int, images: int) -> Interval:
    """An interval that holds at all of `LOOKS` together with `SEQUENTIAL_CONFIDENCE`.

    Looking at the images again and again gives chance several opportunities. Each look is therefore given an equal part
    of the 0.1 % (Bonferroni), and at each look the interval is the exact one of Clopper and Pearson (1934), which never
    covers less than it says. Both err on the side of going on.
    """
    if images == 0:
        return Interval(estimate=0.0, low=0.0, high=1.0, confidence=SEQUENTIAL_CONFIDENCE)
    tail = (1 - SEQUENTIAL_CONFIDENCE) / len(LOOKS) / 2
    wrong = images - correct
    low = float(betaincinv(correct, wrong + 1, tail)) if correct else 0.0
    high = float(betaincinv(correct + 1, wrong, 1 - tail)) if wrong else 1.0
    return Interval(estimate=correct / images, low=low, high=high, confidence=SEQUENTIAL_CONFIDENCE)


def is_decided(correct: int, images: int, pass_mark: float) -> bool:
    """Whether generation may end: at a look whose interval excludes the pass mark, or at the last one."""
    if images >= MAX_IMAGES:
        return True
    interval = sequential(correct, images)
    return images in LOOKS and not interval.low <= pass_mark <= interval.high
