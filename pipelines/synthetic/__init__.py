"""A made-up world: rendered images and, about them, raw annotation files as published."""
