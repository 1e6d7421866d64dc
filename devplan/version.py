"""devplan's own version, importable without torch."""

VERSION = "0.1.0"
