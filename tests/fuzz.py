"""Reads damaged files of each format: `python -m tests.fuzz`, on Linux.

Of whole files, bytes are flipped, cut out, swapped and repeated, and what becomes of them is read
by a child process. Each must be read, or refused in one sentence that names it, within 2 GB of
memory and ten seconds. Names of formats choose among them, `--files` how many files each takes;
`--keep FOLDER` keeps those that went wrong. The exit code is 1 if any did.
"""

import argparse
import collections
import gzip
import io
import multiprocessing
import os
import shutil
import sys
import tempfile
import traceback
import zlib
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import nibabel
import numpy as np
import PIL.Image
import pydicom
import tifffile
from pydicom import Dataset, uid
from pydicom.encaps import encapsulate

from keras_lgmsnet.files.images import read_image
from keras_lgmsnet.files.masks import read_mask
from keras_lgmsnet.files.nifti import read_label_map, read_volume
from tests.helpers.pictures import save_dicom

MEMORY = 2 * 2**30  # bytes beyond what the imports take
SECONDS = 10.0
HEAD = 512  # half of the damage is done to so many first bytes, where headers are


class Format(NamedTuple):
    """What is damaged, and how it is read.

    Args:
        suffix: What the files' names end in.
        make: Returns whole files, small ones, so that much of the damage hits their headers.
        read: Reads a file; what it returns is not looked at.
        pack: Compresses a file; half of the files are damaged within, the others as they are
            packed. By default there is nothing to compress.
    """

    suffix: str
    make: Callable[[], Sequence[bytes]]
    read: Callable[[Path], object]
    pack: Callable[[bytes], bytes] = bytes


def _volumes() -> list[bytes]:
    """Scans of several types, byte orders and forms of the affine, in NIfTI-1 and NIfTI-2."""
    rng = np.random.default_rng(0)
    values = rng.integers(-1000, 1000, (7, 6, 5), "int16")
    oblique = np.array([[0, -0.5, 1, 9], [0.9, 0, 0.1, -7], [0, 0.6, 2, 3], [0, 0, 0, 1]])
    by_qform = nibabel.Nifti1Image(values.astype("float32"), np.diag([-1, -1, 2, 1]))
    by_qform.set_sform(None, 0)
    by_qform.set_qform(by_qform.affine, 1)
    scaled = nibabel.Nifti1Image(values.astype("uint8"), oblique)
    scaled.header["scl_slope"], scaled.header["scl_inter"] = 0.5, -24
    niftis = [
        nibabel.Nifti1Image(values, oblique),
        by_qform,
        scaled,
        nibabel.Nifti1Image(rng.random((5, 4, 3, 2)), oblique),
        nibabel.Nifti1Image(values, oblique, nibabel.Nifti1Header(endianness=">")),
        nibabel.Nifti2Image(values, oblique),
    ]
    return [nifti.to_bytes() for nifti in niftis]


def _label_maps() -> list[bytes]:
    labels = np.random.default_rng(0).integers(0, 3, (7, 6, 5), "uint8")
    affine = np.diag([-1, -1, 2, 1])
    return [
        nibabel.Nifti1Image(labels.astype(dtype), affine).to_bytes()
        for dtype in ("uint8", "int16", "float32")
    ]


def _read_label_map(path: Path) -> object:
    return read_label_map(path, {0: "background", 1: "organ", 2: "tumour"})


def _picture(kind: str) -> Callable[[], Sequence[bytes]]:
    """Pictures of a format of Pillow's, in those of its modes that the format has."""

    def make() -> list[bytes]:
        rgba = np.random.default_rng(0).integers(0, 256, (24, 32, 4), "uint8")
        contents = []
        for mode in _MODES[kind]:
            buffer = io.BytesIO()
            image = PIL.Image.fromarray(rgba).convert(mode)
            image.save(buffer, kind, **({"lossless": True} if kind == "WEBP" else {}))
            contents.append(buffer.getvalue())
        return contents

    return make


_MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA"),
    "JPEG": ("L", "RGB", "CMYK"),
    "GIF": ("L", "P"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB"),
}


def _pngs() -> list[bytes]:
    rng = np.random.default_rng(0)
    wide = [
        imagecodecs.png_encode(rng.integers(0, 4096, shape, "uint16"))
        for shape in ((24, 32), (24, 32, 4))
    ]
    return [*_picture("PNG")(), *wide]


