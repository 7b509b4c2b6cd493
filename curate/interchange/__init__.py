"""Other tools' layouts, in and out."""
