"""A folder in the layout of the Medical Segmentation Decathlon or nnU-Net."""
