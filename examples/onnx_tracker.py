"""Tracks a target with the files of ``mmdistill export``, without PyTorch: NumPy, OpenCV and onnxruntime.

Each line has its like in C++; docs/export.md lists inputs and constants. Images have 8 bits per channel.

python examples/onnx_tracker.py --files deployed --rgb clip/rgb --tir clip/tir --init 120,80,40,32 --out boxes.txt
"""

import argparse
import json
import math
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

JITTER_BLOCK = 64  # frames whose jitter is drawn at once, as `mmdistill track` does


def overlap(start, length, limit):
    """Return first and last pixel of a range in an image, and how many pixels lie before and after."""
    first = min(max(start, 0), limit - 1)
    last = max(min(start + length, limit), first + 1)
    return first, last, max(first - start, 0), max(start + length - last, 0)


def split(before, after, side, size):
    """Return the crop pixels before, inside and after the image."""
    first = min(round(before * size / side), size - 1)
    last = max(round((side - after) * size / side), first + 1)
    return first, last - first, size - last


def pad(image, top, bottom, left, right):
    return cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_REPLICATE)


def cut(image, left, top, side, size):
    """Return a square of the image, resized to a crop; pixels outside the image repeat its border."""
    first_row, last_row, above, below = overlap(top, side, image.shape[0])
    first_column, last_column, before, after = overlap(left, side, image.shape[1])
    part = image[first_row:last_row, first_column:last_column]
    if side <= 2 * size:
        padded = pad(part, above, below, before, after)
        return cv2.resize(padded[:side, :side], (size, size), interpolation=cv2.INTER_LINEAR)
    # Downscaling averages. Only a few border pixels are padded before it, and the rest after it.
    border = min(2 * math.ceil(side / size), part.shape[0], part.shape[1])
    top_pad, bottom_pad = min(border, above), min(border, below)
    left_pad, right_pad = min(border, before), min(border, after)
    padded = pad(part, top_pad, bottom_pad, left_pad, right_pad)
    rows = split(above - top_pad, below - bottom_pad, side, size)
    columns = split(before - left_pad, after - right_pad, side, size)
    resized = cv2.resize(padded, (columns[1], rows[1]), interpolation=cv2.INTER_AREA)
    return pad(resized, rows[0], rows[2], columns[0], columns[2])


