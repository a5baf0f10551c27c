"""Files: images and scans, read rightly or refused, and written whole.

`images` reads pictures (PNG, JPEG and so on; `tiff`, `png` and `dicom` what Pillow does not hold,
`pixels` says how it becomes 8 bits), `masks` their masks, `nifti` scans and their label maps. A
reader of scans in another format goes beside `nifti` and returns a `Volume`; then
`inference.inputs`, `inference.volumes` and the builders' base must choose it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
