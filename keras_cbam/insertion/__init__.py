"""Where attention goes in a Functional graph, and a copy of the graph with it in."""
