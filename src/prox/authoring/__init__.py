"""Tools for authors of plugins: compiling, checking, calling, starting from a template. The command line shows them."""
