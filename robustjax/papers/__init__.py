"""The five papers as data: each table and figure, how it is made, and what was published.

`item` says what a table is, each paper has a file, or a folder with several; from there come the
plan of runs, the table of what was measured beside what was published, figures and pages.
`experiments` are no training runs.
"""
