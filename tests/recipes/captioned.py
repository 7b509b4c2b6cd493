"""Built-in recipes that look at texts which models wrote: test_caption_recipes.py has their oracles."""

NAMES = frozenset(
    {
        "altogether",
        "blip_capfilt",
        "capsfusion",
        "clips",
        "datacompdr",
        "dreamlip",
        "laclip",
        "laion_coco",
        "nguyen_mix",
        "recap_datacomp_1b",
        "sieve",
        "veclip",
    }
)
