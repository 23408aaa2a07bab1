"""Published and own measurements replayed: `tables.load_rows` reads them, `replay.replay` predicts them."""
