"""@system: libraries of the machine, found by pkg-config.

third_party/debian-packages.txt says which: each `target=module` in its second column becomes `@system//:target`. A
module that pkg-config does not know is an error that names its Debian package. `target=-lNAME` is for a library that
has nothing for pkg-config: the compiler finds its headers and that library by itself.

A target carries flags and no files: include folders outside the compiler's own go in as -isystem, by their absolute
path, so that warnings in their headers do not count; the sandbox shows /usr, so they are found there. One generated
header per library holds the module's version and is an input of all that depends on it: an upgraded package is a
rebuild. DPDK's `-include rte_config.h` cannot travel this way; //:defs.bzl adds it for those that name @system//:dpdk.
"""

_BUILD = """# Generated from {list}.
load(":system_library.bzl", "system_library")

package(default_visibility = ["//visibility:public"])
{targets}"""

_TARGET = """
system_library(
    name = "{name}",
    version = "{name}.version.h",
    defines = {defines},
    include_folders = {include_folders},
    link_flags = {link_flags},
)
"""

_RULE = '''"""One library of the machine: flags for those that depend on it."""

def _system_library_impl(ctx):
    compilation = cc_common.create_compilation_context(
        headers = depset([ctx.file.version]),
        system_includes = depset(ctx.attr.include_folders),
        defines = depset(ctx.attr.defines),
    )
    linker_input = cc_common.create_linker_input(
        owner = ctx.label,
        user_link_flags = depset(ctx.attr.link_flags),
    )
    linking = cc_common.create_linking_context(linker_inputs = depset([linker_input]))
    return [CcInfo(compilation_context = compilation, linking_context = linking)]

system_library = rule(
    implementation = _system_library_impl,
    attrs = {
        "version": attr.label(allow_single_file = True, mandatory = True),
        "include_folders": attr.string_list(),
        "defines": attr.string_list(),
        "link_flags": attr.string_list(),
    },
)
'''

def _parse_packages(text):
    """Gives (package, target, module) for each library of the list."""
    libraries = []
    for line in text.split("\n"):
        words = [word for word in line.split(" ") if word]
        if len(words) < 2 or words[0].startswith("#") or "=" not in words[1]:
            continue
        for pair in words[1].split(","):
            target, _, module = pair.partition("=")
            libraries.append((words[0], target, module))
    return libraries

def _query(ctx, pkg_config, module, flag):
    result = ctx.execute([pkg_config, flag, module])
    if result.return_code != 0:
        fail("pkg-config {} {}: {}".format(flag, module, result.stderr))
    return [word for word in result.stdout.replace("\n", " ").split(" ") if word]

def _clean(folder):
    """Resolves `..` in an absolute path, which a compiler would print as it is and Bazel would refuse."""
    parts = []
    for part in folder.split("/"):
        if part == "..":
            parts.pop()
        elif part and part != ".":
            parts.append(part)
    return "/" + "/".join(parts)

def _link_flags(ctx, pkg_config, module):
    # Only what is used is linked, and the state ends with the library: libdpdk's own --as-needed would leak.
    flags = [flag for flag in _query(ctx, pkg_config, module, "--libs") if flag != "-Wl,--as-needed"]
    return ["-Wl,--push-state,--as-needed"] + flags + ["-Wl,--pop-state"] if flags else []

def _library(ctx, pkg_config, target, module):
    if module.startswith("-l"):
        ctx.file(target + ".version.h", "// {}\n".format(module), executable = False)
        flags = ["-Wl,--push-state,--as-needed", module, "-Wl,--pop-state"]
        return _TARGET.format(name = target, defines = "[]", include_folders = "[]", link_flags = repr(flags))
    folders = []
    defines = []
    for flag in _query(ctx, pkg_config, module, "--cflags"):
        if flag.startswith("-I"):
            folder = _clean(flag[len("-I"):])
            if not folder.startswith("/usr/"):
                fail("{} has its headers in {}; only headers below /usr can be used".format(module, folder))
            folders.append(folder)
        elif flag.startswith("-D"):
            defines.append(flag[len("-D"):])
        # -march and -include are set for the whole build: .bazelrc and //:defs.bzl.

    version = "".join(_query(ctx, pkg_config, module, "--modversion"))
    ctx.file(target + ".version.h", "// {} {}\n".format(module, version), executable = False)
    return _TARGET.format(
        name = target,
        defines = repr(defines),
        include_folders = repr(folders),
        link_flags = repr(_link_flags(ctx, pkg_config, module)),
    )

def _system_libraries_impl(ctx):
    libraries = _parse_packages(ctx.read(ctx.attr.packages))
    pkg_config = ctx.which("pkg-config")
    if not pkg_config:
        fail("pkg-config is not here: install Debian's pkgconf (apt-get install pkgconf)")
    missing = []
    for package, _, module in libraries:
        if not module.startswith("-l") and ctx.execute([pkg_config, "--exists", module]).return_code != 0:
            missing.append((package, module))
    if missing:
        fail("pkg-config does not know {}: install Debian's {} (apt-get install {}), or set PKG_CONFIG_PATH".format(
            ", ".join([module for _, module in missing]),
            ", ".join({package: None for package, _ in missing}.keys()),
            " ".join({package: None for package, _ in missing}.keys()),
        ))
    targets = [_library(ctx, pkg_config, target, module) for _, target, module in libraries]
    ctx.file("system_library.bzl", _RULE, executable = False)
    ctx.file("BUILD", _BUILD.format(list = ctx.attr.packages, targets = "".join(targets)), executable = False)

# `local`: asked again whenever a Bazel server starts, so that an upgraded package is seen.
system_libraries = repository_rule(
    implementation = _system_libraries_impl,
    attrs = {"packages": attr.label(allow_single_file = True, mandatory = True)},
    environ = ["PKG_CONFIG_PATH", "PKG_CONFIG_LIBDIR"],
    local = True,
    configure = True,
)
