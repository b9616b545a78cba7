"""Pages, plots and model cards, made from plain data: no module here opens a run directory."""
