"""Lists of entries for MetaCLIP and for CLIP's query balancing, from dumps of Wikipedia and from WordNet."""
