"""A made-up world: rendered pictures and, about them, raw annotation files as published."""
