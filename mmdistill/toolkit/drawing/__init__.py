"""Draws boxes, response maps and text on frame pairs.

Example::

    from mmdistill.toolkit.drawing import draw_frame_pair
    from mmdistill.toolkit.video import VideoWriter, open_frames

    with VideoWriter("walk.mp4", fps=25) as video:
        for reading in open_frames("walk/rgb", "walk/tir"):
            video.write(draw_frame_pair(reading.images, {"student": (20, 30, 40, 50)}))  # x y w h, pixels
"""

from mmdistill.toolkit.drawing.frame_pairs import Panel, choose_panels, draw_frame_pair
from mmdistill.toolkit.drawing.primitives import WHITE, Color, ResponseMap, draw_box, draw_response

__all__ = [
    "WHITE",
    "Color",
    "Panel",
    "ResponseMap",
    "choose_panels",
    "draw_box",
    "draw_frame_pair",
    "draw_response",
]
