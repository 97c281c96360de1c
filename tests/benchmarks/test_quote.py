from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.quality.quote import MEASURED, main


def test_readme_quotes_the_tables_that_are_in_the_repository(tmp_path: Path) -> None:
    copy = tmp_path / "measured.md"
    shutil.copy(MEASURED, copy)
    main(copy)
    assert copy.read_text(encoding="utf-8") == MEASURED.read_text(encoding="utf-8")
