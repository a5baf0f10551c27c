"""The lgms-* commands, a file each."""
