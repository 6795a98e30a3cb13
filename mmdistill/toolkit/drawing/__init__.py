"""Pictures of tracking: frames with boxes and responses, a legend below, and video made of them."""
