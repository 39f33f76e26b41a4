#include "abi.h"

#include <cstdlib>
#include <cstring>
#include <memory>

#define HOST(name) extern "C" __attribute__((import_module("env"), import_name(#name))) abi::Status name

HOST(proxy_log)(uint32_t level, const char* message, size_t size);
HOST(proxy_get_buffer_bytes)(abi::Buffer, size_t start, size_t size, char** to, size_t* to_size);
HOST(proxy_set_buffer_bytes)(abi::Buffer, size_t start, size_t size, const char* bytes, size_t bytes_size);
HOST(proxy_get_header_map_value)(abi::Map, const char* name, size_t name_size, char** to, size_t* to_size);
HOST(proxy_add_header_map_value)(abi::Map, const char* name, size_t name_size, const char* value, size_t value_size);
HOST(proxy_remove_header_map_value)(abi::Map, const char* name, size_t name_size);
HOST(proxy_get_property)(const char* path, size_t path_size, char** to, size_t* to_size);
HOST(proxy_set_property)(const char* path, size_t path_size, const char* value, size_t value_size);
HOST(proxy_get_shared_data)(const char* key, size_t key_size, char** to, size_t* to_size, uint32_t* cas);
HOST(proxy_set_shared_data)(const char* key, size_t key_size, const char* value, size_t value_size, uint32_t cas);
HOST(proxy_define_metric)(uint32_t kind, const char* name, size_t name_size, uint32_t* to);
HOST(proxy_increment_metric)(uint32_t metric, int64_t by);
HOST(proxy_send_local_response)(uint32_t status, const char* details, size_t details_size, const char* body,
                                size_t body_size, const char* headers, size_t headers_size, int32_t grpc_status);
HOST(proxy_http_call)(const char* upstream, size_t upstream_size, const char* headers, size_t headers_size,
                      const char* body, size_t body_size, const char* trailers, size_t trailers_size,
                      uint32_t milliseconds, uint32_t* to);
HOST(proxy_set_effective_context)(uint32_t context);
HOST(proxy_continue_stream)(uint32_t stream);

extern "C" __attribute__((export_name("proxy_abi_version_0_2_1"))) void proxy_abi_version() {}

// The host writes there what it gives; who asked for it frees it.
extern "C" __attribute__((export_name("malloc"))) void* malloc(size_t);

namespace abi {
namespace {

void check(Status status) {
  if (status != Status::Ok) {
    std::abort();
  }
}

std::string taken(Status status, char* at, size_t size) {
  std::unique_ptr<char, decltype(&std::free)> owned(status == Status::Ok ? at : nullptr, &std::free);
  return owned ? std::string(at, size) : std::string();
}

// A map as the ABI has it: how many, the sizes, and the texts, each with a NUL.
std::string encoded(const Headers& headers) {
  std::string sizes, texts;
  const auto number = [&sizes](size_t value) {
    const auto word = static_cast<uint32_t>(value);
    sizes.append(reinterpret_cast<const char*>(&word), sizeof word);
  };
  number(headers.size());
  for (const auto& [name, value] : headers) {
    for (const auto text : {name, value}) {
      number(text.size());
      texts.append(text).push_back('\0');
    }
  }
  return sizes + texts;
}

}  // namespace

void log_info(std::string_view message) { check(proxy_log(2, message.data(), message.size())); }

std::string buffer_bytes(Buffer buffer, size_t start, size_t size) {
  char* at = nullptr;
  size_t found = 0;
  const auto status = proxy_get_buffer_bytes(buffer, start, size, &at, &found);
  return taken(status, at, found);
}

void set_buffer_bytes(Buffer buffer, size_t start, size_t size, std::string_view bytes) {
  check(proxy_set_buffer_bytes(buffer, start, size, bytes.data(), bytes.size()));
}

std::string header(Map map, std::string_view name) {
  char* at = nullptr;
  size_t size = 0;
  const auto status = proxy_get_header_map_value(map, name.data(), name.size(), &at, &size);
  return taken(status, at, size);
}

void add_header(Map map, std::string_view name, std::string_view value) {
  check(proxy_add_header_map_value(map, name.data(), name.size(), value.data(), value.size()));
}

void remove_header(Map map, std::string_view name) {
  check(proxy_remove_header_map_value(map, name.data(), name.size()));
}

std::string property(std::string_view path) {
  char* at = nullptr;
  size_t size = 0;
  const auto status = proxy_get_property(path.data(), path.size(), &at, &size);
  return taken(status, at, size);
}

void set_property(std::string_view path, std::string_view value) {
  check(proxy_set_property(path.data(), path.size(), value.data(), value.size()));
}

Shared shared_data(std::string_view key) {
  char* at = nullptr;
  size_t size = 0;
  Shared shared;
  const auto status = proxy_get_shared_data(key.data(), key.size(), &at, &size, &shared.cas);
  shared.value = taken(status, at, size);
  return shared;
}

bool set_shared_data(std::string_view key, std::string_view value, uint32_t cas) {
  const auto status = proxy_set_shared_data(key.data(), key.size(), value.data(), value.size(), cas);
  if (status != Status::CasMismatch) {
    check(status);
  }
  return status == Status::Ok;
}

uint32_t define_counter(std::string_view name) {
  uint32_t metric = 0;
  check(proxy_define_metric(0, name.data(), name.size(), &metric));
  return metric;
}

void increment_metric(uint32_t metric, int64_t by) { check(proxy_increment_metric(metric, by)); }

void send_local_response(uint32_t status, std::string_view body, const Headers& headers) {
  const auto list = encoded(headers);
  check(proxy_send_local_response(status, "", 0, body.data(), body.size(), list.data(), list.size(), -1));
}

std::optional<uint32_t> http_call(std::string_view upstream, const Headers& headers, uint32_t milliseconds) {
  const auto list = encoded(headers);
  uint32_t call = 0;
  const auto status = proxy_http_call(upstream.data(), upstream.size(), list.data(), list.size(), "", 0, "", 0,
                                      milliseconds, &call);
  return status == Status::Ok ? std::optional(call) : std::nullopt;
}

void set_effective_context(uint32_t context) { check(proxy_set_effective_context(context)); }

void continue_request() { check(proxy_continue_stream(0)); }

}  // namespace abi
