// What is wanted of proxy-wasm 0.2.1.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace abi {

enum class Status : uint32_t { Ok = 0, NotFound = 1, CasMismatch = 8 };
enum class Action : uint32_t { Continue = 0, Pause = 1 };
enum class Map : uint32_t { RequestHeaders = 0, ResponseHeaders = 2 };
enum class Buffer : uint32_t { RequestBody = 0, CallResponseBody = 4, PluginConfiguration = 7 };

using Headers = std::vector<std::pair<std::string_view, std::string_view>>;

struct Shared {
  std::string value;
  uint32_t cas = 0;
};

void log_info(std::string_view message);
std::string buffer_bytes(Buffer buffer, size_t start, size_t size);
void set_buffer_bytes(Buffer buffer, size_t start, size_t size, std::string_view bytes);
std::string header(Map map, std::string_view name);
void add_header(Map map, std::string_view name, std::string_view value);
void remove_header(Map map, std::string_view name);
std::string property(std::string_view path);
void set_property(std::string_view path, std::string_view value);
Shared shared_data(std::string_view key);
// Whether it is as it was when `cas` was read.
bool set_shared_data(std::string_view key, std::string_view value, uint32_t cas);
uint32_t define_counter(std::string_view name);
void increment_metric(uint32_t metric, int64_t by);
void send_local_response(uint32_t status, std::string_view body, const Headers& headers);
std::optional<uint32_t> http_call(std::string_view upstream, const Headers& headers, uint32_t milliseconds);
void set_effective_context(uint32_t context);
void continue_request();

}  // namespace abi
