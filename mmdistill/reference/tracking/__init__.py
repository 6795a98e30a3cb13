"""Online tracking: from frames and an initial box to boxes, for one video or several at once."""
