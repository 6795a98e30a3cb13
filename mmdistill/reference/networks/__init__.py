"""The reference networks: trunk, precise RoI pooling, target filter, IoU-Net, fusion; then the RGB-T tracker's."""
