"""DICOM series in a folder, and single multi-frame files, through SimpleITK (GDCM); world axes are LPS."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limnet.errors import FileFormatError, InputError
from limnet.volume import Volume
from limnet.volume_io.choice import chosen
from limnet.volume_io.frames import visible
from limnet.volume_io.itk import from_image, load_image, reason

_NO_IMAGE = {"SEG", "RTSTRUCT", "RTPLAN", "SR", "PR", "KO", "REG", "DOC"}  # modalities without slices to segment
_MODALITY, _DESCRIPTION, _SERIES_NUMBER = "0008|0060", "0008|103e", "0020|0011"
_INSTANCE, _POSITION, _BETWEEN, _THICKNESS = "0020|0013", "0020|0032", "0018|0088", "0018|0050"


@dataclass(frozen=True)
class Series:
    """One series of a folder: its UID, number, description, modality and files."""

    uid: str
    number: str
    description: str
    modality: str
    files: tuple[str, ...]

    def __str__(self) -> str:
        """One line for a person who has to choose."""
        about = f"{self.modality or '?'}, number {self.number or '?'}, {self.description!r}, {len(self.files)} files"
        return f"{self.uid}: {about}"


@dataclass(frozen=True)
class _Slice:
    """What the header of one slice says."""

    file: str
    shape: tuple[int, int]
    spacing: tuple[float, float]
    axes: NDArray[np.float64]
    origin: NDArray[np.float64]
    instance: int
    placed: bool
    step: float
    frames: int

    @property
    def depth(self) -> float:
        """mm along the slice normal."""
        return float(self.origin @ self.axes[:, 2])

    @property
    def kind(self) -> tuple[Any, ...]:
        """Slices that can lie in one stack share this."""
        return self.shape, tuple(np.round(self.axes.ravel(), 3).tolist()), tuple(np.round(self.spacing, 4).tolist())


def is_dicom(path: Path) -> bool:
    """Whether a file carries the DICOM mark after its preamble."""
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def find_series(folder: Path) -> list[Series]:
    """Image series directly in a folder, by UID; other files and macOS side files are passed over.

    Raises:
        FileFormatError: a DICOM file that cannot be read; leaving it out would silently shorten a volume.
    """
    import SimpleITK

    with _Quiet():
        uids = SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        found: list[Series] = []
        listed: set[str] = set()
        for uid in sorted(uids):
            files = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid)
            files = tuple(f for f in files if not Path(f).name.startswith("._"))
            if not files:
                continue
            listed.update(Path(f).name for f in files)
            tags = _header(files[0])
            modality = _tag(tags, _MODALITY)
            if modality not in _NO_IMAGE:
                found.append(Series(uid, _tag(tags, _SERIES_NUMBER), _tag(tags, _DESCRIPTION), modality, files))
    marked = [p for p in visible(folder) if p.is_file() and (p.suffix.lower() == ".dcm" or is_dicom(p))]
    damaged = [p.name for p in marked if p.name not in listed and p.name.upper() != "DICOMDIR"]
    if damaged:
        raise FileFormatError(
            f"{len(damaged)} of {len(marked)} DICOM files in {folder} could not be read: {', '.join(damaged[:5])}"
            f"{' ...' if len(damaged) > 5 else ''}. They are damaged or of no series: copy them again or take them out"
        )
    return found


def read_series(folder: Path, found: list[Series], series: str | int | None = None, index: int | None = None) -> Volume:
    """Read one series as (D, H, W), sorted by position along the slice normal, rescaled by slope and intercept.

    Args:
        folder: where it lies, for messages.
        found: what `find_series` found; not empty.
        series: UID, series number or description; needed where there are several.
        index: which repetition (time point, echo), where positions repeat.

    Raises:
        InputError: several series or repetitions and no choice, or a choice that fits none or several.
        FileFormatError: damaged slices, or slices that make no stack.
    """
    chosen_series = _pick(folder, found, series)
    with _Quiet():
        slices = [_slice(file) for file in chosen_series.files]
        if len(slices) == 1 and slices[0].frames > 1:
            return from_image(load_image(Path(slices[0].file)), folder, index, chosen_series.modality or None)
        if any(s.frames > 1 for s in slices):
            raise InputError(
                f"the series in {folder} has {len(slices)} multi-frame files. Give one of the files itself"
            )
        stack = _repetition(folder, _largest_kind(folder, slices), index)
        parts = [_pixels(s.file) for s in stack]
    shapes = {part.shape for part in parts}
    if len(shapes) > 1:
        raise FileFormatError(f"slices of the series in {folder} differ in shape: {sorted(shapes)}")
    array = np.stack(parts)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    return Volume.from_array(
        array, affine=_affine(folder, stack), convention="LPS", modality=chosen_series.modality or None, source=folder
    )


def read_dicom_file(path: Path, index: int | None = None) -> Volume:
    """Read one multi-frame DICOM file; a file that is one slice of a series is refused with advice.

    Raises:
        InputError: a single slice.
        FileFormatError: damaged.
    """
    with _Quiet():
        image = load_image(path)
    if image.GetDimension() < 3 or image.GetSize()[2] == 1:
        raise InputError(f"{path} is a single slice. Give the folder with the whole series: {path.parent}")
    modality = image.GetMetaData(_MODALITY).strip() if image.HasMetaDataKey(_MODALITY) else None
    return from_image(image, path, index, modality or None)


def _pick(folder: Path, found: list[Series], series: str | int | None) -> Series:
    listing = "; ".join(str(s) for s in found)
    if series is None:
        if len(found) == 1:
            return found[0]
        raise InputError(
            f"folder {folder} holds {len(found)} DICOM series. Choose one with series= its UID, series number or "
            f"description. Found: {listing}"
        )
    wanted = str(series).strip().lower()
    for key in ("uid", "number", "description"):
        matches = [s for s in found if getattr(s, key).strip().lower() == wanted]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise InputError(
                f"series={series!r} fits {len(matches)} series of {folder}. Choose by UID. Found: {listing}"
            )
    raise InputError(f"series={series!r} fits no series of {folder}. Found: {listing}")


def _header(file: str) -> Any:
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(file)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise FileFormatError(f"{file} could not be read: {reason(error)}. Copy it again or take it out") from error
    return reader


def _tag(reader: Any, key: str) -> str:
    if not reader.HasMetaDataKey(key):
        return ""
    return str(reader.GetMetaData(key)).encode("utf-8", "replace").decode().strip(" \0")


def _number(text: str, default: float) -> float:
    try:
        return float(text)
    except ValueError:
        return default


def _slice(file: str) -> _Slice:
    reader = _header(file)
    size = reader.GetSize()
    step = _number(_tag(reader, _BETWEEN), 0.0) or _number(_tag(reader, _THICKNESS), 0.0)
    return _Slice(
        file=file,
        shape=(int(size[1]), int(size[0])),
        spacing=(float(reader.GetSpacing()[0]), float(reader.GetSpacing()[1])),
        axes=np.array(reader.GetDirection()).reshape(reader.GetDimension(), -1)[:3, :3],
        origin=np.array(reader.GetOrigin()[:3]),
        instance=int(_number(_tag(reader, _INSTANCE), 0)),
        placed=reader.HasMetaDataKey(_POSITION),
        step=abs(step) or 1.0,
        frames=int(size[2]) if len(size) > 2 else 1,
    )


def _largest_kind(folder: Path, slices: list[_Slice]) -> list[_Slice]:
    """Slices of the most frequent size and orientation; scouts beside a stack are left out with a warning."""
    kinds = Counter(s.kind for s in slices)
    kind, count = kinds.most_common(1)[0]
    if count == len(slices):
        return slices
    if count < 2 * (len(slices) - count):
        raise FileFormatError(
            f"the series in {folder} mixes {len(kinds)} sizes or orientations of slices: {sorted(kinds.values())}. "
            "It may be a localizer; give a series that is one stack"
        )
    warnings.warn(f"{folder}: {len(slices) - count} of {len(slices)} slices have another size or orientation, left out")
    return [s for s in slices if s.kind == kind]


def _repetition(folder: Path, slices: list[_Slice], index: int | None) -> list[_Slice]:
    """Slices sorted by position, one for each position; `index` chooses among repetitions."""
    if not all(s.placed for s in slices):
        chosen(folder, 1, index)
        return sorted(slices, key=lambda s: (s.instance, s.file))
    places: dict[float, list[_Slice]] = defaultdict(list)
    for item in slices:
        places[round(item.depth, 3)].append(item)
    counts = {len(items) for items in places.values()}
    if len(counts) > 1:
        raise FileFormatError(
            f"the series in {folder} has {len(slices)} slices at {len(places)} positions, some repeated and some not. "
            "Copy the slices of one time point to a folder of their own"
        )
    number = chosen(folder, counts.pop(), index, "repetitions (time points or echoes)")
    return [sorted(places[place], key=lambda s: (s.instance, s.file))[number] for place in sorted(places)]


def _affine(folder: Path, stack: list[_Slice]) -> NDArray[np.float64]:
    """From the first and last position, so that a tilted gantry is kept; uneven steps are warned of."""
    first, last = stack[0], stack[-1]
    step = first.axes[:, 2] * first.step
    if len(stack) > 1 and first.placed:
        step = (last.origin - first.origin) / (len(stack) - 1)
        gaps = np.diff([s.depth for s in stack])
        if gaps.max() - gaps.min() > 0.1 * np.median(gaps):
            warnings.warn(
                f"{folder}: slices are {gaps.min():.2f} to {gaps.max():.2f} mm apart, one may be missing; "
                f"taken as {np.linalg.norm(step):.2f} mm throughout"
            )
    affine = np.eye(4)
    affine[:3, 0] = first.axes[:, 0] * first.spacing[0]
    affine[:3, 1] = first.axes[:, 1] * first.spacing[1]
    affine[:3, 2] = step
    affine[:3, 3] = first.origin
    return affine


def _pixels(file: str) -> NDArray[Any]:
    """(H, W) or (H, W, 3) of one slice, rescaled."""
    import SimpleITK

    try:
        array = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(file, imageIO="GDCMImageIO"))
    except RuntimeError as error:
        raise FileFormatError(f"{file} could not be read: {reason(error)}. Copy it again or take it out") from error
    return array[0]


class _Quiet:
    """Keeps ITK from printing warnings about stray files."""

    def __enter__(self) -> None:
        import SimpleITK

        self._before: bool = SimpleITK.ProcessObject.GetGlobalWarningDisplay()
        SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)

    def __exit__(self, *_: object) -> None:
        import SimpleITK

        SimpleITK.ProcessObject.SetGlobalWarningDisplay(self._before)
