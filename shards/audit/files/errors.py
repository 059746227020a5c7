"""The error of a file that cannot be audited."""


class AuditError(ValueError):
    """A file cannot be audited; the message names it, and what was found."""
