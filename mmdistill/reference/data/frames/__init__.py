"""Frames of one's own video, whatever it comes from: folders of images, video files, cameras; both modalities."""

from mmdistill.reference.data.frames.camera import Camera
from mmdistill.reference.data.frames.image_folder import ImageFolder
from mmdistill.reference.data.frames.live import LiveFrames
from mmdistill.reference.data.frames.opening import open_frames, open_input
from mmdistill.reference.data.frames.reading import OnBroken, Reading, State
from mmdistill.reference.data.frames.recorded import Frames
from mmdistill.reference.data.frames.times import PairBy
from mmdistill.reference.data.frames.video_file import VideoFile

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
