// Writes first inputs for a corpus that starts anew: seeds FOLDER makes FOLDER/frame_fuzz and
// FOLDER/receive_fuzz. The frames are written by the real encoder; the scripts are rows of docs/protocol.md.
// One thread.
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <string>
#include <vector>

#include "protocol/wire.h"
#include "test/fuzz/node_script.h"

namespace pagewire::test {
namespace {

using Step = NodeScript::Step;

class Folder {
 public:
  explicit Folder(const std::filesystem::path& path) : path_(path) {
    std::filesystem::create_directories(path);
  }
  void write(const std::vector<std::byte>& bytes) {
    std::ofstream file(path_ / ("seed" + std::to_string(count_++)), std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }

 private:
  std::filesystem::path path_;
  int count_ = 0;
};

// The first byte of frame_fuzz: three nodes, reading.
constexpr std::byte kThreeNodes{2};

void write_frame(Folder& folder, const protocol::Header& header, const auto& body,
                 std::size_t fragment_bytes) {
  std::vector<std::byte> input(1 + protocol::kHeaderBytes + protocol::kBodyBytesMax);
  input[0] = kThreeNodes;
  const std::span<std::byte> payload = std::span(input).subspan(1);
  const std::size_t body_bytes = encode_body(body, payload.subspan(protocol::kHeaderBytes));
  protocol::Header whole = header;
  whole.fragment_bytes = static_cast<std::uint16_t>(fragment_bytes);
  encode_header(whole, body_bytes, payload);
  input.resize(1 + protocol::kHeaderBytes + body_bytes);
  input.resize(input.size() + fragment_bytes, std::byte{0x77});
  folder.write(input);
}

void write_frames(Folder folder) {
  protocol::Header header;
  header.cluster = 7;
  header.view = 1;
  header.sender = protocol::NodeId{1};
  header.to = protocol::NodeSet(5);
  header.boot_id = 5'000'000;
  header.page = {.region = 1, .index = 2};
  for (std::uint8_t type = 1; type < protocol::kMessageTypes; ++type) {
    protocol::Message message;
    message.type = static_cast<protocol::MessageType>(type);
    message.from = header.sender;
    message.transaction.value = 9;
    message.version.value = 9;
    message.epoch.value = 2;
    message.copyset = protocol::NodeSet(3);
    message.granted.add(protocol::NodeId{2}, {.value = 4});
    header.type = type;
    write_frame(folder, header, message, 0);
    message.has_bytes = true;
    write_frame(folder, header, message, 64);
  }
  std::vector<std::byte> several(1 + protocol::kHeaderBytes + 8 + 2 * protocol::kRequestBytes);
  several[0] = kThreeNodes;
  const std::span<std::byte> payload = std::span(several).subspan(1);
  header.type = protocol::kTypeRequests;
  header.fragment_bytes = 2 * protocol::kRequestBytes;
  encode_header(header, 8, payload);
  protocol::encode_requests_body(2, payload.subspan(protocol::kHeaderBytes));
  for (std::uint32_t i = 0; i < 2; ++i) {
    protocol::Request request{.page = header.page.index + i};
    request.message.type =
        i == 0 ? protocol::MessageType::kCopyRequest : protocol::MessageType::kWriteRequest;
    request.message.transaction.value = 9 + i;
    protocol::encode_request(request,
                             payload.subspan(protocol::kHeaderBytes + 8 + i * protocol::kRequestBytes));
  }
  folder.write(several);
  header.fragment_bytes = 0;
  header.type = protocol::kTypeBeat;
  write_frame(folder, header, protocol::Beat{.sequence = 3, .heard = protocol::NodeSet(7), .loop_count = 1},
              0);
  header.type = protocol::kTypeRegion;
  protocol::RegionDeclaration region;
  region.set_name("grid");
  region.bytes = 4096;
  write_frame(folder, header, region, 0);
}

// A script: how it starts, then its steps with their choices.
struct Said {
  Step step;
  std::vector<int> choices;
};

void write_script(Folder& folder, int start, const std::vector<Said>& steps) {
  std::vector<std::byte> input{static_cast<std::byte>(start)};
  for (const Said& said : steps) {
    input.push_back(static_cast<std::byte>(said.step));
    for (const int choice : said.choices) input.push_back(static_cast<std::byte>(choice));
  }
  folder.write(input);
}

void write_scripts(Folder folder) {
  constexpr int kSame = 16;         // number(): what the node knows
  constexpr int kLater = 20;        // ... and a little more
  constexpr int kWriteRequest = 2;  // message(): the flags of a type
  constexpr int kInvalidate = 5;
  const Said write_fault{Step::kFault, {0, 1}};
  const Said read_fault{Step::kFault, {0, 0}};
  const Said time{Step::kTime, {28}};
  for (const int start : {0, 2, 4, 16, 22}) {
    write_script(folder, start, {read_fault, {Step::kAnswer, {0, 0, 8 + 4 + 2, 1}}, time});
    write_script(folder, start,
                 {write_fault,
                  {Step::kAnswer, {0, 0, 4 + 2, 1, 12}},
                  time,
                  {Step::kAnswer, {1, 0, 0}},
                  {Step::kAnswer, {2, 0, 0}}});
    write_script(folder, start,
                 {{Step::kFault, {1, 1}},
                  {Step::kMessage, {0, 1, kWriteRequest, kLater, kSame, kLater, kSame}},
                  time,
                  {Step::kAnswer, {0, 1, 0}}});
    write_script(folder, start,
                 {read_fault,
                  {Step::kAnswer, {0, 0, 8 + 4 + 2, 1}},
                  {Step::kMessage, {1, 0, kInvalidate, 0, kLater, 0, 0}},
                  write_fault});
    write_script(folder, start,
                 {{Step::kBeat, {8, 0, 70, 70, 0, 15}},
                  {Step::kBeat, {8, 1, 70, 70, 0, 15}},
                  {Step::kBeat, {8, 2, 70, 70, 0, 15}},
                  {Step::kDeclaration, {0, 0, 5, 64, 1}},
                  {Step::kService, {2, 1, 5}},
                  {Step::kAgain, {0}},
                  time});
  }
}

}  // namespace
}  // namespace pagewire::test

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "seeds: a folder is missing: %s FOLDER\n", argv[0]);
    return 2;
  }
  const std::filesystem::path folder = argv[1];
  pagewire::test::write_frames(pagewire::test::Folder(folder / "frame_fuzz"));
  pagewire::test::write_scripts(pagewire::test::Folder(folder / "receive_fuzz"));
  return 0;
}
