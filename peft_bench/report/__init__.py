"""Leaderboard rows as CSV, Markdown, a terminal table and a web page.

Everything shown may be hostile: model names come from the hub and marks from files. Each writer
neutralises what its own format could take for more than text.
"""
