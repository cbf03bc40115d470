"""DICOM in and out: series, multi-frame objects and single images to volumes; masks to and from SEG and RTSTRUCT."""
