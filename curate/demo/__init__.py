"""The embedded demo: a small web of drawn scenes with planted faults, and what the main job makes of it."""
