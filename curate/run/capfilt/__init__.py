"""CapFilt: a captioner and a filter from one BLIP, and the pairs that both of them make of a web pool."""
