"""The page: what it shows as plain data (`content`), as a folder (`build`), as a server on loopback (`serve`).

`shelf` reads the records, `grouping` says what can be compared, `pages` has one run, method or dataset each,
`live` what is running, `guard` who may ask. The page itself is in `assets`, built from `web/`.
"""
