"""The instruction sets are read as Linux lists them."""

from __future__ import annotations

from deploykit.runtime import instructions


def test_flags_of_x86_and_features_of_arm_are_read(tmp_path):
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nflags\t\t: fpu sse avx2 avx512f avx512_vnni nothing\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    assert instructions._known(file) == ("avx2", "avx512f", "avx512_vnni")
    file.write_text("Features\t: fp asimd asimddp i8mm\n")
    assert instructions._known(file) == ("asimddp", "i8mm")


def test_a_system_that_does_not_tell_has_none(tmp_path):
    assert instructions._known(tmp_path / "nothing") == ()
