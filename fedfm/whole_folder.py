"""A folder that appears whole or not at all: what ``init`` writes for a hospital and for a coordinator."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a draft beside ``folder``, for its owner only, that becomes it (0755) when the block ends without an error.

    Guarantees:
        After an error nothing of the draft is left. What stands at ``folder`` stays, but for an empty folder.

    Raises:
        OSError: The draft cannot be made, or something stands at ``folder``.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        yield draft
        draft.chmod(0o755)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # gone already where it was renamed
