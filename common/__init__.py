"""What every room may use: errors, files, pictures, tables. It imports no other room."""
