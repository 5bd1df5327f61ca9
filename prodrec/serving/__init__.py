"""The HTTP application and its web page, without Ray: what answers behind it is a `Backend`."""
