"""Drawing: what pictures, figures and reports share."""
