"""Moved to `limnet.data`; these names go with the next release."""

from limnet.errors import moved

__getattr__ = moved(
    __name__,
    {
        "CaseDataModule": "limnet.data.module",
        "LabelledDataset": "limnet.data.dataset",
        "Problem": "limnet.data.dataset",
    },
)
