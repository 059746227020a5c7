"""CLEVR, CLEVR-CoGenT and CLEVR-Humans: questions about rendered scenes."""
