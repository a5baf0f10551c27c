"""A folder of images and masks."""
