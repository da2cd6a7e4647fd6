"""The one place that states the version (SemVer)."""

VERSION = "0.1.0"
