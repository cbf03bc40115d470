"""Pictures, stacks and videos as volumes; formats of nibabel; layers of segmentations."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image, ImageOps

from limnet.errors import FileFormatError, InputError
from limnet.image.io.masks import read_mask
from limnet.image.io.pictures import natural
from limnet.image.volume import Volume
from tests.helpers.grids import grid
from tests.helpers.small_segmenter import small_segmenter

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (20, 24)).astype(np.uint8)
COLOR = RNG.integers(0, 256, (20, 24, 3)).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (5, 20, 24)).astype(np.uint16)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff"])
@pytest.mark.parametrize("array", [GRAY, COLOR, DEEP[0]], ids=["gray", "colour", "16 bits"])
def test_one_picture_is_one_slice(tmp_path: Path, suffix: str, array: np.ndarray) -> None:
    if suffix == ".bmp" and array.dtype == np.uint16:
        pytest.skip("BMP has 8 bits")
    path = tmp_path / f"a{suffix}"
    Image.fromarray(array).save(path)
    volume = Volume.read(path)
    np.testing.assert_array_equal(volume.array, array[None])
    reference = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    colored = reference[..., 0] if reference.ndim > array.ndim else reference  # ITK makes colours of gray BMP
    np.testing.assert_array_equal(volume.array[0], colored)
    assert volume.spacing == (1, 1, 1)
    mask = np.zeros(volume.shape, bool)
    mask[0, 3:9, 4:15] = True
    for name in ("m.png", "m.tif", "m.nii.gz"):
        written = volume.write_mask(mask, tmp_path / name)
        np.testing.assert_array_equal(read_mask(written, volume), mask)
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "m.png")), mask[0])


def test_jpeg_and_16_bit_colour(tmp_path: Path) -> None:
    Image.fromarray(COLOR).save(tmp_path / "a.jpg", quality=95)
    np.testing.assert_array_equal(Volume.read(tmp_path / "a.jpg").array[0], np.array(Image.open(tmp_path / "a.jpg")))
    deep = np.stack([DEEP[0], DEEP[1], DEEP[2]], axis=-1)
    for name in ("a.png", "a.tif"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(deep, isVector=True), str(tmp_path / name))
        np.testing.assert_array_equal(Volume.read(tmp_path / name).array[0], deep)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_a_picture_is_turned_as_its_camera_says(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / f"a{suffix}"
    Image.fromarray(GRAY).save(path, exif=exif)
    with Image.open(path) as picture:
        shown = np.array(ImageOps.exif_transpose(picture))
    told = orientation > 1 and suffix != ".tif"  # Pillow turns TIFF by itself
    with pytest.warns(UserWarning, match="turned") if told else contextlib.nullcontext():
        volume = Volume.read(path)
    np.testing.assert_array_equal(volume.array[0], shown)


def test_a_stack_of_pages_and_its_mask(tmp_path: Path) -> None:
    pages = [Image.fromarray(page) for page in DEEP]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    volume = Volume.read(tmp_path / "a.tif")
    np.testing.assert_array_equal(volume.array, DEEP)
    labels = (DEEP // 100).astype(np.uint16)
    written = Volume.read(volume.write_mask(labels, tmp_path / "m.tif"))
    np.testing.assert_array_equal(written.array, labels)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "m.tif"))), labels)
    with pytest.raises(InputError, match=r"one slice, here are 5"):
        volume.write_mask(labels, tmp_path / "m.png")
    (tmp_path / "a.json").write_text(json.dumps({"spacing": [3, 0.5, 0.25]}))  # as nnU-Net has it
    assert Volume.read(tmp_path / "a.tif").spacing == (3, 0.5, 0.25)
    with pytest.raises(InputError, match="holds 1 volumes"):
        Volume.read(tmp_path / "a.tif", index=1)


def test_stacks_that_are_no_slices_are_told(tmp_path: Path) -> None:
    pages = [Image.fromarray(page) for page in DEEP]
    others = {"save_all": True, "append_images": pages[1:]}
    pages[0].save(tmp_path / "c.tif", description="ImageJ=1.53\nimages=5\nchannels=5\n", **others)
    with pytest.raises(InputError, match="5 channels"):
        Volume.read(tmp_path / "c.tif")
    pages[0].save(tmp_path / "o.tif", description='<OME><Pixels SizeC="1" SizeZ="2" SizeT="3"/></OME>')
    with pytest.raises(InputError, match="2 slices and 3 times"):
        Volume.read(tmp_path / "o.tif")
    pages[0].save(tmp_path / "large.tif", description="ImageJ=1.53\nimages=900\nslices=900\n")
    with pytest.raises(InputError, match="900 images, but has a single page"):
        Volume.read(tmp_path / "large.tif")
    pages[0].save(tmp_path / "sizes.tif", save_all=True, append_images=[pages[1].resize((12, 10))])
    with pytest.raises(FileFormatError, match="several sizes"):
        Volume.read(tmp_path / "sizes.tif")
    pages[0].save(tmp_path / "whole.tif", description="ImageJ=1.53\nimages=5\nslices=5\n", **others)
    np.testing.assert_array_equal(Volume.read(tmp_path / "whole.tif").array, DEEP)


def test_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.avi", "a.mp4"):
        (tmp_path / name).write_bytes(b"no video")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "imageio_ffmpeg", None)
        with pytest.raises(InputError, match=r'pip install "imageio\[ffmpeg\]"'):
            Volume.read(tmp_path / "a.mp4")
    pytest.importorskip("imageio_ffmpeg")
    import imageio.v3

    frames = np.repeat(np.linspace(20, 230, 6).astype(np.uint8), 32 * 48 * 3).reshape(6, 32, 48, 3)
    for name in ("a.avi", "a.mp4"):
        with pytest.raises(FileFormatError, match=f"{name} could not be read"):
            Volume.read(tmp_path / name)
        imageio.v3.imwrite(tmp_path / name, frames, fps=10, macro_block_size=1)
        volume = Volume.read(tmp_path / name)
        assert volume.array.shape == frames.shape
        assert np.abs(volume.array.astype(int) - frames).max() < 12
        written = volume.write_mask(frames[..., 0] > 100, tmp_path / "m.nii.gz")
        np.testing.assert_array_equal(read_mask(written, volume), frames[..., 0] > 100)


VOXELS = RNG.integers(-500, 500, (4, 5, 6)).astype(np.int16)


@pytest.mark.parametrize("name", ["a.mgz", "a.mgh", "a.hdr", "a.img", "a.NII"])
@pytest.mark.parametrize("target", ["m.nii.gz", "m.mgz", "m.mgh", "m.nrrd"])
def test_formats_of_nibabel(tmp_path: Path, name: str, target: str) -> None:
    image = {
        "a.mgz": nibabel.MGHImage,
        "a.mgh": nibabel.MGHImage,
        "a.hdr": nibabel.Nifti1Pair,
        "a.img": nibabel.Nifti1Pair,
    }
    image.get(name, nibabel.Nifti1Image)(VOXELS, grid("PIR", tilt=0.3)).to_filename(
        tmp_path / name.replace("NII", "nii")
    )
    if name == "a.NII":
        (tmp_path / "a.nii").rename(tmp_path / name)
    volume = Volume.read(tmp_path / name)
    np.testing.assert_array_equal(volume.array, VOXELS.T)
    np.testing.assert_allclose(volume.affine_in("RAS"), grid("PIR", tilt=0.3), atol=1e-4)
    written = Volume.read(volume.write_mask(VOXELS.T > 0, tmp_path / target))
    np.testing.assert_array_equal(written.array, VOXELS.T > 0)
    np.testing.assert_allclose(written.affine_in("RAS"), grid("PIR", tilt=0.3), atol=1e-4)


def test_pairs_scale_and_have_both_files(tmp_path: Path) -> None:
    image = nibabel.Nifti1Pair(VOXELS * 0.5, grid())
    image.set_data_dtype(np.int16)
    image.to_filename(tmp_path / "a.img")
    np.testing.assert_allclose(
        Volume.read(tmp_path / "a.hdr").array, nibabel.load(tmp_path / "a.img").get_fdata().T, 1e-5
    )
    (tmp_path / "a.img").unlink()
    with pytest.raises(FileFormatError, match="file that belongs to it is missing"):
        Volume.read(tmp_path / "a.hdr")


def test_analyze(tmp_path: Path) -> None:
    image = nibabel.AnalyzeImage(VOXELS, np.diag([-2.0, 3, 4, 1]))
    image.to_filename(tmp_path / "a.img")
    with pytest.warns(UserWarning, match="does not say where left and right are"):
        volume = Volume.read(tmp_path / "a.img")
    np.testing.assert_array_equal(volume.array, VOXELS.T)
    assert volume.spacing == (4, 3, 2)
    np.testing.assert_allclose(volume.affine, nibabel.load(tmp_path / "a.img").affine)
    back = nibabel.load(volume.write_mask(VOXELS.T > 0, tmp_path / "m.nii.gz"))
    np.testing.assert_allclose(back.affine, volume.affine)


def _minc(path: Path) -> np.ndarray:
    """A MINC 1 file, slices slowest, as the format's tools write them."""
    from scipy.io import netcdf_file

    with netcdf_file(path, "w") as file:
        for name, length, step, start, cosines in (
            ("zspace", 4, 3.0, -10.0, (0.0, 0.0, 1.0)),
            ("yspace", 5, 2.0, 5.0, (0.0, 1.0, 0.0)),
            ("xspace", 6, -1.5, 20.0, (1.0, 0.0, 0.0)),
        ):
            file.createDimension(name, length)
            variable = file.createVariable(name, "i", ())
            variable.step, variable.start, variable.direction_cosines = step, start, np.array(cosines)
            variable.spacing = b"regular__"
        stored = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
        image = file.createVariable("image", "h", ("zspace", "yspace", "xspace"))
        image[:] = stored
        image.valid_range, image.signtype = np.array([0.0, 119.0]), b"signed__"
        for name, value in (("image-max", 238.0), ("image-min", 0.0)):
            file.createVariable(name, "d", ()).data[...] = value
    return stored * 2.0


