"""What is measured side by side with others, by one command each."""

import main  # noqa: F401  makes the checkout the package attention_zoo
