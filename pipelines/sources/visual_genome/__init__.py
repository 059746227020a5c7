"""Visual Genome region graphs."""
