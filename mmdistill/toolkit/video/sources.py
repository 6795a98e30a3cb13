"""Opens the source of one modality by its name: a recording, a camera or a stream.

| Name | Source | Frames |
|---|---|---|
| a folder | ``ImageFolder`` | its images, in natural order |
| a TIFF file | ``TiffStack`` | its pages |
| another file | ``VideoFile`` | its frames |
| a web address with a stated duration | ``VideoFile`` | its frames |
| a number | ``Camera`` | the newest one |
| another address | ``NetworkStream`` | the newest one |
"""

from __future__ import annotations

from pathlib import Path

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.image_files import list_images
from mmdistill.toolkit.video.camera import Camera
from mmdistill.toolkit.video.image_sequences import ImageFolder, TiffStack, is_tiff
from mmdistill.toolkit.video.live import LiveSource
from mmdistill.toolkit.video.network_stream import NetworkStream, is_address, is_recording, without_password
from mmdistill.toolkit.video.reading import FrameSource, InputWarnings
from mmdistill.toolkit.video.video_file import VideoFile, WebVideo


def is_live(name: str) -> bool:
    """Return whether a name is that of a camera or a stream; a web address is opened to see.

    Raises:
        DataError: addresses of this kind can't be read, or a web address can't be opened.
    """
    return name.isdecimal() or (is_address(name) and not is_recording(name))


def open_live(name: str) -> LiveSource:
    """Open a camera by its number, or a stream by its address.

    Raises:
        DataError: it can't be opened.
    """
    return Camera(int(name)) if name.isdecimal() else NetworkStream(name)


def open_recording(name: str | Path | None, warnings: InputWarnings) -> FrameSource | None:
    """Open a folder of images, a video file, a TIFF file of several pages, or a recording on a web server.

    Args:
        name: the recording; None gives None.
        warnings: receives warnings about the order of images.

    Raises:
        DataError: it can't be opened, or is a single image.
    """
    if name is None:
        return None
    if isinstance(name, str) and is_address(name):
        if not is_recording(name):
            raise DataError(f"{without_password(name)}: expected a recording, got a live stream; see `open_input`")
        return WebVideo(name)
    path = Path(name)
    if path.is_dir():
        return ImageFolder(path, list_images(path, warnings))
    return TiffStack(path) if is_tiff(path) else VideoFile(path)
