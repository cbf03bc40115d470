"""What `limnet demo` works on: a real CT with labels, fetched by pip, or a made-up volume.

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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.environment import cache_folder
from limnet.errors import LimnetError
from limnet.image.io.atomic import made_folder

PACKAGE, VERSION, LICENCE = "totalsegmentator", "2.18.0", "Apache-2.0"
SDIST_SHA256 = "5d4223ef93973bc36d710869d11e7742ead2c154c72f7f9edcaaadd5b6c4bd03"
MEMBERS = {
    "tests/reference_files/example_ct.nii.gz": "dbd3ae6d614d1d7ef3a46925c30c70038ed52da6b37fdd6afdc7b9b71387e3e1",
    "tests/reference_files/example_seg_fast_force_split.nii.gz": (
        "e8097758e56e73099075b6caaebce23ef11bc6fad66a4ec3753b9406846558c7"
    ),
}
STRUCTURES = {"liver": 5, "spleen": 1, "left kidney": 3, "aorta": 52, "vertebra L3": 29}
SYNTHETIC_STRUCTURES = {"large body": 1, "round body": 2, "bent body": 3, "tube": 4, "block": 5}
_MEMBER_LIMIT = 64 * 2**20  # bytes; the larger of the two files has 2.2 MB


@dataclass(frozen=True)
class DemoFiles:
    """An image and a label map on one grid, in NIfTI files.

    Attributes:
        structures: name of each structure to segment and its number in the label map, in the order of work.
        title: one line for tables and pictures.
        source: origin and licence, to be shown to the user.
        seen_by: bundled models trained on this volume: their numbers on it say nothing about new patients.
    """

    image: Path
    labels: Path
    structures: Mapping[str, int]
    title: str
    source: str
    seen_by: tuple[str, ...] = ()
    synthetic: bool = False


class FetchError(LimnetError, OSError):
    """The demo's CT could not be fetched, or what came was not the expected file."""


def fetch_ct(cache: Path | None = None, download: Callable[[Path], Path] | None = None) -> DemoFiles:
    """The CT and its label map, from `cache` or fetched by `download` (pip); FetchError if they cannot be had."""
    folder = (cache_folder() if cache is None else cache) / f"{PACKAGE}-{VERSION}"
    if not all(_matches(folder / Path(name).name, digest) for name, digest in MEMBERS.items()):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="fetch-", dir=folder) as scratch:
                _extract((download or download_with_pip)(Path(scratch)), Path(scratch), folder)
        except FetchError:
            raise
        except (OSError, tarfile.TarError) as error:
            raise FetchError(f"cannot prepare the demo's CT in {folder}: {error}") from error
    image, labels = (folder / Path(name).name for name in MEMBERS)
    source = f"PyPI package {PACKAGE} {VERSION}, test files, licence {LICENCE}; labels by its 3 mm model"
    return DemoFiles(image, labels, dict(STRUCTURES), "CT of the trunk, 3 mm", source, seen_by=("limnet-tiny",))


def download_with_pip(folder: Path) -> Path:
    """Let pip fetch the source archive into `folder`; FetchError if that fails or takes more than ten minutes.

    `pip download` asks an archive for its metadata, which runs the package's build script; with a hash in the
    requirement pip refuses a foreign archive before that.
    """
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SDIST_SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", PACKAGE, "--require-hashes", "--dest", str(folder), "-r", str(requirement)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FetchError(f"pip did not fetch {PACKAGE} {VERSION}: {error}") from error
    found = sorted(folder.glob("*.tar.gz"))
    if done.returncode or len(found) != 1:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"{len(found)} archives came"]
        raise FetchError(f"pip did not fetch {PACKAGE} {VERSION}: {lines[-1].strip()}")
    return found[0]


def _extract(archive: Path, scratch: Path, folder: Path) -> None:
    """Copy the two files out of the archive by their full names; nothing else is unpacked, links are refused."""
    _check_hash(archive, SDIST_SHA256, "it was not unpacked. Check which registry pip is set up for")
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
            _check_hash(target, digest, f"it came in {archive.name} and was not kept")
            os.replace(target, folder / target.name)


def _check_hash(path: Path, digest: str, what: str) -> None:
    if not _matches(path, digest):
        raise FetchError(f"{path.name} has another sha256 than {digest}; {what}")


def _matches(path: Path, digest: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest


def synthetic_arrays() -> tuple[NDArray[Any], NDArray[Any]]:
    """Image (D, H, W) int16 in HU-like units and labels (D, H, W) uint8 with five bodies.

    The bodies have soft-tissue, vessel and bone values, lie in an elliptic trunk and touch each other here and there;
    texture, a slow shading and noise are drawn at random, always the same ones.
    """
    from scipy import ndimage

    rng, shape = np.random.default_rng(0), (56, 128, 128)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    wobble = [ndimage.gaussian_filter(rng.standard_normal(shape), (4, 8, 8)) for _ in range(3)]
    u, v, w = (g + 0.05 * f / f.std() for g, f in zip((z, y, x), wobble, strict=True))

    def ellipsoid(centre: tuple[float, float, float], radius: tuple[float, float, float]) -> NDArray[np.bool_]:
        return sum(((g - c) / r) ** 2 for g, c, r in zip((u, v, w), centre, radius, strict=True)) <= 1

    trunk = (y / 0.85) ** 2 + (x / 0.95) ** 2 <= 1
    inside = (y / 0.78) ** 2 + (x / 0.89) ** 2 <= 1
    bodies = {  # HU of each body, in the order of its label
        105: ellipsoid((0.15, -0.15, -0.42), (0.6, 0.42, 0.4)),
        125: ellipsoid((0.1, 0.1, 0.6), (0.35, 0.26, 0.2)),
        150: ellipsoid((-0.35, 0.28, 0.42), (0.4, 0.2, 0.16)) & ~ellipsoid((-0.35, 0.2, 0.3), (0.2, 0.12, 0.12)),
        190: (y - 0.2 - 0.06 * np.sin(3 * z)) ** 2 + (x - 0.1 * np.sin(2 * z) - 0.05) ** 2 <= 0.075**2,
        380: (np.abs(z + 0.1) < 0.22) & (np.abs(y - 0.5) < 0.14) & (np.abs(x) < 0.18),
    }
    image = np.select([inside, trunk], [40.0, -90.0], -1000.0)
    labels = np.zeros(shape, dtype=np.uint8)
    for number, (value, body) in enumerate(bodies.items(), start=1):
        labels[body & inside], image[body & inside] = number, value
    image += 8 * wobble[0] / wobble[0].std() * trunk
    image = ndimage.gaussian_filter(image, (0.3, 0.7, 0.7)) + rng.normal(0, 14, shape)
    return np.clip(image, -1024, 3071).astype(np.int16), labels


def synthetic_files(folder: Path) -> DemoFiles:
    """Write the made-up volume and its labels as NIfTI into `folder`."""
    import nibabel

    made_folder(folder)
    paths = folder / "synthetic_image.nii.gz", folder / "synthetic_labels.nii.gz"
    for path, array in zip(paths, synthetic_arrays(), strict=True):
        nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), np.diag([1.6, 1.6, 3.0, 1.0])), path)
    source = "made by limnet on this machine; says little about real images"
    return DemoFiles(*paths, dict(SYNTHETIC_STRUCTURES), "synthetic volume", source, synthetic=True)
