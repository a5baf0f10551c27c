"""Reading, splitting and augmenting images."""
