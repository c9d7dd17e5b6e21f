"""Wrong tokens, counted by the address that they come from: whoever tries many in a minute is told to wait.

A right token always gets in, so that nobody behind the same proxy is kept out by others' wrong ones. Nobody guesses a
token (`records.tokens`, `records.settings.MIN_SECRET`); this stops programs that ask for ever with one that is over.
"""

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable
from threading import Lock

# A class that comes in through one address with last term's tokens gets the words for it; a program that asks several
# times a second gets a pause
MOST = 30
WINDOW_SECONDS = 60.0


class WrongTries:
    """Those of this process; several processes allow as many times more."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: defaultdict[str, deque[float]] = defaultdict(deque)
        self._lock = Lock()

    def note(self, address: str) -> int:
        """Count one. Returns the seconds to wait where these are too many, else 0; those refused are not counted."""
        now = self._clock()
        with self._lock:
            self._forget(now)
            times = self._times[address]
            if len(times) >= MOST:
                return math.ceil(times[0] + WINDOW_SECONDS - now)
            times.append(now)
            return 0

    def _forget(self, now: float) -> None:
        for address, times in list(self._times.items()):
            while times and times[0] <= now - WINDOW_SECONDS:
                times.popleft()
            if not times:
                del self._times[address]
