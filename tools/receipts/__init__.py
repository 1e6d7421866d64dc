"""Predictions beside the memory that others measured on GPUs: ``make receipts``."""
