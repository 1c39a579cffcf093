"""Does nearness to a target say what training on an example does? Ordinary runs answer."""
