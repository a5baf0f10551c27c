"""Drawing: outlines, volumes and diagrams, for figures, reports and predictions."""
