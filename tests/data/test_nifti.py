from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from limnet.data.dataset import LabelledCase, LabelledDataset
from limnet.data.files import NIFTI, by_stem, labels_in, whole_numbers
from limnet.data.files import read_labels as read_label_map
from limnet.data.nifti import display_axes, read_image, read_labels, reorient
from limnet.errors import FileFormatError
from limnet.image.volume import Volume
from tests.helpers.fake_nifti import blocks, ct, damage, oriented_affine, write_nifti, write_side_file

SHAPE = (9, 8, 6)
NAMES = {1: "organ", 2: "lesion"}


class Pair(NamedTuple):
    image: Path
    label: Path


def pair(root: Path) -> Pair:
    image = write_nifti(root / "image.nii.gz", ct(SHAPE))
    return Pair(image, write_nifti(root / "label.nii.gz", blocks(SHAPE, (1, 2))))


def found(pair: Pair) -> str:
    read = partial(read_image, pair.image, "ct"), partial(read_labels, pair.label, pair.image)
    check = LabelledDataset.check_case(None, LabelledCase("a", "a", "ct", NAMES, *read))  # type: ignore[arg-type]
    return " | ".join(f"{problem.what} -> {problem.advice}" for problem in check)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32, np.float64])
def test_label_dtypes_are_no_problem(tmp_path: Path, dtype: type):
    good = pair(tmp_path)
    write_nifti(good.label, blocks(SHAPE, (1, 2), dtype))
    assert found(good) == ""
    labels = read_labels(good.label, good.image)
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) == {0, 1, 2}


def moved(by: float) -> NDArray[np.float64]:
    affine = oriented_affine()
    affine[0, 3] += by
    return affine


@pytest.mark.parametrize(
    ("labels", "affine", "said"),
    [
        (blocks(SHAPE, (1, 2)), moved(1e-5), None),  # rounding
        (blocks(SHAPE, (1, 2)), moved(0.5), "up to 0.5 mm apart"),
        (blocks(SHAPE, (1, 2)), oriented_affine("RPS"), "mm apart"),
        (blocks((9, 8, 5), (1, 2)), None, "label.nii.gz is (5, 8, 9), its image image.nii.gz (6, 8, 9)"),
        (blocks(SHAPE, (1, 7)), None, "labels [7] are not in the data set's list -> known are 1 organ, 2 lesion"),
        (np.zeros(SHAPE, np.uint8), None, "no voxel is labelled"),
        (blocks(SHAPE, (1, 2), np.float32) * np.float32(0.5), None, "fractions"),
        (-blocks(SHAPE, (1, 2), np.int16), None, "start at 0"),
    ],
)
def test_labels_that_do_not_fit(
    tmp_path: Path, labels: NDArray[Any], affine: NDArray[np.float64] | None, said: str | None
):
    files = pair(tmp_path)
    write_nifti(files.label, labels, affine)
    assert found(files) == "" if said is None else said in found(files)


@pytest.mark.parametrize("which", ["image", "label"])
def test_damaged_files(tmp_path: Path, which: str):
    bad = pair(tmp_path)
    damage(getattr(bad, which))
    assert f"{which}.nii.gz could not be read" in found(bad)
    assert "download it again" in found(bad)


def test_a_compressed_file_named_nii(tmp_path: Path):
    bad = pair(tmp_path)
    plain = bad.label.with_suffix("")
    bad.label.rename(plain)
    assert "Rename it to .nii.gz" in found(Pair(bad.image, plain))


def test_4d_images(tmp_path: Path):
    bad = pair(tmp_path)
    image = np.stack([ct(SHAPE), ct(SHAPE, 1)], axis=-1)
    write_nifti(bad.image, image)
    assert "image.nii.gz holds 2 volumes, one is expected. Save that one as a file of its own" in found(bad)
    write_nifti(bad.image, image[..., :1])  # a fourth axis of one is a volume all the same
    assert found(bad) == ""
    assert read_image(bad.image, "ct").shape == SHAPE[::-1]


