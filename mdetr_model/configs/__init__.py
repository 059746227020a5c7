"""The shipped training configurations."""
