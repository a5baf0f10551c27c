"""ISIC 2018 task 1."""
