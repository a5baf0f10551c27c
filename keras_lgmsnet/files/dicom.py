"""DICOM files of one image, by the rules of DICOM PS3.3 as pydicom applies them."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image

from keras_lgmsnet.files.pixels import SEVERAL_FRAMES, DecodedImage, invert, require_moderate

if TYPE_CHECKING:
    from pydicom import Dataset

# What an enhanced image says of its only frame, in a sequence for all frames or in one for each.
_FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_GREYSCALE_MACROS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")


def is_dicom(content: bytes) -> bool:
    """Return whether a file is DICOM."""
    return content[128:132] == b"DICM"


def decode_dicom(content: bytes) -> DecodedImage:
    """Decode a DICOM file as it is meant to be seen.

    - Grey: the modality's rescaling or lookup table, then the first VOI lookup table or else the
      first window (PS3.3 C.11.1 and C.11.2), unless its width is 0; of enhanced images those of the
      frame. Without either, the declared bits are those stored, or those of the modality's table,
      so that a falling rescale slope inverts; signed values of 16 stored bits of 16 declare none.
      `MONOCHROME1` and the presentation's shape `INVERSE` invert.
    - Colour: RGB, what pydicom turns into RGB (`YBR_FULL`, `YBR_FULL_422`, and JPEG 2000's), and
      palettes; the declared bits are those stored or of the palette.

    Args:
        content: The file's bytes.

    Returns:
        Its pixels, `uint8` where a window was applied.

    Raises:
        ValueError: If pydicom is not installed, or if the file is deflated, holds no image, several
            or one too large, is of floats or other colours, stores its bits elsewhere than lowest,
            has a presentation lookup table, or is compressed in a way that is not decoded. Of
            damaged bytes, decoders raise errors of every kind.

    Example:
    ```python
    image = decode_dicom(Path("scan.dcm").read_bytes())
    ```
    """
    try:
        import pydicom
    except ModuleNotFoundError:
        raise ValueError(
            "it is DICOM, which needs pydicom: pip install 'keras-lgmsnet[dicom]'"
        ) from None

    _require_not_deflated(content)
    dataset = pydicom.dcmread(io.BytesIO(content))
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise ValueError("its pixels are floats; save it as a TIFF")
    if "PixelData" not in dataset:
        raise ValueError("the DICOM file holds no image")
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        raise ValueError(SEVERAL_FRAMES)
    require_moderate(
        dataset.Columns, dataset.Rows, dataset.SamplesPerPixel * (dataset.BitsAllocated + 7) // 8
    )
    if dataset.get("HighBit") not in (None, dataset.BitsStored - 1):
        raise ValueError(
            f"its HighBit must be {dataset.BitsStored - 1}, as of {dataset.BitsStored} stored bits "
            f"the lowest are read; save it so. Received: {dataset.HighBit}"
        )
    values, interpretation = _decode_pixels(dataset)
    if interpretation == "PALETTE COLOR" and values.ndim == 2:
        return _apply_palette(values, dataset)
    if interpretation == "RGB" and values.ndim == 3:
        return DecodedImage(values, bits=dataset.BitsStored)
    if interpretation not in ("MONOCHROME1", "MONOCHROME2") or values.ndim != 2:
        raise ValueError(f"it must be grey or RGB; convert it. Received: {interpretation}")
    return _show_grey(values, dataset)


def _require_not_deflated(content: bytes) -> None:
    """Raise a `ValueError` if a file would be inflated as a whole, to whatever size."""
    import pydicom

    file = io.BytesIO(content)
    file.seek(132)
    meta = pydicom.filereader.read_dataset(
        file,
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, *_: tag.group != 2,
    )
    syntax = meta.get("TransferSyntaxUID")
    if syntax is not None and syntax.is_deflated:
        raise ValueError("its DICOM is deflated; save it uncompressed")


def _decode_pixels(dataset: "Dataset") -> tuple[np.ndarray, str]:
    """Return the stored values, and the photometric interpretation that they have by now."""
    from pydicom import uid
    from pydicom.pixels import get_decoder

    from keras_lgmsnet.files import dicom_frames

    syntax = dataset.file_meta.TransferSyntaxUID
    plugin = ""  # any of pydicom's own
    try:
        decoder = get_decoder(syntax)
        if syntax == uid.JPEGBaseline8Bit or syntax in uid.JPEG2000TransferSyntaxes:
            plugin = "pillow"  # as another, where it is installed, may end the process
            _require_frame_size(dataset)
        elif dicom_frames.is_available(syntax):
            plugin = "imagecodecs"
            if plugin not in decoder.available_plugins:
                decoder.add_plugin(plugin, (dicom_frames.__name__, "decode_frame"))
        values, properties = decoder.as_array(dataset, decoding_plugin=plugin)
    except (NotImplementedError, RuntimeError) as error:
        raise ValueError(
            f"its pixels, {syntax.name}, cannot be decoded; save it uncompressed: {error}"
        ) from error
    return values, str(properties["photometric_interpretation"])


def _require_frame_size(dataset: "Dataset") -> None:
    """Raise a `ValueError` unless the frame is of the size that the file says, as others would be.

    pydicom counts bytes only, so that a frame of 20 by 35 passes for one of 35 by 20.
    """
    from pydicom.encaps import get_frame

    frame = io.BytesIO(get_frame(dataset.PixelData, 0, number_of_frames=1))
    try:
        with PIL.Image.open(frame, formats=("JPEG", "JPEG2000")) as image:
            received = (image.height, image.width)
    except PIL.UnidentifiedImageError:
        raise ValueError("its frame is no JPEG; save it uncompressed") from None
    expected = (dataset.Rows, dataset.Columns)
    if received != expected:
        raise ValueError(f"the frame must have shape {expected}. Received: {received}")


def _apply_palette(values: np.ndarray, dataset: "Dataset") -> DecodedImage:
    """Return the colours that stand for values (PS3.3 C.7.6.3.1.5)."""
    from pydicom.pixels import apply_color_lut

    descriptor = entries, first, bits = dataset.RedPaletteColorLookupTableDescriptor
    if "RedPaletteColorLookupTableData" in dataset:
        names = [f"{color}PaletteColorLookupTable" for color in ("Red", "Green", "Blue", "Alpha")]
        channels = [
            _look_up(values, dataset.get(f"{name}Descriptor", descriptor), table, dataset)
            for name in names
            if (table := dataset.get(f"{name}Data")) is not None
        ]
        colours = np.stack(channels, axis=-1)
    else:  # in segments, which pydicom expands, but counts in the entries' own type
        if bits == 8 and not 0 < entries <= 256:
            raise ValueError("its palette of 8 bits in segments has too many entries; expand it")
        last = first + (entries or 2**16) - 1
        colours = apply_color_lut(np.clip(values.astype("int32"), first, last), dataset)
    alpha = colours[..., 3] if colours.shape[-1] > 3 else None
    return DecodedImage(colours[..., :3], alpha, bits)


def _show_grey(values: np.ndarray, dataset: "Dataset") -> DecodedImage:
    """Return what a grey image looks like."""
    from pydicom.pixels import apply_modality_lut

    for groups in _FUNCTIONAL_GROUPS:
        for group in (dataset.get(groups) or [])[:1]:
            for macro in _GREYSCALE_MACROS:
                for item in (group.get(macro) or [])[:1]:
                    dataset.update(item)
    if dataset.get("PresentationLUTSequence"):
        raise ValueError("it has a presentation lookup table; save it without")
    inverse = (
        dataset.PhotometricInterpretation == "MONOCHROME1"
        or dataset.get("PresentationLUTShape") == "INVERSE"
    )
    # pydicom trusts JPEG-LS, which may be of more bits than are stored.
    unused = max(0, 8 * values.itemsize - dataset.BitsStored)
    values = values << unused >> unused
    slope, intercept = _first(dataset, "RescaleSlope"), _first(dataset, "RescaleIntercept")
    bits: int | None = dataset.BitsStored
    if dataset.PixelRepresentation:  # 16 bits of 16 are then those of a type, not of a device
        bits = dataset.BitsStored - 1 if dataset.BitsStored < dataset.BitsAllocated else None
    stored = values
    if tables := dataset.get("ModalityLUTSequence"):
        values = stored = _look_up(stored, tables[0].LUTDescriptor, tables[0].LUTData, dataset)
        slope, bits = None, tables[0].LUTDescriptor[2]
    elif slope is not None or intercept is not None:  # of which pydicom asks for both
        if slope is None:
            dataset.RescaleSlope = 1
        if intercept is None:
            dataset.RescaleIntercept = 0
        values = apply_modality_lut(stored, dataset)
    if tables := dataset.get("VOILUTSequence"):
        pixels = _look_up(values, tables[0].LUTDescriptor, tables[0].LUTData, dataset)
        bits = tables[0].LUTDescriptor[2]
    elif _first(dataset, "WindowCenter") is not None and _first(dataset, "WindowWidth"):
        pixels, bits = _apply_window(values, dataset), 8
    else:
        pixels = _without_padding(stored, dataset)
        inverse ^= slope is not None and slope < 0
    image = DecodedImage(pixels, bits=bits)
    return invert(image) if inverse else image


def _first(dataset: "Dataset", name: str) -> float | None:
    """Return a number of a dataset, the first of several; `None` where there is none."""
    value = dataset.get(name)
    return None if value is None or not np.size(value) else float(np.ravel(value)[0])


def _look_up(
    values: np.ndarray, descriptor: Sequence[int], data: bytes | Sequence[int], dataset: "Dataset"
) -> np.ndarray:
    """Apply a lookup table (PS3.3 C.11.1.1.1) to values.

    pydicom's functions count in the type of the values or of the entries, which may be too short,
    and know no entries of 10 to 15 bits of the modality.
    """
    entries, first, _ = descriptor
    entries = entries or 2**16
    if isinstance(data, bytes):
        order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        table = np.frombuffer(data, f"{order}u2" if len(data) >= 2 * entries else "u1")
    else:
        table = np.array(data, "uint16", ndmin=1)
    table = table[:entries].astype("uint16")
    if len(table) < entries:
        raise ValueError(f"its lookup table must have {entries} entries. Received: {len(table)}")
    if first >= 2**15 and values.min() < 0:
        first -= 2**16  # a negative one that was written without a sign
    return table[np.clip(np.rint(values).astype("int64") - first, 0, entries - 1)]


def _apply_window(values: np.ndarray, dataset: "Dataset") -> np.ndarray:
    """Apply the first window; `uint8`."""
    from pydicom import Dataset
    from pydicom.pixels import apply_windowing

    window = Dataset()  # whose output is of 8 bits
    window.PhotometricInterpretation = "MONOCHROME2"
    window.BitsStored, window.PixelRepresentation = 8, 0
    window.WindowCenter, window.WindowWidth = dataset.WindowCenter, dataset.WindowWidth
    window.VOILUTFunction = dataset.get("VOILUTFunction") or "LINEAR"
    with np.errstate(over="ignore"):  # far below a sigmoid, where it is 0
        return np.rint(apply_windowing(values, window)).astype("uint8")


def _without_padding(values: np.ndarray, dataset: "Dataset") -> np.ndarray:
    """Return signed values with those beyond the picture, which are no part of its range, least."""
    padding = dataset.get("PixelPaddingValue")
    if padding is None or values.min() >= 0:
        return values
    ends = (padding, dataset.get("PixelPaddingRangeLimit", padding))
    # One of 2^15 or more was written without a sign.
    low, high = sorted(end - 2**16 if end >= 2**15 else end for end in ends)
    is_padding = (values >= low) & (values <= high)
    return np.where(is_padding, values[~is_padding].min(initial=values.max()), values)
