from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from limnet.datasets.bids import BidsDataset, BidsName
from limnet.errors import MissingFileError
from tests.helpers.every_set import problems, told
from tests.helpers.fake_nifti import blocks, ct, oriented_affine, write_nifti
from tests.helpers.fake_volumes import build_verse

NAME = "bids"


def test_names():
    name = BidsName.parse(Path("sub-01_ses-a_space-orig_label-lesion_desc-x_mask.nii.gz"))
    assert name is not None
    assert (name.suffix, name.entities["label"], name.stem) == ("mask", "lesion", name.path.name[:-7])
    assert name.source == {("sub", "01"), ("ses", "a")}
    assert BidsName.parse(Path("sub-01_T1w.nii")).modality == "mr"  # type: ignore[union-attr]
    assert BidsName.parse(Path("sub-01_ct.nii.gz")).modality == "ct"  # type: ignore[union-attr]
    for other in ("T1w.nii.gz", "sub-01_T1w.mgz", "ses-a_sub-01_T1w.nii", "sub_01_T1w.nii", "._sub-01_T1w.nii.gz"):
        assert BidsName.parse(Path(other)) is None


def test_cases_of_all_pipelines(good: Path):
    dataset = BidsDataset(good)
    cases = {case.name: case for case in dataset.all_cases()}
    assert len(cases) == 14  # 7 images, two masks each; probseg is skipped
    lesion, tissue = cases["manual.sub-01_label-lesion_mask"], cases["synth.sub-02_ses-b_desc-aseg_dseg"]
    assert lesion.labels == {1: "lesion"}
    assert tissue.labels == {2: "left white matter", 41: "right white matter"}
    assert (tissue.patient, tissue.modality, tissue.window) == ("02", "mr", None)
    assert set(np.unique(tissue.read_labels())) == {0, 2, 41}
    assert lesion.read_labels().dtype == np.uint8  # stored as floats
    one = BidsDataset(good, pipeline="manual")
    assert [c.name for c in one.all_cases()][:2] == ["sub-01_label-lesion_mask", "sub-02_ses-a_label-lesion_mask"]


def test_sources_name_the_image(good: Path):
    cases = {case.name: case for case in BidsDataset(good, pipeline="manual").all_cases()}
    image = cases["sub-03_label-lesion_mask"].read_image()
    assert image.source is not None
    assert image.source.name == "sub-03_FLAIR.nii.gz"


def test_several_images_fit(root: Path):
    for path in (root / "derivatives").rglob("sub-03*.json"):
        path.unlink()
    dataset = BidsDataset(root, pipeline="manual")
    assert "03" not in {case.patient for case in dataset.all_cases()}
    assert "sub-03_label-lesion_mask: several images fit: sub-03_FLAIR.nii.gz, sub-03_T1w.nii.gz" in problems(dataset)
    chosen = {c.patient: c for c in BidsDataset(root, pipeline="manual", suffix="T1w").all_cases()}
    assert chosen["03"].read_image().source.name == "sub-03_T1w.nii.gz"  # type: ignore[union-attr]


def test_slices_of_the_acquired_plane(good: Path):
    case = next(c for c in BidsDataset(good, pipeline="synth").all_cases() if c.patient == "04")
    assert case.read_image().spacing == (4.0, 1.0, 1.0)
    assert nibabel.aff2axcodes(case.read_image().affine) == ("P", "I", "L")


def test_an_image_in_the_space_of_the_mask(root: Path):
    folder = root / "derivatives/synth/sub-01/anat"
    affine = oriented_affine("RAS", (2.0, 2.0, 2.0))
    write_nifti(folder / "sub-01_space-MNI_desc-preproc_T1w.nii.gz", ct((7, 8, 9)), affine)
    mask = np.zeros((7, 8, 9), np.uint8)
    mask[2:4, 2:4, 2:4] = 1
    write_nifti(folder / "sub-01_space-MNI_label-lesion_mask.nii.gz", mask, affine)
    dataset = BidsDataset(root, pipeline="synth")
    case = next(c for c in dataset.all_cases() if c.name == "sub-01_space-MNI_label-lesion_mask")
    assert case.read_image().shape == case.read_labels().shape == (9, 8, 7)
    assert problems(dataset) == ""


def test_verse(tmp_path: Path):
    dataset = BidsDataset(build_verse(tmp_path))
    case = dataset.all_cases()[0]
    assert (case.name, case.patient, case.modality) == ("sub-verse004_seg-vert_msk", "verse004", "ct")
    assert case.window == (-160.0, 240.0)
    assert case.read_image().spacing == pytest.approx((3.0, 0.9, 0.9))  # sagittal slices
    assert set(np.unique(case.read_labels())) == {0, 20, 21}
    assert problems(dataset) == ""


def test_planted_faults(root: Path):
    (root / "sub-01/anat/sub-01_T1w.nii.gz").unlink()
    mask = root / "derivatives/manual/sub-05/anat/sub-05_label-lesion_mask.nii.gz"
    image = nibabel.load(mask)
    write_nifti(mask, np.asarray(image.dataobj) * 255, image.affine)
    (root / "derivatives/synth/desc-aseg_dseg.tsv").unlink()
    (root / "sub-06/anat/sub-06_T1w.nii.gz").unlink()
    (root / "sub-06/anat/sub-06_T1w.nii.gz").symlink_to("../../.git/annex/objects/x.nii.gz")
    told(
        BidsDataset(root, pipeline="manual"),
        "sub-01_label-lesion_mask: no image has the entities",
        "sub-05_label-lesion_mask: labels [255] are not in",
        "sub-06_T1w: a link to a file that is not here",
        "sub-06_label-lesion_mask: no image has the entities",
    )
    synth = problems(BidsDataset(root, pipeline="synth"))
    assert synth.count("its labels have no names") == 7
    assert "sub-01_desc-aseg_dseg: no image has" in synth


def test_other_folders_are_refused(good: Path, tmp_path: Path):
    with pytest.raises(MissingFileError, match="no derivatives folder"):
        BidsDataset(tmp_path)
    with pytest.raises(MissingFileError, match=r"no pipeline 'auto' in .*, only manual, synth"):
        BidsDataset(good, pipeline="auto")
    (tmp_path / "derivatives").mkdir()
    with pytest.raises(MissingFileError, match="no dseg, mask or msk"):
        BidsDataset(tmp_path)


def test_a_preprocessed_image_on_the_grid_of_the_mask(tmp_path: Path):
    shape, raw, own = (10, 12, 5), oriented_affine("LAS", (1.0, 1.0, 2.0)), oriented_affine("RAS", (1.0, 1.0, 2.0))
    write_nifti(tmp_path / "sub-01/anat/sub-01_T1w.nii.gz", ct(shape), raw)
    place = tmp_path / "derivatives/prep/sub-01/anat"
    preprocessed = write_nifti(place / "sub-01_desc-preproc_T1w.nii.gz", ct(shape, 1), own)
    mask = write_nifti(place / "sub-01_desc-brain_mask.nii.gz", blocks(shape, (1,)), own)
    nowhere = oriented_affine("PIR", (3.0, 3.0, 3.0))  # on no grid: as before, and told
    for affine, chosen, what in (
        (own, preprocessed.name, ""),
        (raw, "sub-01_T1w.nii.gz", ""),
        (nowhere, "sub-01_T1w.nii.gz", "mm apart"),
    ):
        write_nifti(mask, blocks(shape, (1,)), affine)
        ((_, _, (image,)),) = BidsDataset(tmp_path).found
        assert image.path.name == chosen
        told(BidsDataset(tmp_path), *[what] * bool(what))
