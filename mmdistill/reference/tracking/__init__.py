"""Online tracking: from frames and a first box to boxes, for one video or for many at once."""
