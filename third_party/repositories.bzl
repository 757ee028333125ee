"""The repositories that the WORKSPACE needs, from Debian's packages where they are, else from the network.

Bazel 4.2 from Debian has no rules_java, rules_proto, rules_cc and coverage tools inside; Debian ships the first three
as packages. Any other Bazel brings its own rules_java and rules_proto, and needs rules_cc alone. With Debian's folders
present, nothing here touches the network.
"""

load("//third_party:system.bzl", "system_libraries")

_LIST = "third_party/debian-packages.txt"

# Debian's rules_cc 0.0.4 wants a function that Bazel 4 has not; what it returns is this.
_PATCHED_FILES = [
    "cc/private/rules_impl/cc_flags_supplier.bzl",
    "cc/private/rules_impl/compiler_flag.bzl",
]

def _patch_for_bazel_4(ctx):
    for name in _PATCHED_FILES:
        text = ctx.read(name)
        text = text.replace(', "use_cpp_toolchain")', ")")
        text = text.replace("use_cpp_toolchain()", '["@bazel_tools//tools/cpp:toolchain_type"]')
        ctx.delete(name)
        ctx.file(name, text, executable = False)

def _debian_or_archive_impl(ctx):
    folder = ctx.path(ctx.attr.folder)
    if folder.exists:
        # A copy and not links: a patch must not reach into /usr.
        result = ctx.execute(["cp", "-R", "--no-preserve=ownership", str(folder) + "/.", "."])
        if result.return_code != 0:
            fail("cannot copy {}: {}".format(folder, result.stderr))
    else:
        # buildifier: disable=print
        print("{} is not here (Debian package {}, see {}): fetching {}".format(
            folder,
            ctx.attr.package,
            _LIST,
            ctx.attr.url,
        ))
        ctx.download_and_extract(ctx.attr.url, sha256 = ctx.attr.sha256, stripPrefix = ctx.attr.strip_prefix)
    if ctx.attr.patch_for_bazel_4:
        _patch_for_bazel_4(ctx)

_debian_or_archive = repository_rule(
    implementation = _debian_or_archive_impl,
    attrs = {
        "folder": attr.string(mandatory = True),
        "package": attr.string(mandatory = True),
        "url": attr.string(mandatory = True),
        "sha256": attr.string(),
        "strip_prefix": attr.string(),
        "patch_for_bazel_4": attr.bool(),
    },
)

def _coverage_stub_impl(ctx):
    ctx.file("BUILD", 'filegroup(name = "coverage_report_generator", visibility = ["//visibility:public"])\n')

# Bazel 4 resolves this label for every test, also when no coverage is asked for.
_coverage_stub = repository_rule(implementation = _coverage_stub_impl)

def _is_bazel_4():
    # Debian's build carries no version number; every other Bazel does.
    version = native.bazel_version
    return not version or not version[0].isdigit() or version.startswith("4.")

def pagewire_repositories():
    """Declares all of them; called once, by the WORKSPACE."""
    bazel_4 = _is_bazel_4()
    _debian_or_archive(
        name = "rules_cc",
        folder = "/usr/share/bazel/rules/cc",
        package = "bazel-rules-cc",
        url = "https://github.com/bazelbuild/rules_cc/releases/download/0.0.4/rules_cc-0.0.4.tar.gz",
        sha256 = "af6cc82d87db94585bceeda2561cb8a9d55ad435318ccb4ddfee18a43580fb5d",
        strip_prefix = "rules_cc-0.0.4",
        patch_for_bazel_4 = bazel_4,
    )
    if bazel_4:
        _debian_or_archive(
            name = "rules_java",
            folder = "/usr/share/bazel/rules/java",
            package = "bazel-rules-java",
            url = "https://github.com/bazelbuild/rules_java/releases/download/4.0.0/rules_java-4.0.0.tar.gz",
            sha256 = "34b41ec683e67253043ab1a3d1e8b7c61e4e8edefbcad485381328c934d072fe",
        )

        # No checksum: none of this archive could be confirmed from two places.
        _debian_or_archive(
            name = "rules_proto",
            folder = "/usr/share/bazel/rules/proto",
            package = "bazel-rules-proto",
            url = "https://github.com/bazelbuild/rules_proto/archive/refs/tags/4.0.0-3.20.0.tar.gz",
            strip_prefix = "rules_proto-4.0.0-3.20.0",
        )
        _coverage_stub(name = "remote_coverage_tools")

    system_libraries(name = "system", packages = "//third_party:debian-packages.txt")
