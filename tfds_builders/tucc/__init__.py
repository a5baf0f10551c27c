"""TUCC."""
