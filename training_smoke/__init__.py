"""The judge: trains small models on packs. Built by a later issue; reads packs, writes checkpoints."""
