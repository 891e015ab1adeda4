"""Every way of decorating crossed with every kind of callable and every way of ending a call."""
