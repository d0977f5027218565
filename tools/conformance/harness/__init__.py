"""What the tests share: starting servers, waiting, raw sockets, small upstreams."""
