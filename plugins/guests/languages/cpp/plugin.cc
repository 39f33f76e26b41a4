// The plugin of tests.yaml in C++: contexts are objects, made by constructors that run before `main` would, as the SDK for it has
// them. The SDK itself is in no registry, so the few functions of the ABI that are wanted stand in abi.cc.

#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "abi.h"

#define CALLBACK(name) extern "C" __attribute__((export_name(#name)))

using abi::Action;
using abi::Buffer;
using abi::Map;

namespace {

class Root {
 public:
  explicit Root(std::string metric) : seen_(abi::define_counter(metric)) {}

  bool configure(size_t size) {
    by_ = abi::buffer_bytes(Buffer::PluginConfiguration, 0, size);
    return !by_.empty();
  }

  const std::string& by() const { return by_; }
  void count() const { abi::increment_metric(seen_, 1); }

  // Whether the call is made; `then` is called with the body of its answer.
  bool call(std::string_view path, std::function<void(std::string)> then) {
    const auto call = abi::http_call("auth:80", {{":method", "GET"}, {":path", path}, {":authority", "auth"}}, 1000);
    return call && calls_.emplace(*call, std::move(then)).second;
  }

  void answered(uint32_t call, size_t size) {
    if (auto found = calls_.extract(call)) {
      found.mapped()(abi::buffer_bytes(Buffer::CallResponseBody, 0, size));
    }
  }

 private:
  std::string by_;
  uint32_t seen_;
  std::unordered_map<uint32_t, std::function<void(std::string)>> calls_;
};

class Context {
 public:
  virtual ~Context() = default;
  virtual Action on_request_headers() { return Action::Continue; }
  virtual Action on_request_body(size_t, bool) { return Action::Continue; }
  virtual Action on_response_headers() { return Action::Continue; }
};

class Gate : public Context {
 public:
  Gate(uint32_t id, Root& root) : id_(id), root_(root) {}

  Action on_request_headers() override {
    const auto ask = abi::header(Map::RequestHeaders, "x-ask");
    if (ask == "refuse") {
      abi::send_local_response(403, "refused by " + root_.by(), {{"x-by", root_.by()}});
      return Action::Pause;
    }
    if (ask == "fail") {
      std::abort();
    }
    const auto seen = abi::header(Map::RequestHeaders, ":method") + " " + abi::header(Map::RequestHeaders, ":path");
    abi::log_info(root_.by() + ": " + seen);
    abi::add_header(Map::RequestHeaders, "x-by", root_.by());
    abi::add_header(Map::RequestHeaders, "x-seen", seen);
    abi::remove_header(Map::RequestHeaders, "x-first");
    abi::remove_header(Map::RequestHeaders, "content-length");
    abi::set_property("weir.match.by", root_.by());
    root_.count();
    if (ask != "call") {
      return Action::Continue;
    }
    const auto asked = root_.call("/check", [id = id_](std::string answer) {
      abi::set_effective_context(id);
      abi::add_header(Map::RequestHeaders, "x-answer", answer);
      abi::continue_request();
    });
    return asked ? Action::Pause : Action::Continue;
  }

  Action on_request_body(size_t size, bool end) override {
    if (!end) {
      return Action::Pause;
    }
    const auto body = abi::buffer_bytes(Buffer::RequestBody, 0, size);
    abi::set_buffer_bytes(Buffer::RequestBody, 0, size, root_.by() + ":" + body);
    return Action::Continue;
  }

  Action on_response_headers() override {
    uint64_t count;
    std::string value(sizeof count, '\0');
    abi::Shared shared;
    do {
      count = 0;
      shared = abi::shared_data("count");
      if (shared.value.size() == sizeof count) {
        std::memcpy(&count, shared.value.data(), sizeof count);
      }
      ++count;
      std::memcpy(value.data(), &count, sizeof count);
    } while (!abi::set_shared_data("count", value, shared.cas));
    abi::add_header(Map::ResponseHeaders, "x-count", std::to_string(count));
    abi::add_header(Map::ResponseHeaders, "x-path", abi::property(std::string_view("request\0url_path", 16)));
    return Action::Continue;
  }

 private:
  uint32_t id_;
  Root& root_;
};

using Factory = std::function<std::unique_ptr<Context>(uint32_t, Root&)>;

Factory& factory() {
  static Factory known;
  return known;
}

struct Register {
  explicit Register(Factory made) { factory() = std::move(made); }
};

const Register gate([](uint32_t id, Root& root) { return std::make_unique<Gate>(id, root); });

std::unique_ptr<Root> root;
std::unordered_map<uint32_t, std::unique_ptr<Context>> contexts;

}  // namespace

CALLBACK(proxy_on_vm_start) bool proxy_on_vm_start(uint32_t, uint32_t) { return true; }

CALLBACK(proxy_on_context_create) void proxy_on_context_create(uint32_t id, uint32_t parent) {
  if (parent == 0) {
    root = std::make_unique<Root>("seen");
  } else {
    contexts.emplace(id, factory()(id, *root));
  }
}

CALLBACK(proxy_on_configure) bool proxy_on_configure(uint32_t, size_t size) { return root->configure(size); }

CALLBACK(proxy_on_request_headers) Action proxy_on_request_headers(uint32_t id, uint32_t, uint32_t) {
  return contexts.at(id)->on_request_headers();
}

CALLBACK(proxy_on_request_body) Action proxy_on_request_body(uint32_t id, size_t size, uint32_t end) {
  return contexts.at(id)->on_request_body(size, end != 0);
}

CALLBACK(proxy_on_response_headers) Action proxy_on_response_headers(uint32_t id, uint32_t, uint32_t) {
  return contexts.at(id)->on_response_headers();
}

CALLBACK(proxy_on_http_call_response)
void proxy_on_http_call_response(uint32_t, uint32_t call, uint32_t, size_t size, uint32_t) {
  root->answered(call, size);
}

CALLBACK(proxy_on_done) bool proxy_on_done(uint32_t) { return true; }

CALLBACK(proxy_on_log) void proxy_on_log(uint32_t) {}

CALLBACK(proxy_on_delete) void proxy_on_delete(uint32_t id) { contexts.erase(id); }
