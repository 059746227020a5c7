"""The build as an Apache Beam pipeline."""
