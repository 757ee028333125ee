// The process that records a history: one node of a cluster, with one or more client threads. Its main.
#pragma once

namespace pagewire::history {

// Joins, does its operations, writes a file for each client (history_file.h), prints `finished=1` and leaves.
// Returns the exit code.
int run_client(int argc, char** argv);

}  // namespace pagewire::history