def test_minc(tmp_path: Path) -> None:
    expected = _minc(tmp_path / "a.mnc")
    volume = Volume.read(tmp_path / "a.mnc")
    np.testing.assert_allclose(volume.array, expected, rtol=1e-6)
    assert volume.spacing == (3, 2, 1.5)
    np.testing.assert_allclose(volume.to_world((0, 0, 0)), (20, 5, -10))
    np.testing.assert_allclose(volume.to_world((1, 0, 0)), (20, 5, -7), err_msg="axis 0 is z, the slowest of the file")
    np.testing.assert_allclose(volume.to_world((0, 0, 1)), (18.5, 5, -10))
    mask = volume.array > 100
    back = nibabel.load(volume.write_mask(mask, tmp_path / "m.nii.gz"))
    np.testing.assert_array_equal(np.asarray(back.dataobj).T, mask)
    np.testing.assert_allclose((back.affine @ (1, 2, 3, 1))[:3], volume.to_world((3, 2, 1)), atol=1e-5)


def test_layers_of_a_segmentation(tmp_path: Path) -> None:
    layers = RNG.integers(0, 3, (4, 20, 24, 3)).astype(np.uint8)  # three would be colour in an image
    image = SimpleITK.GetImageFromArray(layers, isVector=True)
    image.SetSpacing((0.5, 0.6, 2.0))
    for number, (layer, value) in enumerate(((0, 1), (0, 2), (1, 1), (2, 1))):
        for key, text in (("ID", f"S{number}"), ("Name", f"organ {number}"), ("Layer", layer), ("LabelValue", value)):
            image.SetMetaData(f"Segment{number}_{key}", str(text))
    SimpleITK.WriteImage(image, str(tmp_path / "a.seg.nrrd"), True)
    for index in range(3):
        volume = Volume.read(tmp_path / "a.seg.nrrd", index=index)
        np.testing.assert_array_equal(volume.array, layers[..., index])
        assert (volume.spacing, volume.modality) == ((2.0, 0.6, 0.5), "SEG")
    with pytest.raises(InputError, match=r"holds 3 layers of segments. Choose one with index=0\.\.2"):
        Volume.read(tmp_path / "a.seg.nrrd")
    with pytest.raises(InputError, match="is a segmentation, no image"):
        small_segmenter().open(tmp_path / "a.seg.nrrd", index=0)


