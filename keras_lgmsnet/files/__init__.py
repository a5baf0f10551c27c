"""Files: images and scans, read rightly or refused, and written whole.

A file format is a module here, such as `images` (PNG, JPEG and so on, and DICOM of one image) or
`nifti`: a scan of any format is read as a `Volume`, so a reader of another one goes beside `nifti`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
