"""Croissant 1.0 of a pack (mlcommons.org/croissant): JSON-LD that tools read, from the manifest alone.

Files lie beside `croissant.json`. The record set joins the index (`samples/*.parquet`) with the images in the tars by
the name of the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curate.run.pack.card import human

WORDS = """citeAs column equivalentProperty extract field fileProperty fileObject fileSet format includes isLiveDataset
jsonPath key md5 parentField path recordSet references regex repeated replace separator source subField transform"""
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    **{word: f"cr:{word}" for word in WORDS.split()},
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
}
TEXT, URL, INTEGER, IMAGE = "sc:Text", "sc:URL", "sc:Integer", "sc:ImageObject"
COLUMNS = {  # of the index: name -> (type, what it is)
    "uid": (TEXT, "identifier of the sample, 32 hex digits"),
    "key": (TEXT, "name of the copy within its file"),
    "text": (TEXT, "the likeliest text"),
    "url": (URL, "where the image was found"),
    "list": (TEXT, "the list that named it"),
    "recipe": (TEXT, "the recipe that kept it"),
    "kept": (TEXT, "the filters that it passed"),
    "width": (INTEGER, "pixels, as stored"),
    "height": (INTEGER, "pixels, as stored"),
    "original_width": (INTEGER, "pixels, as received"),
    "original_height": (INTEGER, "pixels, as received"),
    "sha256": (TEXT, "of the bytes received"),
}


def croissant(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """croissant.json of a pack. What nobody said (creator, date, citation) is not made up."""
    name, counts = manifest["recipe"]["name"], manifest["counts"]
    tars = manifest["pack"]["format"] == "webdataset"
    licences = [n for n in manifest["census"].get("licence", {}) if n]
    found: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": name,
        "description": f"{counts['samples']:,} image-text pairs, {human(counts['bytes'])}, kept by recipe {name} "
        f"of a pool of {counts['rows']:,} samples; see README.md.",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "version": f"1.0.0+{manifest['pick'].rpartition('@')[2]}",
        "isLiveDataset": False,
    }
    if len(licences) == 1:
        found["license"] = licences[0]
    files = [_file(n, said, tars) for n, said in manifest["files"].items()]
    found["distribution"] = [*files, *_sets(files, tars)]
    fields = [_column(n, kind, about) for n, (kind, about) in COLUMNS.items()]
    found["recordSet"] = [
        {
            "@type": "cr:RecordSet",
            "@id": "samples",
            "name": "samples",
            "description": "one record a copy of a sample",
            "field": [*(_images() if tars else []), *fields],
        }
    ]
    return found


def _file(name: str, said: Mapping[str, Any], tar: bool) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{said['bytes']} B",
        "encodingFormat": "application/x-tar" if tar else "application/x-parquet",
        "sha256": said["sha256"],
    }


def _sets(files: list[dict[str, Any]], tars: bool) -> list[dict[str, Any]]:
    index = {
        "@type": "cr:FileSet",
        "@id": "index",
        "name": "index",
        "description": "what is known of each sample, without the images",
        "encodingFormat": "application/x-parquet",
        "includes": "samples/*.parquet",
    }
    if not tars:
        return [index]
    images = {
        "@type": "cr:FileSet",
        "@id": "images",
        "name": "images",
        "containedIn": [{"@id": f["@id"]} for f in files],
        "encodingFormat": "image/jpeg",
        "includes": ["*.jpg", "*.png", "*.webp"],
    }
    return [index, images]


def _images() -> list[dict[str, Any]]:
    """The image, and its name, by which it is joined with its row of the index."""
    return [
        {
            "@type": "cr:Field",
            "@id": "samples/image_name",
            "name": "image_name",
            "description": "name of the image in its tar",
            "dataType": TEXT,
            "source": {"fileSet": {"@id": "images"}, "extract": {"fileProperty": "filename"}},
            "references": {"fileSet": {"@id": "index"}, "extract": {"column": "image"}},
        },
        {
            "@type": "cr:Field",
            "@id": "samples/image",
            "name": "image",
            "description": "the image, as stored",
            "dataType": IMAGE,
            "source": {"fileSet": {"@id": "images"}, "extract": {"fileProperty": "content"}},
        },
    ]


def _column(name: str, kind: str, about: str) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"samples/{name}",
        "name": name,
        "description": about,
        "dataType": kind,
        "source": {"fileSet": {"@id": "index"}, "extract": {"column": name}},
    }