def _save(folder: Path, name: str, array: np.ndarray, mode: str | None = None) -> None:
    folder.mkdir(exist_ok=True)
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(folder / name)


def _frames(count: int = 12, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 20, 24, channels)).astype(np.uint8)


def test_frames_in_natural_order_and_strays(tmp_path: Path) -> None:
    frames = _frames()
    for i in reversed(range(12)):
        _save(tmp_path / "v", f"frame{i}.png", frames[i])
    (tmp_path / "v" / "._frame0.png").write_bytes(b"side file")
    (tmp_path / "v" / "__MACOSX").mkdir()
    volume = Volume.read(tmp_path / "v")
    np.testing.assert_array_equal(volume.array, frames)
    assert volume.spacing == (1.0, 1.0, 1.0)
    (tmp_path / "v" / "labels.txt").write_text("x")
    np.testing.assert_array_equal(Volume.read(tmp_path / "v").array, frames)
    mask = frames[..., 0] > 100
    np.testing.assert_array_equal(Volume.read(volume.write_mask(mask, tmp_path / "m.nii.gz")).array, mask)
    with pytest.raises(InputError, match="holds 1 volumes"):
        Volume.read(tmp_path / "v", index=2)
    with pytest.raises(InputError, match="chooses in a DICOM folder"):
        Volume.read(tmp_path / "v", series="a")
    volume.write_mask(mask, tmp_path / "v" / "ct.nii.gz")
    with pytest.warns(UserWarning, match=r"12 pictures; other images in it: ct\.nii\.gz"):
        np.testing.assert_array_equal(Volume.read(tmp_path / "v").array, frames)


