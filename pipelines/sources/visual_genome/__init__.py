"""Visual Genome: region descriptions with boxes."""
