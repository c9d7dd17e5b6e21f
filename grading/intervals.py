"""Shares of correct images: Wilson intervals for reports, and the sequential interval that ends generation early."""

from math import sqrt

from scipy.special import betaincinv, ndtri  # not scipy.stats, whose import takes a second that a student would wait

from grading.report import Interval

REPORTED_CONFIDENCE = 0.95  # of the intervals that people read
SEQUENTIAL_CONFIDENCE = 0.999  # of the decision: one grading in a thousand may be decided early and wrongly

# Images after which the sequential interval may decide. Few looks cost little correction; the first comes when a
# faultless pipeline can be told from one at the pass mark of 95 %, the last one is the end.
LOOKS = (200, 300, 400, 500, 600, 800, 1000)
MAX_IMAGES = LOOKS[-1]


def wilson(correct: int, images: int, confidence: float = REPORTED_CONFIDENCE) -> Interval:
    """Wilson's score interval for a share (Wilson 1927, J. Am. Stat. Assoc. 22). Of no images at all it is 0 to 1."""
    if images == 0:
        return Interval(estimate=0.0, low=0.0, high=1.0, confidence=confidence)
    share = correct / images
    z = float(ndtri((1 + confidence) / 2))
    weight = 1 + z**2 / images
    centre = (share + z**2 / (2 * images)) / weight
    radius = z / weight * sqrt(share * (1 - share) / images + z**2 / (4 * images**2))
    low = max(centre - radius, 0.0) if correct else 0.0  # exactly 0 and 1 at the ends, where rounding would miss them
    high = min(centre + radius, 1.0) if correct < images else 1.0
    return Interval(estimate=share, low=low, high=high, confidence=confidence)


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
