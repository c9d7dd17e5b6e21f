"""Intervals for shares, and the decision that rests on them."""

from bisect import bisect_left, bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from grading.intervals import LOOKS, MAX_IMAGES, SEQUENTIAL_CONFIDENCE, is_decided, sequential, wilson

counts = st.integers(1, 1000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts)
def test_intervals_hold_their_estimate_and_stay_between_0_and_1(count):
    correct, images = count
    for interval in (wilson(correct, images), sequential(correct, images)):
        assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
        assert interval.estimate == correct / images


@given(counts)
def test_one_more_right_image_moves_both_bounds_up(count):
    correct, images = count
    for kind in (wilson, sequential):
        fewer, more = kind(correct - 1, images) if correct else None, kind(correct, images)
        if fewer is not None:
            assert fewer.low <= more.low
            assert fewer.high <= more.high


@given(counts)
def test_the_sequential_interval_is_the_wider_one(count):
    # Its confidence is higher at every look, so it must hold Wilson's interval but for what Wilson's rounds at the ends
    correct, images = count
    ours, theirs = sequential(correct, images), wilson(correct, images)
    assert ours.high - ours.low > (theirs.high - theirs.low) * 0.99


def test_wilson_agrees_with_the_textbook():
    # Brown, Cai and DasGupta 2001: 10 of 20, z = 1.96 -> 0.299, 0.701
    interval = wilson(10, 20)
    assert interval.low == pytest.approx(0.2993, abs=1e-4)
    assert interval.high == pytest.approx(0.7007, abs=1e-4)


def test_each_look_is_the_exact_interval_of_clopper_and_pearson():
    interval = sequential(480, 500)
    exact = binomtest(480, 500).proportion_ci(1 - (1 - SEQUENTIAL_CONFIDENCE) / len(LOOKS), method="exact")
    assert (interval.low, interval.high) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_of_nothing_anything_may_be_true():
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0, 1)
    assert (sequential(0, 0).low, sequential(0, 0).high) == (0, 1)


@pytest.mark.parametrize("share", [0.9, 0.93, 0.95, 0.97, 0.99])
def test_all_looks_together_miss_the_truth_at_most_as_often_as_promised(share):
    # Boole: the chance that any look misses is at most the sum over the looks, each of which is computed exactly
    missed = 0.0
    for images in LOOKS:
        # Both bounds rise with the count, so the counts that hold the truth are a range
        counts = range(images + 1)
        first = bisect_left(counts, share, key=lambda k: sequential(k, images).high)
        last = bisect_right(counts, share, key=lambda k: sequential(k, images).low) - 1
        missed += float(binom.cdf(first - 1, images, share) + binom.sf(last, images, share))
    assert 0 < missed <= 1 - SEQUENTIAL_CONFIDENCE


def test_a_faultless_pipeline_is_decided_at_the_first_look():
    assert is_decided(200, 200, 0.95)
    assert not is_decided(198, 200, 0.95)


def test_between_looks_nothing_is_decided():
    assert not is_decided(100, 100, 0.95)
    assert not is_decided(0, 100, 0.95)
    assert not is_decided(350, 350, 0.95)


def test_the_last_look_decides_whatever_it_says():
    assert is_decided(950, MAX_IMAGES, 0.95)


@given(st.integers(0, 200))
def test_an_early_decision_excludes_the_pass_mark(correct):
    interval = sequential(correct, 200)
    excluded = interval.high < 0.95 or interval.low > 0.95
    assert is_decided(correct, 200, 0.95) == excluded
