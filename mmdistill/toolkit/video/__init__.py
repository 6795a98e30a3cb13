"""Reads and writes videos of RGB, TIR or both: image folders, video files, TIFF stacks, cameras and streams.

Example::

    from mmdistill.toolkit.video import open_frames

    for reading in open_frames("walk/rgb", "walk/tir.mp4"):
        rgb, tir = reading.images  # (H, W, 3) uint8, RGB, of one size; None if missing
"""

from mmdistill.toolkit.video.camera import Camera
from mmdistill.toolkit.video.frames import CameraFrames, Frames, LengthMismatch, open_frames, open_input
from mmdistill.toolkit.video.image_sequences import ImageFolder
from mmdistill.toolkit.video.network_stream import NetworkStream, without_password
from mmdistill.toolkit.video.pairing import PairBy, pair_files
from mmdistill.toolkit.video.reading import OnBroken, Reading, State, TirResizer, drop_uncovered
from mmdistill.toolkit.video.video_file import VideoFile
from mmdistill.toolkit.video.video_writer import VideoWriter

__all__ = [
    "Camera",
    "CameraFrames",
    "Frames",
    "ImageFolder",
    "LengthMismatch",
    "NetworkStream",
    "OnBroken",
    "PairBy",
    "Reading",
    "State",
    "TirResizer",
    "VideoFile",
    "VideoWriter",
    "drop_uncovered",
    "open_frames",
    "open_input",
    "pair_files",
    "without_password",
]
