"""How Pagewire's own code is compiled: the one place for its warnings, and a clang-tidy test beside every target.

    load("//:defs.bzl", "pagewire_binary", "pagewire_library", "pagewire_test")

They take what cc_library, cc_binary and cc_test take. Besides:
  * who includes rte_* names @system//:dpdk in deps; that brings `-include rte_config.h`;
  * NAME.tidy runs clang-tidy on each of the target's own files (that of a test is tagged `slow`); tidy = False: none;
  * pagewire_test links gtest's main unless main = False.

Tags that tests use: `exclusive` for several processes or for times, `slow` for what ./run test --long alone runs,
no_asan, no_ubsan, no_tsan for what cannot run under one of them.
"""

load("@rules_cc//cc:defs.bzl", "cc_binary", "cc_library", "cc_test")
load("//test/style:clang_tidy.bzl", "clang_tidy_test")

PAGEWIRE_COPTS = [
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Werror",
]

_DPDK = "@system//:dpdk"

def _copts(deps, copts):
    # DPDK's headers want their configuration before anything else; a dependency cannot pass this flag on.
    return PAGEWIRE_COPTS + (["-include", "rte_config.h"] if _DPDK in deps else []) + copts

# Sources of tests: gtest's headers take clang-tidy some seconds a file, so that is for ./run test --long.
_SLOW = ["slow", "tidy_of_test"]

def _add_tidy(name, tidy, tags):
    if tidy:
        clang_tidy_test(
            name = name + ".tidy",
            size = "small",
            target = ":" + name,
            tags = ["style"] + tags,
        )

def pagewire_library(name, deps = [], copts = [], tidy = True, **kwargs):
    # Archives alone: a shared object beside each is never used, and //pagewire's would be libpagewire.so.
    kwargs.setdefault("linkstatic", True)
    cc_library(name = name, deps = deps, copts = _copts(deps, copts), **kwargs)
    _add_tidy(name, tidy, _SLOW if kwargs.get("testonly") else [])

def pagewire_binary(name, deps = [], copts = [], tidy = True, **kwargs):
    cc_binary(name = name, deps = deps, copts = _copts(deps, copts), **kwargs)
    _add_tidy(name, tidy, _SLOW if kwargs.get("testonly") else [])

def pagewire_test(name, deps = [], copts = [], main = True, tidy = True, **kwargs):
    """A GoogleTest program.

    Args:
      name: of the test.
      deps: gtest need not be among them.
      copts: after the common ones.
      main: False if the sources have a main of their own.
      tidy: False for no clang-tidy.
      **kwargs: as cc_test's.
    """
    cc_test(
        name = name,
        deps = deps + ["@system//:gtest_main" if main else "@system//:gtest"],
        copts = _copts(deps, copts),
        **kwargs
    )

    _add_tidy(name, tidy, _SLOW)
