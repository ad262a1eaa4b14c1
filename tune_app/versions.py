"""Versions of what is installed."""

from importlib.metadata import PackageNotFoundError, version


def installed_version(package: str) -> str:
    """ "none" where it is not installed, or its files are there and nothing says which ones."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
