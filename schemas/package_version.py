"""The version of this package, as stated in pyproject.toml."""

from importlib import metadata


def package_version() -> str:
    """Returns the version of the installed distribution, as "0.1.0"."""
    return metadata.version("grounded-text")
