"""clang-tidy as a test. Each file of a target is one action, so what did not change is not looked at again.

A header is compiled by itself, so it must compile alone; what clang-tidy has to say of it is said with the files that
include it. The actions always succeed and write what was said; the test prints it and fails unless all of it is empty.
test/style/planted shows that it can fail.
"""

_EXTENSIONS = ["h", "cc"]

# $1 report, $2 configuration, $3 file; then the compiler's flags.
_RUN = """
report=$1; config=$2; file=$3; shift 3
if [[ $file == *.h ]]; then
  check() { g++ -w -fsyntax-only "$@" "$file"; }
else
  check() { clang-tidy --quiet --config-file="$config" "$file" -- "$@"; }
fi
if output=$(check "$@" 2>&1); then
  : > "$report"
else
  { echo "$output"; echo "style check failed on $file"; } | sed "s|$PWD/||g" > "$report"
fi
"""

_TEST = """#!/bin/bash
# Prints what clang-tidy said. Passes if it said nothing, or, where findings are expected, if each of them is there.
set -euo pipefail
reports=({reports})
expected=({expected})
cat "${{reports[@]}}"
if [[ ${{#expected[@]}} -eq 0 ]]; then
  ! cat "${{reports[@]}}" | grep -q .
else
  for finding in "${{expected[@]}}"; do
    cat "${{reports[@]}}" | grep -qF -- "$finding" || {{ echo "not found: $finding"; exit 1; }}
  done
fi
"""

_Reports = provider(fields = {"files": "what clang-tidy said, one file per source file"})

def _flags(ctx, compilation):
    # Without -Werror: .clang-tidy says which of clang's warnings count.
    flags = ["-x", "c++", "-Wno-unknown-warning-option"] + ctx.fragments.cpp.copts + ctx.fragments.cpp.cxxopts
    flags += [flag for flag in ctx.rule.attr.copts if flag != "-Werror"]
    flags += ["-D" + define for define in compilation.defines.to_list() + compilation.local_defines.to_list()]
    for option, folders in [
        ("-iquote", compilation.quote_includes),
        ("-I", compilation.includes),
        ("-isystem", compilation.system_includes),
    ]:
        for folder in folders.to_list():
            flags += [option, folder]
    return flags

def _aspect_impl(target, ctx):
    # A binary hands no CcInfo on: its flags are those of its dependencies.
    infos = [target[CcInfo]] if CcInfo in target else []
    infos += [dep[CcInfo] for dep in ctx.rule.attr.deps if CcInfo in dep]
    compilation = cc_common.merge_cc_infos(cc_infos = infos).compilation_context
    sources = []
    for attribute in ["srcs", "hdrs"]:
        for source in getattr(ctx.rule.attr, attribute, []):
            sources += [file for file in source.files.to_list() if file.extension in _EXTENSIONS]
    reports = []
    for source in sources:
        report = ctx.actions.declare_file("{}.tidy.d/{}.txt".format(target.label.name, source.basename))
        reports.append(report)
        ctx.actions.run_shell(
            outputs = [report],
            inputs = depset(sources + [ctx.file._config], transitive = [compilation.headers]),
            command = _RUN,
            arguments = [report.path, ctx.file._config.path, source.path] + _flags(ctx, compilation),
            mnemonic = "ClangTidy",
            progress_message = "Tidying {}".format(source.short_path),
            use_default_shell_env = True,
        )
    return [_Reports(files = reports)]

_clang_tidy_aspect = aspect(
    implementation = _aspect_impl,
    attrs = {"_config": attr.label(default = "//:.clang-tidy", allow_single_file = True)},
    fragments = ["cpp"],
)

def _test_impl(ctx):
    reports = ctx.attr.target[_Reports].files
    script = ctx.actions.declare_file(ctx.label.name + ".sh")
    paths = " ".join(["'{}'".format(report.short_path) for report in reports]) or "/dev/null"
    expected = " ".join(["'{}'".format(finding) for finding in ctx.attr.expected])
    ctx.actions.write(script, _TEST.format(reports = paths, expected = expected), is_executable = True)
    return [DefaultInfo(executable = script, runfiles = ctx.runfiles(files = reports))]

clang_tidy_test = rule(
    implementation = _test_impl,
    attrs = {
        "target": attr.label(aspects = [_clang_tidy_aspect], mandatory = True),
        "expected": attr.string_list(doc = "what clang-tidy must find here; for the tests of this test"),
    },
    test = True,
)