def _tiffs() -> list[bytes]:
    """Grey and RGB of several types, compressions and layouts, and those that Pillow reads."""
    rng = np.random.default_rng(0)
    contents = []
    for dtype, shape, options in (
        ("uint8", (24, 32, 3), {"compression": "lzw"}),
        ("uint8", (24, 32), {"photometric": "miniswhite"}),
        ("uint8", (32, 48, 3), {"compression": "jpeg", "photometric": "ycbcr"}),
        ("uint16", (24, 32), {"photometric": "miniswhite", "bigtiff": True}),
        ("uint16", (24, 32, 3), {"compression": "lzw", "predictor": True, "rowsperstrip": 5}),
        ("int16", (24, 32), {"byteorder": ">"}),
        ("float16", (24, 32), {"compression": "packbits"}),
        ("float32", (3, 24, 32), {"photometric": "rgb", "planarconfig": "separate"}),
        ("float64", (24, 32), {"compression": "deflate", "predictor": True, "tile": (16, 16)}),
    ):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, rng.integers(0, 256, shape).astype(dtype), **options)
        contents.append(buffer.getvalue())
    return contents


def _dicoms() -> list[bytes]:
    """Grey, coloured, with tables and windows, compressed in every way that is decoded."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 4096, (24, 32), "uint16")
    table = Dataset()
    table.LUTDescriptor = [256, 0, 8]
    table.add_new("LUTData", "OW", np.arange(256, dtype="uint16").tobytes())
    palette = {"PhotometricInterpretation": "PALETTE COLOR"}
    for color in ("Red", "Green", "Blue"):
        palette[f"{color}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        palette[f"{color}PaletteColorLookupTableData"] = rng.bytes(512)
    contents = []
    for values, elements in (
        (grey, {"BitsStored": 12, "WindowCenter": 900, "WindowWidth": 1800}),
        (grey.astype("int16"), {"RescaleSlope": -2, "RescaleIntercept": 9, "PixelPaddingValue": 0}),
        (grey.astype("uint8"), {"VOILUTSequence": [table], "ModalityLUTSequence": [table]}),
        (grey.astype("uint8"), palette),
        (rng.integers(0, 256, (24, 32, 3), "uint8"), {"PhotometricInterpretation": "YBR_FULL"}),
        *(
            (grey, {"BitsStored": 12, "syntax": syntax, "PixelData": encapsulate([encode(grey)])})
            for syntax, encode in (
                (uid.JPEGLosslessSV1, imagecodecs.ljpeg_encode),
                (uid.JPEGLSLossless, imagecodecs.jpegls_encode),
                (
                    uid.JPEG2000Lossless,
                    lambda pixels: imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", level=0),
                ),
            )
        ),
    ):
        buffer = io.BytesIO()
        save_dicom(buffer, values, **elements)
        contents.append(buffer.getvalue())
    dataset = pydicom.dcmread(io.BytesIO(contents[0]))
    dataset.compress(uid.RLELossless)
    dataset.save_as(buffer := io.BytesIO())
    return [*contents, buffer.getvalue()]


def _masks() -> list[bytes]:
    """Masks told by brightness and by opacity."""
    mask = np.zeros((24, 32), "uint8")
    mask[6:15, 9:20] = 255
    contents = []
    for kind, pixels, mode in (
        ("PNG", mask, "L"),
        ("PNG", mask, "1"),
        ("PNG", np.stack([np.full_like(mask, 255)] * 3 + [mask], -1), "RGBA"),
        ("JPEG", mask, "L"),
        ("TIFF", mask.astype("uint16") * 257, "I;16"),
        ("GIF", mask, "P"),
    ):
        buffer = io.BytesIO()
        image = PIL.Image.fromarray(pixels)
        (image if image.mode == mode else image.convert(mode)).save(buffer, kind)
        contents.append(buffer.getvalue())
    return contents


def _read_mask(path: Path) -> object:
    return read_mask(path, (24, 32))


FORMATS = {
    "nii": Format(".nii", _volumes, read_volume),
    "nii.gz": Format(".nii.gz", _volumes, read_volume, gzip.compress),
    "label-map": Format(".nii.gz", _label_maps, _read_label_map, gzip.compress),
    "png": Format(".png", _pngs, read_image),
    "jpeg": Format(".jpg", _picture("JPEG"), read_image),
    "tiff": Format(".tif", _tiffs, read_image),
    "gif": Format(".gif", _picture("GIF"), read_image),
    "webp": Format(".webp", _picture("WEBP"), read_image),
    "bmp": Format(".bmp", _picture("BMP"), read_image),
    "dicom": Format(".dcm", _dicoms, read_image),
    "mask": Format(".png", _masks, _read_mask),
}


def damaged(name: str, wholes: Sequence[bytes], number: int) -> bytes:
    """Return a damaged file of a format, always the same for a number."""
    rng = np.random.default_rng([zlib.crc32(name.encode()), number])
    pack, whole = FORMATS[name].pack, wholes[number % len(wholes)]
    if rng.random() < 0.5:
        return pack(_damage(whole, rng))
    return _damage(pack(whole), rng)


def _damage(whole: bytes, rng: np.random.Generator) -> bytes:
    content = bytearray(whole)
    head = rng.random() < 0.5

    def draw() -> int:
        return int(rng.integers(min(HEAD, len(content)) if head else len(content)))

    kind = rng.choice(["flip", "set", "cut", "swap", "repeat", "end"], p=[0.4, 0.2, *[0.1] * 4])
    if kind == "end":
        return bytes(content[: draw()])
    if kind in ("flip", "set"):
        for _ in range(rng.integers(1, 4)):
            at = draw()
            content[at] = (
                content[at] ^ 1 << int(rng.integers(8)) if kind == "flip" else rng.choice([0, 255])
            )
        return bytes(content)
    start, other = sorted((draw(), draw()))
    length = int(rng.integers(1, 65))
    if kind == "cut":
        del content[start : start + length]
    elif kind == "repeat":
        content[other:other] = content[start : start + length]
    else:
        part, other_part = content[start : start + length], content[other : other + length]
        content[other : other + length] = part
        content[start : start + length] = other_part
    return bytes(content)


def _read_in_child(name: str, folder: Path, numbers: range, results: Connection) -> None:
    """Read files and send what became of each: "read", "refused" or what went wrong."""
    import resource  # which other systems lack

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    kind = FORMATS[name]
    wholes = kind.make()
    for whole in wholes:
        path = folder / f"whole{kind.suffix}"
        path.write_bytes(kind.pack(whole))
        kind.read(path)  # or else damage would show nothing
        path.unlink()
    for number in numbers:
        path = folder / f"{number:05d}{kind.suffix}"
        path.write_bytes(damaged(name, wholes, number))
        results.send(None)  # from here on, the time counts
        try:
            kind.read(path)
            result = "read"
        except (ValueError, OSError) as error:
            told = " ".join(map(str, (error, getattr(error, "filename", ""))))
            is_sentence = path.name in told and "\n" not in told
            is_sentence &= not isinstance(error.__cause__ or error.__context__, MemoryError)
            result = "refused" if is_sentence else _describe(error)
        except BaseException as error:
            result = _describe(error)
        results.send(result)
        if result in ("read", "refused"):
            path.unlink()


def _describe(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-2:]
    where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__name__} at {where}: {' '.join(str(error).split())[:200]}"


def fuzz(name: str, count: int, folder: Path) -> dict[int, str]:
    """Read damaged files of a format and return what became of each, by its number.

    Args:
        name: Of one of `FORMATS`.
        count: How many files.
        folder: Where they are written; those that went wrong stay.
    """
    context = multiprocessing.get_context("spawn")
    outcomes: dict[int, str] = {}
    while len(outcomes) < count:
        number = len(outcomes)
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(
            target=_read_in_child, args=(name, folder, range(number, count), sender)
        )
        child.start()
        sender.close()
        started = False
        try:
            while len(outcomes) < count:
                # Before its first file, a child imports.
                if not receiver.poll(SECONDS if started else 120):
                    raise TimeoutError
                message = receiver.recv()
                if message is not None:
                    outcomes[len(outcomes)] = message
                started = True
        except TimeoutError:
            child.kill()
            outcomes[len(outcomes)] = f"took more than {SECONDS:g} seconds"
        except EOFError:
            child.join()
            if not started:
                raise RuntimeError(f"Whole files of {name} are not read.") from None
            if len(outcomes) < count:
                outcomes[len(outcomes)] = f"ended the process with {child.exitcode}"
        child.join()
    return outcomes


def main(arguments: Sequence[str]) -> int:
    """Return 1 if anything went wrong, otherwise 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=", ".join(FORMATS))
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    options = parser.parse_args(arguments)
    wrong = 0
    for name in options.formats or FORMATS:
        if name not in FORMATS:
            parser.error(f"There is no format {name}; there are {', '.join(FORMATS)}.")
        with tempfile.TemporaryDirectory() as folder:
            outcomes = fuzz(name, options.files, Path(folder))
            counts = collections.Counter(outcomes.values())
            faults = sorted(counts.keys() - {"read", "refused"})
            print(
                f"{name}: {options.files} damaged files, {counts['read']} read, "
                f"{counts['refused']} refused, {sum(counts[fault] for fault in faults)} wrong",
                flush=True,
            )
            for fault in faults:
                first = next(number for number, told in outcomes.items() if told == fault)
                print(f"    {counts[fault]} × {fault} (first {first})", flush=True)
            wrong += len(faults)
            if options.keep and faults:
                shutil.copytree(folder, options.keep / name, dirs_exist_ok=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
