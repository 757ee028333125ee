// What the sanitizers' runtimes are told where the environment says nothing else, so that a test's program
// behaves the same when it is run by hand. The runtimes call these before anything else runs.
//
// There are no suppressions: no data that two threads share is handed over inside code without
// instrumentation (mutex_mesh.h, visible_tbb.cc).

extern "C" {
// NOLINTBEGIN(readability-identifier-naming): the runtimes' names

const char* __asan_default_options() { return "detect_stack_use_after_return=1:strict_string_checks=1"; }

const char* __ubsan_default_options() { return "print_stacktrace=1:halt_on_error=1"; }

// SIGBUS is how a retired region answers, so it stays ours.
const char* __tsan_default_options() { return "halt_on_error=1:second_deadlock_stack=1:handle_sigbus=0"; }

// NOLINTEND(readability-identifier-naming)
}
