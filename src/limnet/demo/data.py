"""The demo's CT: fetched by pip from the package registry, checked, cached.

The source archive of the PyPI package totalsegmentator 2.18.0 (Apache-2.0, Wasserthal et al., 2023) carries a CT of
the trunk with a label map among its test files. pip knows the machine's registry, proxy and certificates, and its
hash check runs before anything in the archive is looked at.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from limnet.demo.files import DemoFiles
from limnet.errors import LimnetError

PACKAGE = "totalsegmentator"
VERSION = "2.18.0"
LICENCE = "Apache-2.0"
SDIST_SHA256 = "5d4223ef93973bc36d710869d11e7742ead2c154c72f7f9edcaaadd5b6c4bd03"
MEMBERS = {
    "tests/reference_files/example_ct.nii.gz": "dbd3ae6d614d1d7ef3a46925c30c70038ed52da6b37fdd6afdc7b9b71387e3e1",
    "tests/reference_files/example_seg_fast_force_split.nii.gz": (
        "e8097758e56e73099075b6caaebce23ef11bc6fad66a4ec3753b9406846558c7"
    ),
}
STRUCTURES = {"liver": 5, "spleen": 1, "left kidney": 3, "aorta": 52, "vertebra L3": 29}
SEEN_BY = ("limnet-tiny",)
"""Bundled models trained with this CT among others: their numbers on it say nothing about new patients."""
_MEMBER_LIMIT = 64 * 2**20  # bytes; the larger of the two files has 2.2 MB


class FetchError(LimnetError, OSError):
    """The demo's CT could not be fetched, or what came was not the expected file."""


def cache_folder() -> Path:
    """Folder for fetched files: `$LIMNET_CACHE`, else `$XDG_CACHE_HOME/limnet`, else `~/.cache/limnet`."""
    own = os.environ.get("LIMNET_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "limnet"


def fetch_ct(cache: Path | None = None, download: Callable[[Path], Path] | None = None) -> DemoFiles:
    """Return the CT and its label map, from the cache or from the package registry.

    Args:
        cache: folder to keep the two files in; `cache_folder()` by default.
        download: fetches the source archive into a folder and returns its path; pip by default.

    Raises:
        FetchError: no pip, no registry, a wrong checksum, or an archive without the two files.
    """
    folder = (cache_folder() if cache is None else cache) / f"{PACKAGE}-{VERSION}"
    if not all(_matches(folder / Path(name).name, digest) for name, digest in MEMBERS.items()):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="fetch-", dir=folder) as scratch:
                archive = (download or download_with_pip)(Path(scratch))
                if not _matches(archive, SDIST_SHA256):
                    raise FetchError(
                        f"{archive.name} has another sha256 than {SDIST_SHA256}; it was not unpacked. "
                        "Check which registry pip is set up for."
                    )
                _extract(archive, Path(scratch), folder)
        except FetchError:
            raise
        except (OSError, tarfile.TarError) as error:
            raise FetchError(f"cannot prepare the demo's CT in {folder}: {error}") from error
    image, labels = (folder / Path(name).name for name in MEMBERS)
    return DemoFiles(
        image=image,
        labels=labels,
        structures=dict(STRUCTURES),
        title="CT of the trunk, 3 mm",
        source=f"PyPI package {PACKAGE} {VERSION}, test files, licence {LICENCE}; labels by its 3 mm model",
        seen_by=SEEN_BY,
    )


def download_with_pip(folder: Path) -> Path:
    """Let pip fetch the source archive into `folder`.

    `pip download` asks an archive for its metadata, which runs the package's build script; with a hash in the
    requirement pip refuses a foreign archive before that.

    Raises:
        FetchError: pip is missing, fails, or takes more than ten minutes.
    """
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SDIST_SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", PACKAGE, "--require-hashes", "--dest", str(folder), "-r", str(requirement)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FetchError(f"pip did not fetch {PACKAGE} {VERSION}: {error}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise FetchError(f"pip did not fetch {PACKAGE} {VERSION}: {lines[-1].strip()}")
    found = sorted(folder.glob("*.tar.gz"))
    if len(found) != 1:
        raise FetchError(f"pip fetched {len(found)} archives of {PACKAGE} {VERSION} instead of one")
    return found[0]


def _extract(archive: Path, scratch: Path, folder: Path) -> None:
    """Copy the two files out of the archive by their full names; nothing else is unpacked, links are refused."""
    with tarfile.open(archive, "r:gz") as tar:
        for name, digest in MEMBERS.items():
            full = f"{PACKAGE}-{VERSION}/{name}"
            try:
                member = tar.getmember(full)
            except KeyError:
                raise FetchError(f"{archive.name} holds no {full}") from None
            stream = tar.extractfile(member) if member.isreg() and member.size <= _MEMBER_LIMIT else None
            if stream is None:
                raise FetchError(f"{full} in {archive.name} is not a plain file of at most {_MEMBER_LIMIT >> 20} MB")
            target = scratch / Path(name).name
            with stream, target.open("wb") as out:
                shutil.copyfileobj(stream, out)
            if not _matches(target, digest):
                raise FetchError(f"{full} in {archive.name} has another sha256 than {digest}")
            os.replace(target, folder / target.name)


def _matches(path: Path, digest: str) -> bool:
    if not path.is_file():
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() == digest
