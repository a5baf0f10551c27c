"""Reports: a run's outcome as one HTML page with everything inside."""
