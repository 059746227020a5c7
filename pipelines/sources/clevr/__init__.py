"""CLEVR and CLEVR-CoGenT."""
