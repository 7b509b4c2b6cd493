"""Who may ask a host, when, and for what: manners that hold over all workers.

`gate` is the state machine that owns some hosts, `doorman` the worker's side, `actors` puts gates on Ray; `robots`,
`tdm`, `headers` and `lists` read what owners and users forbid.
"""
