"""Tables in Markdown."""


def markdown(rows):
    """Rows of text cells, the first of them the head -> a Markdown table, a line per row."""
    head, *rest = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
    rule = "|---" * len(rows[0]) + "|"
    return "\n".join([f"| {head} |", rule, *(f"| {line} |" for line in rest)]) + "\n"
