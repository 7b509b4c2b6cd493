"""Their side of a download benchmark, in the environment of img2dataset: `python download_theirs.py JOB.json`.

JOB.json holds the keywords of `img2dataset.download`. Nothing of ours is imported.
"""

import json
import sys

from img2dataset import download

if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        download(**json.load(file))