def test_natural_key() -> None:
    names = ["b1", "a10.png", "a9.png", "A1.png", "10.png", "9.png", "009.png", "x.png"]
    ordered = [p.name for p in sorted(map(Path, names), key=natural)]
    assert ordered == ["009.png", "9.png", "10.png", "A1.png", "a9.png", "a10.png", "b1", "x.png"]


@pytest.mark.parametrize("name", ["{}.jpg", "{}.JPEG"])
def test_frames_of_jpeg(tmp_path: Path, name: str) -> None:
    smooth = np.broadcast_to(np.linspace(0, 255, 24)[None, :, None], (20, 24, 3)).astype(np.uint8)
    for i in range(3):
        _save(tmp_path / "v", name.format(i), smooth)
    volume = Volume.read(tmp_path / "v")
    assert volume.array.shape == (3, 20, 24, 3)
    assert np.abs(volume.array[0].astype(int) - smooth).max() < 12


def test_frames_of_gray_alpha_palette_and_mixed(tmp_path: Path) -> None:
    frames = _frames(2)
    for i in range(2):
        _save(tmp_path / "gray", f"{i}.png", frames[i, ..., 0])
        _save(tmp_path / "deep", f"{i}.png", frames[i, ..., 0].astype(np.uint16) * 200)
        _save(tmp_path / "alpha", f"{i}.png", np.dstack([frames[i], frames[i, ..., 0]]))
        _save(tmp_path / "palette", f"{i}.png", frames[i] // 128 * 255, "P")
        _save(tmp_path / "la", f"{i}.png", frames[i], "LA")
    np.testing.assert_array_equal(Volume.read(tmp_path / "gray").array, frames[..., 0])
    np.testing.assert_array_equal(Volume.read(tmp_path / "deep").array, frames[..., 0].astype(np.uint16) * 200)
    np.testing.assert_array_equal(Volume.read(tmp_path / "alpha").array, frames)
    assert Volume.read(tmp_path / "palette").array.shape == frames.shape
    np.testing.assert_array_equal(
        Volume.read(tmp_path / "la").array[1], np.array(Image.fromarray(frames[1]).convert("L"))
    )
    _save(tmp_path / "gray", "2.png", frames[0])
    mixed = Volume.read(tmp_path / "gray").array
    np.testing.assert_array_equal(mixed[0], np.repeat(frames[0, ..., :1], 3, axis=2))
    np.testing.assert_array_equal(mixed[2], frames[0])
    _save(tmp_path / "gray", "3.png", frames[0, ..., 0])
    np.testing.assert_array_equal(Volume.read(tmp_path / "gray").array[3, ..., 1], frames[0, ..., 0])


def test_frames_that_do_not_fit(tmp_path: Path) -> None:
    _save(tmp_path / "v", "0.png", _frames(1)[0])
    _save(tmp_path / "v", "1.png", _frames(1)[0, :10])
    with pytest.raises(InputError, match=r"0\.png is \(20, 24\), 1\.png is \(10, 24\)"):
        Volume.read(tmp_path / "v")
    _save(tmp_path / "v", "1.png", _frames(1)[0, ..., 0].astype(np.uint16))
    with pytest.raises(InputError, match="bit depth"):
        Volume.read(tmp_path / "v")
    (tmp_path / "v" / "1.png").write_bytes(b"no image")
    with pytest.raises(FileFormatError, match=r"1\.png could not be read"):
        Volume.read(tmp_path / "v")
