"""Lines of execution: a `Line` has the tabs of one, and a `Tab` what one window has run up there.

The process is a line, and so is a task of an event loop, or work that was handed to a thread. What
happens on one is not in the tabs of another, but for those that it works for. These are the lines
of what Python reads: those of the compiled part are its own.
"""

from __future__ import annotations

__all__ = ["Line", "Tab"]


class Tab:
    """What one window has run up on one account."""

    __slots__ = (
        "base_bytes",
        "charged",
        "failed",
        "line",
        "net_bytes",
        "number",
        "open",
        "peak_bytes",
        "thread",
        "top_bytes",
    )

    def __init__(self) -> None:
        #: The account's level at which this tab stands at zero.
        self.base_bytes = 0
        #: The account's highest level since this tab, and none newer, was open.
        self.top_bytes = 0
        #: What was run up until the last release, and the highest that it ever stood.
        self.net_bytes = 0
        self.peak_bytes = 0
        self.open = False
        #: Whether it was ever open.
        self.charged = False
        #: Whether the probe could not be read at one of its ends: then the rest means nothing.
        self.failed = False
        #: On which it is open, and how many were opened there when it was.
        self.line: Line | None = None
        self.number = 0
        #: That opened it.
        self.thread = 0


class Line:
    """A line of execution: its tabs, and the level at which it was left.

    One that was begun on behalf of another, its client, is charged to that as well: to the tabs
    that were open there by then, for as long as each is.

    Args:
        client: For whom it works; None for who works for nobody.
    """

    __slots__ = (
        "charged_bytes",
        "client",
        "client_tab",
        "level_bytes",
        "opened",
        "outer",
        "tabs",
        "top_bytes",
    )

    def __init__(self, client: Line | None = None) -> None:
        # The first is never closed: a list that is emptied would give its storage back, and take
        # it again while somebody is charged.
        self.tabs = [Tab()]
        #: How many tabs were ever opened on it.
        self.opened = 0
        self.client = client
        self.client_tab = 0 if client is None else client.opened
        #: Its level while it is left; the one at which its client was charged last, and the highest
        #: since.
        self.level_bytes = self.charged_bytes = self.top_bytes = 0
        #: Which line was left for it.
        self.outer: Line | None = None

    def open(self, tab: Tab) -> None:
        """Put *tab*, whose levels are set, on top."""
        self.opened += 1
        tab.number = self.opened
        self.tabs.append(tab)

    def fold(self, peak_bytes: int) -> None:
        """Keep the peak of the stretch that ends here."""
        newest = self.tabs[-1]
        newest.top_bytes = max(newest.top_bytes, peak_bytes)
        self.top_bytes = max(self.top_bytes, peak_bytes)

    def remove(self, tab: Tab) -> None:
        """Take *tab* off, wherever it stands, and hand its top down."""
        tabs = self.tabs
        position = len(tabs) - 1
        while tabs[position] is not tab:  # Newer tabs that are still open: their tops are ours too.
            tab.top_bytes = max(tab.top_bytes, tabs[position].top_bytes)
            position -= 1
        del tabs[position]
        below = tabs[position - 1]
        below.top_bytes = max(below.top_bytes, tab.top_bytes)

    def settle(self, level_bytes: int, base: Line, thread: int) -> None:
        """Charge what was run up since this was last done to whom this line works for.

        And to other threads' calls, which cannot be told from it: it is better that they have too
        much than too little.

        Args:
            level_bytes: Where it stands.
            base: The line of all threads that are on no other.
            thread: The thread that is on this one.
        """
        net_bytes = level_bytes - self.charged_bytes
        rise_bytes = self.top_bytes - self.charged_bytes
        self.charged_bytes = self.top_bytes = level_bytes
        line, told = self, self is base
        while (client := line.client) is not None:
            others_of = thread if client is base else None
            told = told or client is base
            if client.charge(line.client_tab, net_bytes, rise_bytes, others_of):
                line = client
            else:  # Nothing is open there any more: whom it worked for itself still has us.
                line.client, line.client_tab = client.client, client.client_tab
        if not told:
            base.charge(0, net_bytes, rise_bytes, thread)

    def charge(
        self, last: int, net_bytes: int, rise_bytes: int, others_of: int | None = None
    ) -> bool:
        """Charge another line's stretch to the tabs that were opened up to *last*.

        Tops are levels of this line, which did not move: what they say so far is kept, and they
        begin anew.

        Args:
            last: The number of a tab.
            net_bytes: What was run up in it.
            rise_bytes: The highest that it stood above its beginning.
            others_of: Charge also all tabs that another thread than this one has opened.

        Returns:
            Whether there are tabs up to *last*.
        """
        level_bytes = top_bytes = self.level_bytes
        charged = False
        for tab in reversed(self.tabs[1:]):
            top_bytes = max(tab.top_bytes, top_bytes)
            tab.peak_bytes = max(tab.peak_bytes, top_bytes - tab.base_bytes)
            tab.top_bytes = level_bytes
            charged = charged or tab.number <= last
            if tab.number <= last or others_of not in {None, tab.thread}:
                tab.peak_bytes = max(tab.peak_bytes, level_bytes - tab.base_bytes + rise_bytes)
                tab.base_bytes -= net_bytes
        return charged
