"""SIGTERM and Ctrl-C end a run between two steps, with a checkpoint."""

import signal
import threading

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Notes the signal that asks the run to stop, as a context manager.

    Attributes:
        signal: what was received, or None.
        waits: whether the run looks at `signal` itself; before it does, a signal raises KeyboardInterrupt at once.
    """

    def __init__(self):
        self.signal: signal.Signals | None = None
        self.waits = False
        self._previous: dict = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # Python allows handlers there alone
            self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame) -> None:
        self.signal = signal.Signals(number)
        if not self.waits:
            raise KeyboardInterrupt
