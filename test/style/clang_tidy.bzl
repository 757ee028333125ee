"""clang-tidy as a test. Each target is one action (tidy.sh), so what did not change is not looked at again.

A header must compile alone; what clang-tidy has to say of it is said with the files that include it. The actions always
succeed and write what was said; the test prints it and fails unless it is empty. test/style/planted shows that it can fail.
"""

_EXTENSIONS = ["h", "cc"]

_TEST = """#!/bin/bash
# Prints what clang-tidy said. Passes if it said nothing, or, where findings are expected, if each of them is there.
set -euo pipefail
report={report}
expected=({expected})
cat "$report"
if [[ ${{#expected[@]}} -eq 0 ]]; then
  [[ ! -s $report ]]
else
  for finding in "${{expected[@]}}"; do
    grep -qF -- "$finding" "$report" || {{ echo "not found: $finding"; exit 1; }}
  done
fi
"""

_Report = provider(fields = {"file": "what clang-tidy said"})

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
    report = ctx.actions.declare_file(target.label.name + ".tidy.txt")
    arguments = [report.path, ctx.file._config.path] + [source.path for source in sources]
    ctx.actions.run(
        outputs = [report],
        inputs = depset(sources + [ctx.file._config], transitive = [compilation.headers]),
        executable = ctx.executable._tidy,
        arguments = arguments + ["--"] + _flags(ctx, compilation),
        mnemonic = "ClangTidy",
        progress_message = "Tidying {}".format(target.label),
        use_default_shell_env = True,
    )
    return [_Report(file = report)]

_clang_tidy_aspect = aspect(
    implementation = _aspect_impl,
    attrs = {
        "_config": attr.label(default = "//:.clang-tidy", allow_single_file = True),
        "_tidy": attr.label(default = "//test/style:tidy.sh", allow_single_file = True, executable = True, cfg = "host"),
    },
    fragments = ["cpp"],
)

def _test_impl(ctx):
    report = ctx.attr.target[_Report].file
    script = ctx.actions.declare_file(ctx.label.name + ".sh")
    expected = " ".join(["'{}'".format(finding) for finding in ctx.attr.expected])
    ctx.actions.write(script, _TEST.format(report = "'{}'".format(report.short_path), expected = expected), is_executable = True)
    return [DefaultInfo(executable = script, runfiles = ctx.runfiles(files = [report]))]

clang_tidy_test = rule(
    implementation = _test_impl,
    attrs = {
        "target": attr.label(aspects = [_clang_tidy_aspect], mandatory = True),
        "expected": attr.string_list(doc = "what clang-tidy must find here; for the tests of this test"),
    },
    test = True,
)
