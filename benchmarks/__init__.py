"""Speed and memory, compared with other implementations; each module is a command."""

import main  # noqa: F401  makes the checkout the package attention_zoo
