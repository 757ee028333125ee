"""Flags of targets whose own copy of the sources runs under a sanitizer within the ordinary ./run test.

Such libraries are tagged `manual`, so that no other --config meets them, and such tests carry no_asan, no_ubsan and,
where --config=tsan has the same already, no_tsan.
"""

_COMMON = [
    "-O1",
    "-U_FORTIFY_SOURCE",
    # g++ 12 sees uninitialised values in code that a sanitizer made.
    "-Wno-maybe-uninitialized",
]

_ADDRESS = [
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
]

_THREAD = ["-fsanitize=thread"]

ADDRESS_COPTS = _COMMON + _ADDRESS

ADDRESS_LINKOPTS = _ADDRESS

# About stand-alone fences, which TSan does not model: see .bazelrc.
THREAD_COPTS = _COMMON + _THREAD + ["-Wno-tsan"]

THREAD_LINKOPTS = _THREAD
