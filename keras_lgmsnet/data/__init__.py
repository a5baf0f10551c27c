"""Reading, splitting and augmenting images and volumes."""
