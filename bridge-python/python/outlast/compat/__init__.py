"""Other packages' programs on the Outlast core."""
