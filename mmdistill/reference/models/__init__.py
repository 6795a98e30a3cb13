"""The reference networks: trunk, precise RoI pooling, target filter, IoU-Net, fusion; then the whole of a tracker."""
