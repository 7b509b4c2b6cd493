"""Commands for lists of entries: `curate metadata build | merge`, for the stage and filters of MetaCLIP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate.cli_parts import QuietOption, interruptible

app = typer.Typer(
    name="metadata",
    help="Make the lists of entries that MetaCLIP's filters match texts with.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

OutOption = Annotated[Path, typer.Option(help="The list: a JSON array of strings.")]
Files = list[str]


@app.command()
def build(
    out: OutOption,
    wikipedia: Annotated[
        Files | None, typer.Option(help="Plain text of articles, packed or not, or a folder of it; may be repeated.")
    ] = None,
    titles: Annotated[
        Files | None, typer.Option(help="Hours of Wikimedia's page views, or a folder of them; may be repeated.")
    ] = None,
    wordnet: Annotated[
        str | None, typer.Option(help="WordNet's folder `dict`; for other languages than English a wn-data-<code>.tab.")
    ] = None,
    language: Annotated[str, typer.Option(help="Wikipedia's code. en: the rules of MetaCLIP 1; else of 2.")] = "en",
    tokenizer: Annotated[
        str | None, typer.Option(help="package.module:function, a str to its words, where spaces do not part them.")
    ] = None,
    min_count: Annotated[int, typer.Option(min=1, help="English: of a word.")] = 100,
    min_pmi: Annotated[float, typer.Option(help="Mutual information of a pair of words, in bits.")] = 30.0,
    min_views: Annotated[int, typer.Option(min=1, help="English: of a title, over all hours.")] = 70,
    min_hour_views: Annotated[int, typer.Option(min=1, help="English: in an hour, or it does not count.")] = 50,
    entries: Annotated[int, typer.Option(min=1, help="English: at most.")] = 500_000,
    most_words: Annotated[int, typer.Option(min=0, help="The most words; as many as MetaCLIP 1 had.")] = 251_465,
    most_pairs: Annotated[int, typer.Option(min=0, help="The most pairs of words; likewise.")] = 100_646,
    most_titles: Annotated[int, typer.Option(min=0, help="The most titles; likewise.")] = 61_235,
    memory: Annotated[str, typer.Option(help="For adding up; what is more goes to disk, beside the list.")] = "4GB",
    quiet: QuietOption = False,
) -> None:
    """Make a list from Wikipedia's text and page views and from WordNet. Run again, it goes on where it was."""
    from curate.errors import UserError
    from curate.metadata.build import Rules, Sources
    from curate.metadata.build import build as build_list

    rules = Rules(
        language,
        min_count,
        min_views,
        min_hour_views,
        entries,
        most_words=most_words,
        most_pairs=most_pairs,
        most_titles=most_titles,
        min_pmi=min_pmi,
        tokenizer=tokenizer,
        memory=memory,
    )
    sources = Sources(wikipedia or [], titles or [], wordnet)
    with interruptible():
        try:
            found = build_list(sources, rules, out, (lambda _: None) if quiet else typer.echo)
        except ValueError as e:
            raise UserError(str(e)) from e
    typer.echo(f"{out}: {len(found)} entries")


@app.command()
def merge(
    lists: Annotated[list[Path], typer.Argument(help="Lists; an entry stands where it first came.")],
    out: OutOption,
) -> None:
    """Make one list of several: of variants of a language, or of all languages that have no label of their own."""
    from curate.errors import UserError
    from curate.metadata.build import merge as merged
    from curate.metadata.build import write
    from stages.entry_matcher import read_entries

    missing = [str(path) for path in lists if not path.is_file()]
    if missing:
        raise UserError(f"no list at {', '.join(missing)}")
    try:
        found = merged(read_entries(str(path)) for path in lists)
    except ValueError as e:
        raise UserError(str(e)) from e
    write(found, out)
    typer.echo(f"{out}: {len(found)} entries")
