"""A folder as one .tar that depends on its contents alone: in order, of nobody, of no time."""

import tarfile
from pathlib import Path


def pack(folder: Path, file: Path, *, name: str) -> None:
    """Write the folder as ``name/`` into the .tar ``file``, whole or not at all."""
    draft = file.with_name(f"{file.name}.part")
    try:
        with tarfile.open(draft, "w", format=tarfile.PAX_FORMAT) as tar:
            for path in sorted([folder, *folder.rglob("*")]):
                tar.add(path, f"{name}/{path.relative_to(folder)}", recursive=False, filter=_anonymous)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = 0
    entry.mode = 0o755 if entry.isdir() or entry.name.endswith(".sh") else 0o644
    return entry
