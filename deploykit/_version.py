"""The version of deploykit, which the package, its files and its distribution state."""

__version__ = "0.1.0"
