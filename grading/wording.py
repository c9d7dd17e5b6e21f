"""How outcomes are called and drawn, on the page and in the terminal alike."""

from dataclasses import dataclass

from grading.outcomes import Outcome


@dataclass(frozen=True, kw_only=True)
class Wording:
    symbol: str  # one character that common fonts have; always shown beside the words, never in place of them
    words: str
    explanation: str  # what it means to a student, one sentence
    tone: str  # "good", "bad", "open" or "warn": which colours accompany it


WORDING: dict[Outcome, Wording] = {
    Outcome.PASSED: Wording(symbol="✓", words="right", explanation="Every check agrees.", tone="good"),
    Outcome.FAILED: Wording(
        symbol="✗", words="not right yet", explanation="It runs, but the result differs from what is asked.", tone="bad"
    ),
    Outcome.NOT_ATTEMPTED: Wording(
        symbol="○",
        words="not filled in yet",
        explanation="It still holds its placeholder, or was not handed in. Nothing is wrong: there is nothing to "
        "check yet.",
        tone="open",
    ),
    Outcome.SKIPPED: Wording(
        symbol="-",
        words="not checked",
        explanation="It builds on something that is not right yet, so it could not be looked at.",
        tone="open",
    ),
    Outcome.TIMED_OUT: Wording(
        symbol="!", words="took too long", explanation="It was stopped when its time was up.", tone="warn"
    ),
    Outcome.OUT_OF_MEMORY: Wording(
        symbol="!", words="ran out of memory", explanation="It asked for more memory than it may have.", tone="warn"
    ),
    Outcome.OUTPUT_LIMIT: Wording(
        symbol="!", words="too much output", explanation="It printed or returned more than it may.", tone="warn"
    ),
    Outcome.WITHHELD: Wording(
        symbol="…",
        words="not decided yet",
        explanation="What is shown so far agrees. Further checks decide.",
        tone="open",
    ),
    Outcome.CRASHED: Wording(
        symbol="!", words="stopped with an error", explanation="It raised an exception or ended early.", tone="warn"
    ),
}
