"""The measuring script, on functions counted by hand."""

from __future__ import annotations

from pathlib import Path

import measure_house as house

TEXT = '''class Oven:
    def bake(self, loaves, *, heat=200, **rest):
        """Eleven lines and seven branches, those of ``turn`` included."""
        for loaf in loaves:                                    # 1
            if loaf and heat > 100 and rest:                   # 2, and one chain of and: 3
                self.hot = [x for x in loaf if x]              # 4
            elif not loaf or heat:                             # 5, 6

                def turn(times):
                    return 1 if times else 2                   # 7

                turn(3)


async def wait(a, b, /, *more):
    try:
        while True:                                            # 1
            await a
    except ValueError:                                         # 2
        return lambda: b
'''


def test_a_function_is_counted_as_documented(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "oven.py").write_text(TEXT, encoding="utf-8")
    found = {one.name: one for one in house.measure(tmp_path)}
    assert found.keys() == {"Oven.bake", "Oven.bake.turn", "wait"}
    assert found["Oven.bake"] == house.Measured("inner/oven.py", "Oven.bake", 11, 7, 3)
    assert found["Oven.bake.turn"].branches == 1
    assert (found["wait"].lines, found["wait"].branches, found["wait"].parameters) == (6, 2, 3)


def test_the_report_names_figures_and_the_largest(tmp_path: Path) -> None:
    (tmp_path / "oven.py").write_text(TEXT, encoding="utf-8")
    text = house.report(tmp_path, most=1)
    assert "median 6, largest 11" in text
    assert "    7  oven.py:Oven.bake" in text.splitlines()
    assert "holds no Python functions" in house.report(tmp_path / "empty")
