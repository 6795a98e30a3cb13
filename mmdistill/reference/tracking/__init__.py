"""Trackers at work on video: state, frames in, boxes out, and pictures of them."""
