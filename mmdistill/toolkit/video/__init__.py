"""Frames of one's own video, whatever it comes from: folders of images, video files, cameras; both modalities."""

from mmdistill.toolkit.video.cameras import Camera
from mmdistill.toolkit.video.frames import Frames, LiveFrames
from mmdistill.toolkit.video.image_sequences import ImageFolder
from mmdistill.toolkit.video.opening import open_frames, open_input
from mmdistill.toolkit.video.pairing import PairBy
from mmdistill.toolkit.video.reading import OnBroken, Reading, State
from mmdistill.toolkit.video.video_file import VideoFile

__all__ = [
    "Camera",
    "Frames",
    "ImageFolder",
    "LiveFrames",
    "OnBroken",
    "PairBy",
    "Reading",
    "State",
    "VideoFile",
    "open_frames",
    "open_input",
]
