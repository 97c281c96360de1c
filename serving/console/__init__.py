"""The console: pages to see feeds, articles, figures, experiments and versions of the model, and to change them.

The pages hold nothing: what they show, their script asks of the gateway's API, with the key of whoever looks. It is in
this package as a whole, and no page loads anything from another address.
"""

from serving.console.pages import HEADERS, Content, contents

__all__ = ["HEADERS", "Content", "contents"]
