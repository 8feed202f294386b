"""How many requests the trainer takes in at once, and how many bytes of them: its memory ends."""

import threading

from fedfm.errors import EngineError


class Room:
    """Places for requests, and bytes that they may hold together. For several threads.

    Args:
        places: Requests that wait or are answered.
        most_bytes: Of all of them; a single one may be larger.
    """

    def __init__(self, places: int, most_bytes: int) -> None:
        self._places = threading.BoundedSemaphore(places)
        self._most, self._allowed = most_bytes, f"{places} requests of {most_bytes} bytes together"
        self._held = 0
        self._lock = threading.Lock()
        self.door = threading.Lock()
        """Whoever reads a message holds it until the message is held or refused: one at a time is read."""

    def enter(self) -> bool:
        """Take a place, before anything is read; False where there is none."""
        return self._places.acquire(blocking=False)

    def leave(self) -> None:
        """Give the place back."""
        self._places.release()

    def hold(self, size: int) -> bool:
        """Take room for the bytes of a message; False where others hold too much."""
        with self._lock:
            if self._held and self._held + size > self._most:
                return False
            self._held += size
            return True

    def release(self, size: int) -> None:
        """Give the room of a message back."""
        with self._lock:
            self._held -= size

    def full(self) -> EngineError:
        """Return the refusal of a request for which there is no place or no room."""
        return EngineError(
            "SITE-E139",
            "the trainer has too many requests at once",
            allowed=f"{self._allowed}, of which it answers one after the other",
            fix="the coordinator asks again when the others are answered",
        )
