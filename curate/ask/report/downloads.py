"""What became of each URL, by outcome and host: counted in SQL, by the last attempt at each.

downloads(session)      # None where nothing was fetched
"""

from __future__ import annotations

from collections import Counter

from curate.ask.report.diagnosis import Kind, diagnosis
from curate.ask.report.found import Downloads, HostRow
from curate.ask.sql import Session
from curate.pool.lists import RETRY

HOSTS = 25  # with the most failures

LONGEST = 253  # characters of a host's name in DNS

KIND = """CASE WHEN outcome <> 'http_4xx' THEN outcome WHEN status IN (404, 410) THEN 'gone'
    WHEN status IN (401, 402, 403, 405, 406, 451) THEN 'forbidden' ELSE outcome END"""


def downloads(session: Session) -> Downloads | None:
    """The outcomes of all URLs and local files; hosts are those of URLs."""
    import duckdb

    table = session.ask(_counted(session)).to_arrow()
    if not table.num_rows:
        return None
    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        connection.register("counted", table)
        outcomes: Counter[str] = Counter()
        for outcome, n in connection.execute("SELECT outcome, sum(n)::BIGINT FROM counted GROUP BY 1").fetchall():
            outcomes[outcome] = n
        rows = connection.execute(HOST_ROWS).fetchall()
        (in_all,) = connection.execute("SELECT count(DISTINCT host) FROM counted WHERE host <> ''").fetchone() or (0,)
        urls, ok = connection.execute(f"SELECT {SUMS} FROM counted").fetchone() or (0, 0)
        kinds = [Kind(*row) for row in connection.execute(KINDS).fetchall()]
    hosts = tuple(
        HostRow(host, n, came, (worst or {}).get("outcome", ""), (worst or {}).get("n", 0))
        for host, n, came, worst in rows
    )
    ordered = tuple(sorted(outcomes.items(), key=lambda kv: (-kv[1], kv[0])))
    top = hosts[0] if hosts and hosts[0].ok < hosts[0].urls else None
    return Downloads(ordered, hosts, in_all, diagnosis(urls, ok, in_all, kinds, top))


SUMS = "sum(n)::BIGINT, coalesce(sum(n) FILTER (outcome = 'ok'), 0)::BIGINT"

HOST_ROWS = f"""
WITH by_outcome AS (SELECT host, outcome, sum(n)::BIGINT AS n FROM counted WHERE host <> '' GROUP BY ALL)
SELECT host, {SUMS}, max({{'n': n, 'outcome': outcome}}) FILTER (outcome <> 'ok') FROM by_outcome
GROUP BY host ORDER BY sum(n) FILTER (outcome <> 'ok') DESC NULLS LAST, host LIMIT {HOSTS}"""

KINDS = f"""
WITH by_kind AS (SELECT host, {KIND} AS kind, sum(n)::BIGINT AS n FROM counted GROUP BY ALL),
whole AS (
    SELECT host, sum(n)::BIGINT AS urls, coalesce(sum(n) FILTER (kind = 'ok'), 0)::BIGINT AS ok
    FROM by_kind GROUP BY host
)
SELECT kind, sum(n)::BIGINT AS n, count(*) FILTER (host <> ''), count(*) FILTER (host <> '' AND ok > 0),
    max({{'n': by_kind.n, 'host': host, 'urls': urls}}) FILTER (host <> '')
FROM by_kind JOIN whole USING (host) WHERE kind <> 'ok' GROUP BY kind ORDER BY n DESC, kind"""
"""By kind: URLs; hosts; hosts of which other URLs came; the host with the most."""


def _counted(session: Session) -> str:
    """SELECT of (host, outcome, status, n), each URL counted once, by its last attempt.

    Most uids lie in one shard, and most shards have one log: only what a retry took, and shards with several logs, are
    grouped by uid.
    """
    logs = session.views.logs
    claims = session.views.pool.claims()
    retried = [s for c in claims if c.get("kind") == RETRY for s in range(c["first"], c["first"] + c["shards"])]
    again = sorted({s for s, numbers in logs.items() if len(numbers) > 1} | (logs.keys() & set(retried)))
    last = "SELECT host, outcome, status FROM fetches"
    if again:
        several = f"shard IN ({', '.join(map(str, again))})"
        if logs.keys() & set(retried):
            several = f"uid IN (SELECT uid FROM fetches WHERE {several})"
        what = "{'host': host, 'outcome': outcome, 'status': status}"
        order = "{'shard': shard, 'attempt': attempt}"
        grouped = f"SELECT arg_max({what}, {order}) AS f FROM fetches WHERE {several} GROUP BY uid"
        last = f"{last} WHERE NOT ({several}) UNION ALL SELECT f.host, f.outcome, f.status FROM ({grouped})"
    host = f"left(coalesce(host, ''), {LONGEST}) AS host"
    return f"SELECT {host}, coalesce(outcome, 'unknown') AS outcome, status, count(*) AS n FROM ({last}) GROUP BY ALL"