def warp(patch, transform, x, y, corner, size):
    """Return a crop of a patch that is blurred, and rotated and mirrored about a center, in pixel indices."""
    sigma_x, sigma_y = size * transform["blur"][0], size * transform["blur"][1]
    if sigma_x > 0 or sigma_y > 0:
        patch = cv2.GaussianBlur(patch, (0, 0), sigmaX=sigma_x, sigmaY=sigma_y)
    matrix = cv2.getRotationMatrix2D((x, y), transform["angle"], 1.0)
    if transform["flip"]:
        matrix[:, 2] += 2 * x * matrix[:, 0]
        matrix[:, 0] *= -1
    matrix[:, 2] -= corner
    return cv2.warpAffine(patch, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


class OnnxTracker:
    def __init__(self, folder, seed=0):
        self.sessions = {}
        for name in ("start", "track", "learn"):
            self.sessions[name] = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"))
        constants = self.sessions["track"].get_modelmeta().custom_metadata_map
        self.network, self.tracking = json.loads(constants["network"]), json.loads(constants["tracking"])
        self.size = self.network["crop_size"]
        self.shift = 8 if self.size // 16 % 2 == 1 else 0  # crop pixels, see docs/export.md
        self.generator, self.frames = np.random.default_rng(seed), 0

    def area(self, factor):
        """Return the search area's first column and row, and its side, in image pixels."""
        side = max(round(self.size * factor * self.scale), 2)
        center_x = self.box[0] + self.box[2] / 2 + self.shift * self.scale
        center_y = self.box[1] + self.box[3] / 2 + self.shift * self.scale
        return round(center_x - side / 2), round(center_y - side / 2), side

    def start(self, images, box):
        """Learn the target from its box in the first frame, x y w h in image pixels."""
        first, size = self.tracking["first_frame"], self.size
        self.box, self.frames = box, 1
        self.scale = self.network["search_area"] * math.sqrt(box[2] * box[3]) / size
        self.base_width, self.base_height = box[2] / self.scale, box[3] / self.scale
        self.low = min(self.tracking["minimum_side"] / min(self.base_width, self.base_height), self.scale)
        height, width = images[0].shape[0], images[0].shape[1]
        self.high = max(min(width / self.base_width, height / self.base_height), self.scale)
        factor = first["patch_factor"]
        left, top, side = self.area(factor)
        scale = side / (size * factor)  # image pixels per patch pixel
        x, y, w, h = (box[0] - left) / scale, (box[1] - top) / scale, box[2] / scale, box[3] / scale
        patches = []
        for image in images:
            patches.append(cut(image, left, top, side, size * factor))
        identity = {"angle": 0, "flip": False, "blur": [0, 0], "shift": [0, 0], "random_shift": 0}
        transforms = [identity, *first["transforms"]]
        count = len(transforms) + first["dropouts"]
        pixels = np.zeros((len(transforms), len(images), size, size, 3), np.uint8)
        boxes = np.zeros((count, 4), np.float32)
        for i in range(len(transforms)):
            limit = transforms[i]["random_shift"]
            shift = self.generator.uniform(-limit, limit, 2) + transforms[i]["shift"]
            corner = np.rint(size * (factor - 1) / 2 - size * shift)  # whole pixels
            for j in range(len(images)):  # pixel i covers i to i + 1
                pixels[i, j] = warp(patches[j], transforms[i], x + w / 2 - 0.5, y + h / 2 - 0.5, corner, size)
            boxes[i] = [x - corner[0], y - corner[1], w, h]
        boxes[len(transforms) :] = boxes[0]
        kept = self.generator.random(self.sessions["start"].get_inputs()[2].shape) >= first["dropout"]
        inputs = {"pixels": pixels, "boxes": boxes, "kept": kept.astype(np.float32)}
        self.filters, samples, self.modulation3, self.modulation4 = self.sessions["start"].run(None, inputs)
        memory = self.tracking["learning"]["memory"]
        self.samples = np.zeros((memory, 1, *samples.shape[1:]), np.float32)
        self.boxes = np.zeros((memory, 1, 4), np.float32)
        self.weights = np.zeros((memory, 1), np.float32)
        self.samples[:count, 0] = samples
        self.boxes[:count, 0] = boxes
        self.weights[:count] = 1 / count
        self.count, self.newest = np.array([count], np.int32), np.array([-1], np.int32)

    def track(self, images):
        """Return the target's box in the next frame, x y w h in image pixels, and its score."""
        refinement, learning = self.tracking["refinement"], self.tracking["learning"]
        height, width = images[0].shape[0], images[0].shape[1]
        if (self.frames - 1) % JITTER_BLOCK == 0:
            limits = np.repeat([refinement["center_jitter"], refinement["size_jitter"]], 2)
            self.jitter = self.generator.uniform(-limits, limits, (JITTER_BLOCK, refinement["random_boxes"], 4))
        left, top, side = self.area(1)
        pixels = np.zeros((1, len(images), self.size, self.size, 3), np.uint8)
        for j in range(len(images)):
            pixels[0, j] = cut(images[j], left, top, side, self.size)
        numbers = np.zeros((1, 23 + 4 * refinement["random_boxes"]), np.float32)
        numbers[0, 0] = 1  # active
        numbers[0, 1] = learning["iterations"] if self.frames % learning["interval"] == 0 else 0
        numbers[0, 2:4] = [left, top]
        numbers[0, 6] = side / self.size
        numbers[0, 9:13] = [width, height, width, height]
        numbers[0, 15:19] = self.box
        numbers[0, 23:] = self.jitter[(self.frames - 1) % JITTER_BLOCK].reshape(-1)
        self.frames += 1
        inputs = {"pixels": pixels, "numbers": numbers, "filters": self.filters, "weights": self.weights}
        inputs.update({"modulation3": self.modulation3, "modulation4": self.modulation4})
        inputs.update({"count": self.count, "newest": self.newest})
        outputs = self.sessions["track"].run(None, inputs)
        rows, _, sample, box, row, self.weights, self.count, self.newest = outputs
        x, y, w, h, score, flag, iterations = rows[0].tolist()
        if flag != 3:  # not "not_found"
            self.box = [x, y, w, h]
            self.scale = min(max(math.sqrt(w * h / (self.base_width * self.base_height)), self.low), self.high)
        if row[0] < len(self.samples):
            self.samples[row[0], 0] = sample[0]
            self.boxes[row[0], 0] = box[0]
        if iterations > 0:
            inputs = {"filters": self.filters, "samples": self.samples, "boxes": self.boxes, "weights": self.weights}
            inputs["iterations"] = np.array([iterations], np.int32)
            self.filters = self.sessions["learn"].run(None, inputs)[0]
        x, y, w, h = self.box
        x1, y1, x2, y2 = np.clip([x, y, x + w, y + h], 0, [width, height, width, height]).tolist()
        return [x1, y1, x2 - x1, y2 - y1], score


def read_images(path):
    """Yield the images of a folder, by name, or of a video; RGB order."""
    if path.is_dir():
        for file in sorted(path.iterdir()):
            yield cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
    else:
        video = cv2.VideoCapture(str(path))
        while video.grab():
            yield cv2.cvtColor(video.retrieve()[1], cv2.COLOR_BGR2RGB)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=Path, required=True, help="folder of start.onnx, track.onnx and learn.onnx")
    parser.add_argument("--rgb", type=Path, help="video, or folder of images")
    parser.add_argument("--tir", type=Path, help="the same for TIR; paired with --rgb by order")
    parser.add_argument("--init", required=True, help="target in the first frame: x,y,w,h in pixels")
    parser.add_argument("--out", type=Path, required=True, help="file of boxes, x,y,w,h in pixels, a line per frame")
    parser.add_argument("--seed", type=int, default=0, help="seed of augmentation and jitter; default 0")
    options = parser.parse_args()
    tracker = OnnxTracker(options.files, options.seed)
    sources = {"rgb": [options.rgb], "tir": [options.tir], "rgbt": [options.rgb, options.tir]}
    box = np.array(options.init.split(","), float).tolist()
    with options.out.open("w") as file:
        for images in zip(*map(read_images, sources[tracker.network["modality"]]), strict=False):
            if tracker.frames == 0:
                tracker.start(images, box)
            else:
                box = tracker.track(images)[0]
            file.write(f"{box[0]:.3f},{box[1]:.3f},{box[2]:.3f},{box[3]:.3f}\n")
