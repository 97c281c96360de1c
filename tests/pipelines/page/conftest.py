from tests.browser import browser, keep_screenshot

__all__ = ["browser", "keep_screenshot"]
