"""TN-SCUI 2020."""