def test_images_without_contrast_or_with_nan(tmp_path: Path):
    bad = pair(tmp_path)
    write_nifti(bad.image, np.full(SHAPE, -1024, np.int16))
    assert "the image has the same value everywhere (-1024)" in found(bad)
    write_nifti(bad.image, (np.indices((20, 20, 20)).sum(axis=0) // 10).astype(np.int16))
    assert "the image has only 6 different values, all whole, as label maps do" in found(bad._replace(label=bad.image))
    image = ct(SHAPE).astype(np.float32)
    image[3, 3, 3] = np.nan
    write_nifti(bad.image, image)
    assert "NaN" in found(bad)


def test_a_wrong_checksum_is_noticed(tmp_path: Path):
    path = write_nifti(tmp_path / "a.nii.gz", blocks(SHAPE, (1, 2)))
    data = bytearray(path.read_bytes())
    data[-8] ^= 1  # CRC of the content: all voxels can still be read
    for damaged in (data, data[:-9]):
        path.write_bytes(damaged)
        for use in (Volume.read, read_label_map, lambda path: read_labels(path, path)):
            with pytest.raises(FileFormatError, match="could not be read"):
                use(path)


def test_colours_are_no_labels(tmp_path: Path):
    record = np.zeros(SHAPE, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    path = write_nifti(tmp_path / "rgb.nii.gz", record)
    assert "the image holds colours -> save one" in found(Pair(path, path))
    assert "one number a voxel" in found(Pair(path, path))
    with pytest.raises(FileFormatError, match="complex64 voxels"):
        whole_numbers(np.zeros(3, np.complex64), path)


def test_side_files_and_hidden_files_are_no_cases(tmp_path: Path):
    write_side_file(write_nifti(tmp_path / "b.nii.gz", ct(SHAPE)))
    write_nifti(tmp_path / "a.b.nii", ct(SHAPE))
    (tmp_path / "notes.txt").write_text("")
    assert list(by_stem(tmp_path, *NIFTI)) == ["a.b", "b"]


codes = st.permutations(["RL", "AP", "SI"]).flatmap(lambda axes: st.tuples(*(st.sampled_from(axis) for axis in axes)))


@settings(max_examples=60, deadline=None)
@given(codes, st.tuples(*[st.integers(1, 5)] * 3), st.integers(0, 9), st.sampled_from(["axial", "acquired"]))
def test_turning_moves_no_voxel_in_the_patient(codes: tuple[str, ...], shape: tuple[int, ...], seed: int, plane: str):
    rng = np.random.default_rng(seed)
    affine = oriented_affine("".join(codes), tuple(rng.uniform(0.5, 4, 3)))
    affine[:3, 3] = rng.normal(0, 50, 3)
    array = rng.permutation(int(np.prod(shape))).reshape(shape)
    axes = display_axes(affine, plane)
    turned, moved = reorient(array, affine, axes)
    assert nibabel.aff2axcodes(moved) == axes
    where = {v: affine @ [*index[::-1], 1] for index, v in np.ndenumerate(array)}
    for index, value in np.ndenumerate(turned):
        np.testing.assert_allclose(moved @ [*index[::-1], 1], where[value], atol=1e-9)


@pytest.mark.parametrize("codes", ["LPS", "RAS", "PSR", "IPL"])
def test_voxels_of_a_file_stay_in_place(tmp_path: Path, codes: str):
    array, affine = np.arange(24, dtype=np.int16).reshape(2, 3, 4), oriented_affine(codes, (1.0, 1.5, 2.0))
    affine[:3, 3] = (5, -7, 11)
    path = write_nifti(tmp_path / "a.nii.gz", array, affine)
    volume, labels = read_image(path, "mr"), read_labels(path, path)
    where = {v: affine @ [*index, 1] for index, v in np.ndenumerate(array)}
    for index, value in np.ndenumerate(volume.array):
        np.testing.assert_allclose(volume.affine_in("RAS") @ [*index[::-1], 1], where[value])
    np.testing.assert_array_equal(labels, volume.array)


def test_planes():
    thick_sagittal = oriented_affine("PSR", (1.0, 1.0, 4.0))
    thick_coronal = oriented_affine("RAS", (1.0, 5.0, 1.0))
    assert display_axes(thick_sagittal, "acquired") == ("P", "I", "L")
    assert display_axes(thick_coronal, "acquired") == ("L", "I", "P")
    assert display_axes(oriented_affine("PSR", (1.0, 1.0, 1.2)), "acquired") == ("L", "P", "S")
    assert display_axes(thick_sagittal, "axial") == ("L", "P", "S")


def test_colour_is_turned_too():
    array = np.arange(2 * 3 * 4 * 3).reshape(2, 3, 4, 3)
    turned, _ = reorient(array, oriented_affine("IPL"), ("L", "P", "S"))
    assert turned.shape == (4, 3, 2, 3)
    np.testing.assert_array_equal(turned[0, 1, 1], array[1, 1, 3])


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 70000), min_size=1, max_size=20))
def test_ids_are_those_of_unique(values: list[int]):
    dtype = np.uint8 if max(values) < 256 else np.uint16 if max(values) < 65536 else np.int32
    array = np.array(values, dtype).reshape(1, 1, -1)
    assert labels_in(array) == set(values)
