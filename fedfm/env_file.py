"""The ``.env`` of a folder of containers, changed where a person may have changed it too."""

import re
from collections.abc import Mapping


def with_lines(text: str, settings: Mapping[str, str]) -> str:
    """Return the text with each ``NAME=value`` in the place of the line of that name, or at its end."""
    for name, value in settings.items():
        line = f"{name}={value}"
        text, times = re.subn(rf"^{name}=.*$", lambda _, line=line: line, text, flags=re.MULTILINE)  # type: ignore[misc]
        if not times:
            text = f"{text.rstrip()}\n{line}\n"
    return text
