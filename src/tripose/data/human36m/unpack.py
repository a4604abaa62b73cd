"""The archives of Human3.6M unpacked: only the files that are needed, each complete or not there."""

from __future__ import annotations

import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from tripose.data.human36m.originals import Archive
from tripose.errors import TriposeError
from tripose.formats.writing import atomic

_CHUNK = 1 << 20
_DAMAGE = (OSError, EOFError, zlib.error, tarfile.TarError)


def unpacked_bytes(archives: Sequence[Archive]) -> int:
    """The room that archives need unpacked, as far as it can be known without reading them through.

    A gzip file ends with the length of its contents, modulo 4 GiB; videos get no shorter by packing, so that the lowest
    length not below that of the archive is taken.
    """
    return sum(_unpacked(archive.path) for archive in archives)


def unpack(archives: Sequence[Archive], folder: Path, *, progress: Callable[[int, int], None] | None = None) -> None:
    """Unpack what is wanted of archives, as ``S1/Videos/Directions 1.54138969.mp4`` and so on.

    Only names of files are taken from an archive, never paths or links, so that nothing gets out of the folder. A file
    is there when it is complete: interrupted, the work goes on with the next file (archives have no index, they are
    read from the beginning again).

    Args:
        archives: as `find_originals` finds them.
        folder: made if it is not there.
        progress: told how many bytes of the archives are read, and how many there are.

    Raises:
        TriposeError: not enough room on the disk (before anything is written), or an archive that is damaged or was not
            downloaded to its end.
    """
    folder.mkdir(parents=True, exist_ok=True)
    need, free = unpacked_bytes(archives), shutil.disk_usage(folder).free
    if need > free:
        raise TriposeError(
            f"{folder}: unpacking {len(archives)} archives takes {need / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
        )
    sizes = [archive.path.stat().st_size for archive in archives]
    for i, archive in enumerate(archives):
        before = sum(sizes[:i])
        for done in _unpack_one(archive, folder / archive.subject / archive.kind.folders[0]):
            if progress is not None:
                progress(before + done, sum(sizes))
        if progress is not None:
            progress(before + sizes[i], sum(sizes))


def _unpack_one(archive: Archive, folder: Path) -> Iterator[int]:
    """Unpack file by file; tells how far the archive is read."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {name for name in archive.wanted if not (folder / name).is_file()}
    if not wanted:
        return
    try:
        with archive.path.open("rb") as raw, tarfile.open(fileobj=raw, mode="r|*") as tar:
            for member in tar:
                name = PurePosixPath(member.name).name
                content = tar.extractfile(member) if member.isreg() and name in wanted else None
                if content is not None:
                    _write(content, member.size, folder / name, archive.path)
                    wanted.remove(name)
                yield raw.tell()
                if not wanted:  # the rest is other files
                    return
    except _DAMAGE as error:
        raise _damaged(archive.path, error) from error


def _write(content: IO[bytes], size: int, path: Path, archive: Path) -> None:
    with atomic(path) as part, part.open("wb") as out:
        while size > 0:
            try:
                chunk = content.read(min(size, _CHUNK))
            except _DAMAGE as error:
                raise _damaged(archive, error) from error
            if not chunk:
                raise _damaged(archive, EOFError("a file ends early"))
            out.write(chunk)
            size -= len(chunk)


def _damaged(archive: Path, error: Exception) -> TriposeError:
    return TriposeError(f"{archive} is damaged or was not downloaded to its end ({error}): download it again")


def _unpacked(path: Path) -> int:
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b" or size < 18:
            return size
        file.seek(-4, os.SEEK_END)
        length = int.from_bytes(file.read(4), "little")
    # What cannot be packed grows by less than a thousandth.
    return length + max(0, -(-(size * 999 // 1000 - length) // 2**32)) * 2**32
