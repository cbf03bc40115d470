from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from limnet.data.files import whole_numbers
from limnet.data.nifti import check_intensities, label_ids, read_labels
from limnet.errors import FileFormatError
from limnet.image.io.nifti import nifti_slabs
from tests.helpers.fake_nifti import blocks, write_nifti

SHAPE = (8, 9, 5)


def test_a_wrong_checksum_is_noticed(tmp_path: Path):
    path = write_nifti(tmp_path / "a.nii.gz", blocks(SHAPE, (1, 2)))
    assert sum(len(slab) for _, slab in nifti_slabs(path)) == SHAPE[2]
    data = bytearray(path.read_bytes())
    data[-8] ^= 1  # CRC of the content: all voxels can still be read
    path.write_bytes(data)
    for use in (lambda: list(nifti_slabs(path)), lambda: label_ids(path), lambda: read_labels(path, path)):
        with pytest.raises(FileFormatError, match="could not be read"):
            use()
    path.write_bytes(data[:-9])
    with pytest.raises(FileFormatError, match="could not be read"):
        label_ids(path)


def test_colours_are_no_labels(tmp_path: Path):
    record = np.zeros(SHAPE, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    path = write_nifti(tmp_path / "rgb.nii.gz", record)
    with pytest.raises(FileFormatError, match="colours"):
        label_ids(path)
    assert "colours" in check_intensities(path)[0][0]
    with pytest.raises(FileFormatError, match="complex64 voxels"):
        whole_numbers(np.zeros(3, np.complex64), path)
