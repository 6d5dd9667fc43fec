"""A disk whose power can be cut: what was written since a file's last sync is lost, in part, or torn."""

import random
import threading
from pathlib import Path

import apsw

SECTOR = 512


class Disk(apsw.VFS):
    """The system's files, which also keeps what of each has reached the disk, as SQLite may rely on.

    A sync takes a file's writes to the disk, in order. What comes after it may reach the disk or not, in any
    order, and the last of it in part: a write is cut into sectors. `after_a_cut` draws one such outcome.
    """

    def __init__(self) -> None:
        self.below = apsw.vfs_names()[0]
        self.lock = threading.Lock()
        self.synced: dict[str, bytearray] = {}
        self.pending: dict[str, list[tuple[int, bytes | None]]] = {}
        """Per file, since its last sync: what was written where; None for a file that was cut off there."""
        super().__init__("power-cuts", self.below, makedefault=True)

    def xOpen(self, name, flags):
        return File(self, name, flags)

    def note(self, path: str, offset: int, data: bytes | None) -> None:
        with self.lock:
            self.pending.setdefault(path, []).append((offset, data))

    def sync(self, path: str) -> None:
        with self.lock:
            for offset, data in self.pending.pop(path, []):
                apply(self.synced.setdefault(path, bytearray()), offset, data)

    def after_a_cut(self, path: Path, rng: random.Random, folder: Path) -> Path:
        """The database at `path` as a power cut at this moment may leave it, in `folder`."""
        with self.lock:
            images = {}
            for suffix in ("", "-wal"):
                name = f"{path}{suffix}"
                images[suffix] = image = bytearray(self.synced.get(name, b""))
                for offset, data in self.pending.get(name, []):
                    for at, piece in pieces(offset, data):
                        if rng.random() < 0.5:
                            apply(image, at, piece)
        left = folder / path.name
        for suffix, image in images.items():
            Path(f"{left}{suffix}").write_bytes(image)
        return left


class File(apsw.VFSFile):
    def __init__(self, disk, name, flags):
        self.disk = disk
        self.path = name.filename() if isinstance(name, apsw.URIFilename) else name
        super().__init__(disk.below, name, flags)

    def xWrite(self, data, offset):
        super().xWrite(data, offset)
        self.disk.note(self.path, offset, bytes(data))

    def xTruncate(self, size):
        super().xTruncate(size)
        self.disk.note(self.path, size, None)

    def xSync(self, flags):
        super().xSync(flags)
        self.disk.sync(self.path)


def apply(image: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del image[offset:]
        return
    image.extend(bytes(max(0, offset - len(image))))
    image[offset : offset + len(data)] = data


def pieces(offset: int, data: bytes | None) -> list[tuple[int, bytes | None]]:
    if data is None:
        return [(offset, None)]
    return [(offset + at, data[at : at + SECTOR]) for at in range(0, len(data), SECTOR)]
